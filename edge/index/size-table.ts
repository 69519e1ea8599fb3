import type Database from 'better-sqlite3';
import type { Digest } from '../../shared/ids.ts';
import { type Run, run } from './sqlite-errors.ts';
import type { SizeTable } from './types.ts';

export class SqliteSizeTable implements SizeTable {
  readonly #run: Run;
  readonly #get: Database.Statement<[Digest], { size: number }>;
  readonly #putAll: (sizes: Iterable<readonly [Digest, number]>) => void;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#get = database.prepare('SELECT size FROM sizes WHERE digest = ?');
    const put = database.prepare<[Digest, number]>(
      `INSERT INTO sizes (digest, size) VALUES (?, ?)
       ON CONFLICT (digest) DO UPDATE SET size = excluded.size WHERE size <> excluded.size`,
    );
    this.#putAll = database.transaction((sizes: Iterable<readonly [Digest, number]>) => {
      for (const [digest, size] of sizes) put.run(digest, size);
    });
  }

  get(digest: Digest): number | undefined {
    return this.#run('read a size', () => this.#get.get(digest))?.size;
  }

  /** All or none. @throws TidepoolError STORE_FULL */
  put(sizes: Iterable<readonly [Digest, number]>): void {
    this.#run('keep sizes', () => this.#putAll(sizes));
  }
}
