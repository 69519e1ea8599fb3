import { closeSync, existsSync, openSync, renameSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import { migrate } from './schema.ts';

/**
 * What a copy gives back, and of which rows: what registries said, and what the hub did. Blobs are found by their files, which
 * cannot be out of date; events may have been told since.
 */
const RESTORED: readonly (readonly [table: string, rows: string, columns?: string])[] = [
  ['manifests', 'true'],
  ['sizes', 'true'],
  ['tags', 'true'],
  ['documents', "name NOT LIKE 'store/%'"],
  ['repositories', 'true'],
  ['content_scope', 'true'],
  // A blob that was whole then has come from its registry in every byte; what was on its way is not here now.
  [
    'provenance',
    'proven = 1 OR EXISTS (SELECT 1 FROM copy.blobs WHERE key = digest AND whole = 1)',
    'digest, registry, 1',
  ],
  ['grants', 'true'],
  ['custody', 'true'],
];

/** Where the copy of the database at `path` lies. */
export function copyOf(path: string): string {
  return `${path.replace(/\.db$/, '')}-copy.db`;
}

/** Copies the database while it is in use; the copy before it stays until the new one is whole, and on the disk. */
export async function copyDatabase(database: Database.Database, path: string): Promise<void> {
  const copy = copyOf(path);
  const next = `${copy}.next`;
  rmSync(next, { force: true });
  // It is as private as the index.
  closeSync(openSync(next, 'wx', 0o600));
  await database.backup(next);
  for (const file of [next, dirname(path)]) {
    const handle = await open(file, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (file === next) renameSync(next, copy);
  }
}

/** Takes into a new database what a copy of the lost one has; how many rows there were. Without a copy, or with a damaged one, 0. */
export function restoreCopy(database: Database.Database, path: string, log: Logger): number {
  const copy = copyOf(path);
  if (!existsSync(copy)) return 0;
  try {
    const old = new Database(copy);
    try {
      migrate(old);
    } finally {
      old.close();
    }
    database.prepare('ATTACH DATABASE ? AS copy').run(copy);
  } catch (error) {
    log.warn({ copy, why: describeError(error) }, 'the copy of the index cannot be used');
    return 0;
  }
  try {
    return RESTORED.reduce(
      (sum, [table, rows, columns]) => sum + restoreTable(database, { table, rows, columns }, log),
      0,
    );
  } finally {
    database.exec('DETACH DATABASE copy');
  }
}

/** Each by itself: of a damaged copy some may be right. */
function restoreTable(
  database: Database.Database,
  { table, rows, columns = '*' }: { table: string; rows: string; columns: string | undefined },
  log: Logger,
): number {
  try {
    return database
      .prepare(`INSERT OR IGNORE INTO main.${table} SELECT ${columns} FROM copy.${table} WHERE ${rows}`)
      .run().changes;
  } catch (error) {
    log.warn({ table, why: describeError(error) }, 'a table of the copy of the index cannot be read');
    return 0;
  }
}
