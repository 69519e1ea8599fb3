import type Database from 'better-sqlite3';
import { type BlobKey, parseBlobKey } from '../../shared/ids.ts';
import { type Run, run } from './sqlite-errors.ts';

/** A blob that lies in another program's file, whose bytes were checked. */
export interface BorrowedRow {
  readonly key: BlobKey;
  readonly size: number;
  /** Tells the file that was checked from one that has taken its name since. */
  readonly validator: string;
  /** 32 bytes of sha256 a piece, in order. */
  readonly hashes: Uint8Array;
}

/** What was found in files that are not ours, so that none has to be read through again after a restart. */
export class BorrowedTable {
  readonly #run: Run;
  readonly #find: Database.Statement<[BlobKey], { size: number; validator: string; hashes: Buffer }>;
  readonly #keys: Database.Statement<[], { key: string; size: number; validator: string }>;
  readonly #put: Database.Statement<[BlobKey, number, string, Uint8Array]>;
  readonly #remove: Database.Statement<[BlobKey]>;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#find = database.prepare('SELECT size, validator, hashes FROM borrowed WHERE key = ?');
    this.#keys = database.prepare('SELECT key, size, validator FROM borrowed');
    this.#put = database.prepare(
      `INSERT INTO borrowed (key, size, validator, hashes) VALUES (?, ?, ?, ?)
       ON CONFLICT (key) DO UPDATE SET size = excluded.size, validator = excluded.validator, hashes = excluded.hashes`,
    );
    this.#remove = database.prepare('DELETE FROM borrowed WHERE key = ?');
  }

  find(key: BlobKey): BorrowedRow | undefined {
    const row = this.#run('find a borrowed blob', () => this.#find.get(key));
    return row === undefined ? undefined : { key, ...row };
  }

  /** All of them, without their hashes. */
  list(): readonly Omit<BorrowedRow, 'hashes'>[] {
    const rows = this.#run('list borrowed blobs', () => this.#keys.all());
    return rows.map(({ key, size, validator }) => ({ key: parseBlobKey(key), size, validator }));
  }

  /** @throws TidepoolError STORE_FULL */
  put({ key, size, validator, hashes }: BorrowedRow): void {
    this.#run('keep a borrowed blob', () => this.#put.run(key, size, validator, hashes));
  }

  remove(key: BlobKey): void {
    this.#run('forget a borrowed blob', () => this.#remove.run(key));
  }
}
