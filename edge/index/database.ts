import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import { BUSY_TIMEOUT_MS, CACHE_KIB, QUICK_CHECK_BYTES } from './constants.ts';
import { migrate, TABLES } from './schema.ts';
import { isCorruption } from './sqlite-errors.ts';

export const IN_MEMORY = ':memory:';

/**
 * Opens the database at `path`, or makes it. One that is damaged is moved aside, whole, to `<path>.corrupt`, over the one
 * that was moved there before, and a new one is made: a node must come up without anybody's help.
 */
export function openDatabase(path: string, log: Logger): Database.Database {
  if (path !== IN_MEMORY) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    return tryOpen(path);
  } catch (error) {
    if (path === IN_MEMORY || !isCorruption(error)) throw error;
    const aside = moveAside(path);
    log.error(
      { path, aside, why: describeError(error) },
      'the index is damaged: it was moved aside and a new, empty one is made',
    );
    return tryOpen(path);
  }
}

/** Grants and what was pulled are the agent's alone. SQLite gives its other files the rights of the first. */
function keepPrivate(path: string): void {
  for (const file of [path, `${path}-wal`, `${path}-shm`]) if (existsSync(file)) chmodSync(file, 0o600);
  closeSync(openSync(path, 'a', 0o600));
}

/** Notes that a database is damaged, for whoever opens it next. */
export function condemn(path: string): void {
  closeSync(openSync(noteOf(path), 'a', 0o600));
}

function noteOf(path: string): string {
  return `${path}.damaged`;
}

function tryOpen(path: string): Database.Database {
  if (path !== IN_MEMORY) {
    if (existsSync(noteOf(path)))
      throw new Database.SqliteError('a statement has found it damaged', 'SQLITE_CORRUPT');
    keepPrivate(path);
  }
  const database = new Database(path, { timeout: BUSY_TIMEOUT_MS });
  try {
    database.pragma('journal_mode = WAL');
    setSynchronous(database, 'NORMAL');
    database.pragma('temp_store = MEMORY');
    database.pragma(`cache_size = -${CACHE_KIB}`);
    migrate(database);
    // Counting without an index walks every page of a table's tree: damage shows now, while there is a way out.
    for (const table of TABLES) database.prepare(`SELECT count(*) FROM ${table} NOT INDEXED`).get();
    quickCheck(database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Looks at the trees of indexes too, where there is so little that nobody has to wait for it. */
function quickCheck(database: Database.Database): void {
  const [pages, size] = ['page_count', 'page_size'].map((name) =>
    Number(database.pragma(name, { simple: true })),
  );
  if ((pages ?? 0) * (size ?? 0) > QUICK_CHECK_BYTES) return;
  const found = String(database.pragma('quick_check(1)', { simple: true }));
  if (found !== 'ok') throw new Database.SqliteError(found, 'SQLITE_CORRUPT');
}

/** FULL: a commit is on the disk when it returns. NORMAL: a power cut may take back the last commits, in order. */
export function setSynchronous(database: Database.Database, level: 'NORMAL' | 'FULL'): void {
  database.pragma(`synchronous = ${level}`);
}

/** One is kept, for whoever wants to find out why; several would fill the disk. */
function moveAside(path: string): string {
  const aside = `${path}.corrupt`;
  const directory = dirname(path);
  for (const name of readdirSync(directory)) {
    if (name.startsWith(`${basename(path)}.corrupt`)) rmSync(join(directory, name), { force: true });
  }
  // The log first: beside a new database it would be taken for its own.
  for (const suffix of ['-wal', '-shm', '']) {
    if (existsSync(`${path}${suffix}`)) renameSync(`${path}${suffix}`, `${aside}${suffix}`);
  }
  rmSync(noteOf(path), { force: true });
  return aside;
}
