import type Database from 'better-sqlite3';
import { type Digest, parseDigest } from '../../shared/ids.ts';
import { TAG_RECORDS } from './constants.ts';
import { type Run, run } from './sqlite-errors.ts';
import type { TagRecord, TagTable } from './types.ts';

type TagName = [registry: string, repository: string, tag: string];

/**
 * The last two digests of each tag. A digest that is confirmed later moves up and takes no second place: else the one
 * before it, which a pool may still hold when the newest was never fetched, would be pushed out.
 */
export class SqliteTagTable implements TagTable {
  readonly #run: Run;
  readonly #list: Database.Statement<TagName, { digest: string; origin_at: number }>;
  readonly #put: (record: TagRecord) => void;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    // The origin's clock counts seconds: of two records of one second the one put later is the newer.
    const newest = 'WHERE registry = ? AND repository = ? AND tag = ? ORDER BY origin_at DESC, id DESC';
    this.#list = database.prepare(`SELECT digest, origin_at FROM tags ${newest} LIMIT ${TAG_RECORDS}`);
    const before = database.prepare<[...TagName, Digest], { id: number; origin_at: number }>(
      'SELECT id, origin_at FROM tags WHERE registry = ? AND repository = ? AND tag = ? AND digest = ?',
    );
    const remove = database.prepare<[number]>('DELETE FROM tags WHERE id = ?');
    const insert = database.prepare<[...TagName, Digest, number]>(
      'INSERT INTO tags (registry, repository, tag, digest, origin_at) VALUES (?, ?, ?, ?, ?)',
    );
    const surplus = database.prepare<TagName>(
      `DELETE FROM tags WHERE id IN (SELECT id FROM tags ${newest} LIMIT -1 OFFSET ${TAG_RECORDS})`,
    );
    this.#put = database.transaction(({ registry, repository, tag, digest, originAt }: TagRecord) => {
      const known = before.get(registry, repository, tag, digest);
      if (known !== undefined && known.origin_at > originAt) return;
      if (known !== undefined) remove.run(known.id);
      insert.run(registry, repository, tag, digest, Math.round(originAt));
      surplus.run(registry, repository, tag);
    });
  }

  list(registry: string, repository: string, tag: string): readonly TagRecord[] {
    return this.#run('read a tag', () => {
      const records: TagRecord[] = [];
      for (const row of this.#list.iterate(registry, repository, tag)) {
        records.push({ registry, repository, tag, digest: parseDigest(row.digest), originAt: row.origin_at });
      }
      return records;
    });
  }

  /** @throws TidepoolError STORE_FULL */
  put(record: TagRecord): void {
    this.#run('keep a tag', () => this.#put(record));
  }
}
