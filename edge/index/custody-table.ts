import type Database from 'better-sqlite3';
import type { BlobKey } from '../../shared/ids.ts';
import { setSynchronous } from './database.ts';
import { type Run, run } from './sqlite-errors.ts';

/** Blobs that neighbours were promised: they have deleted their copies on the strength of it. */
export class CustodyTable {
  readonly #run: Run;
  readonly #database: Database.Database;
  readonly #has: Database.Statement<[BlobKey], { key: string }>;
  readonly #addAll: (keys: readonly BlobKey[]) => void;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#database = database;
    this.#has = database.prepare('SELECT key FROM custody WHERE key = ?');
    const add = database.prepare<[BlobKey]>('INSERT OR IGNORE INTO custody (key) VALUES (?)');
    this.#addAll = database.transaction((keys: readonly BlobKey[]) => {
      for (const key of keys) add.run(key);
    });
  }

  has(key: BlobKey): boolean {
    return this.#run('look for a promise', () => this.#has.get(key)) !== undefined;
  }

  /** On the disk when it returns, and with it everything that was marked before. @throws TidepoolError STORE_FULL */
  add(keys: readonly BlobKey[]): void {
    if (keys.length === 0) return;
    this.#run('promise blobs', () => {
      setSynchronous(this.#database, 'FULL');
      try {
        this.#addAll(keys);
      } finally {
        setSynchronous(this.#database, 'NORMAL');
      }
    });
  }
}
