import type Database from 'better-sqlite3';
import { type BlobKey, parseBlobKey } from '../../shared/ids.ts';
import { setSynchronous } from './database.ts';
import { ReaderNames } from './reader-names.ts';
import { type Run, run } from './sqlite-errors.ts';

/** What is marked of a blob. */
export interface BlobMarks {
  readonly id: number;
  /** All bytes are marked and match the blob's digest. */
  readonly whole: boolean;
  /** Packed bits of all marked pieces; not kept for a whole blob. */
  readonly bitmap: Uint8Array;
  /** Bytes of the marked pieces. */
  readonly heldBytes: number;
  /** Wall clock, ms since 1970. */
  readonly lastUsed: number;
  /** Packed claims that are new, by chunk number; the others stay as they are. */
  readonly chunks: Iterable<readonly [number, Uint8Array]>;
}

export interface BlobRow {
  readonly id: number;
  readonly key: BlobKey;
  readonly size: number;
  readonly pieceSize: number;
  readonly whole: boolean;
  /** Absent for a whole blob. */
  readonly bitmap: Uint8Array | undefined;
  readonly heldBytes: number;
  readonly lastUsed: number;
}

interface RawRow {
  id: number;
  key: string;
  size: number;
  piece_size: number;
  held_bytes: number;
  whole: number;
  last_used: number;
  bitmap: Buffer | null;
}

/**
 * The store's rows: one a blob, and its claims in chunks beside it. Marks may be lost by a power cut, in order; what is
 * taken away stays away.
 */
export class BlobTable {
  readonly #run: Run;
  readonly readers: ReaderNames;
  readonly #database: Database.Database;
  readonly #find: Database.Statement<[BlobKey], RawRow>;
  readonly #insert: Database.Statement<[BlobKey, number, number, number, Uint8Array]>;
  readonly #chunk: Database.Statement<[number, number], { packed: Buffer }>;
  readonly #after: Database.Statement<[string], { key: string }>;
  readonly #totals: Database.Statement<[], { bytes: number; blobs: number }>;
  readonly #list: Database.Statement<[], RawRow>;
  readonly #markAll: (marks: Iterable<BlobMarks>) => void;
  readonly #removeRow: (id: number) => void;
  readonly #removeEmpty: () => number;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#database = database;
    this.readers = new ReaderNames(database, guard);
    this.#find = database.prepare('SELECT * FROM blobs WHERE key = ?');
    this.#insert = database.prepare(
      'INSERT INTO blobs (key, size, piece_size, held_bytes, whole, last_used, bitmap) VALUES (?, ?, ?, 0, 0, ?, ?)',
    );
    this.#chunk = database.prepare('SELECT packed FROM claims WHERE blob = ? AND chunk = ?');
    this.#after = database.prepare('SELECT key FROM blobs WHERE key > ? ORDER BY key LIMIT 1');
    this.#totals = database.prepare(
      'SELECT coalesce(sum(held_bytes), 0) AS bytes, count(*) AS blobs FROM blobs',
    );
    this.#list = database.prepare('SELECT * FROM blobs ORDER BY last_used');
    const mark = database.prepare<[number, number, number, Uint8Array | null, number]>(
      'UPDATE blobs SET held_bytes = ?, whole = ?, last_used = ?, bitmap = ? WHERE id = ?',
    );
    const putChunk = database.prepare<[number, number, Uint8Array]>(
      `INSERT INTO claims (blob, chunk, packed) VALUES (?, ?, ?)
       ON CONFLICT (blob, chunk) DO UPDATE SET packed = excluded.packed`,
    );
    this.#markAll = database.transaction((all: Iterable<BlobMarks>) => {
      for (const { id, heldBytes, whole, lastUsed, bitmap, chunks } of all) {
        mark.run(heldBytes, whole ? 1 : 0, lastUsed, whole ? null : bitmap, id);
        for (const [chunk, packed] of chunks) putChunk.run(id, chunk, packed);
      }
    });
    const removeBlob = database.prepare<[number]>('DELETE FROM blobs WHERE id = ?');
    const removeClaims = database.prepare<[number]>('DELETE FROM claims WHERE blob = ?');
    this.#removeRow = database.transaction((id: number) => {
      removeBlob.run(id);
      removeClaims.run(id);
    });
    const removeEmptyBlobs = database.prepare('DELETE FROM blobs WHERE held_bytes = 0 AND whole = 0');
    const removeLostClaims = database.prepare('DELETE FROM claims WHERE blob NOT IN (SELECT id FROM blobs)');
    this.#removeEmpty = database.transaction(() => {
      const { changes } = removeEmptyBlobs.run();
      if (changes > 0) removeLostClaims.run();
      return changes;
    });
  }

  find(key: BlobKey): BlobRow | undefined {
    const row = this.#run('find a blob', () => this.#find.get(key));
    return row === undefined ? undefined : toRow(row);
  }

  /** A row with nothing marked. @throws TidepoolError STORE_FULL */
  insert(blob: {
    key: BlobKey;
    size: number;
    pieceSize: number;
    bitmap: Uint8Array;
    lastUsed: number;
  }): BlobRow {
    const { key, size, pieceSize, bitmap, lastUsed } = blob;
    const done = this.#run('add a blob', () => this.#insert.run(key, size, pieceSize, lastUsed, bitmap));
    return {
      id: Number(done.lastInsertRowid),
      key,
      size,
      pieceSize,
      whole: false,
      bitmap,
      heldBytes: 0,
      lastUsed,
    };
  }

  /** Marks a batch in one transaction, all or none. Only what is durable on disk may be marked. @throws TidepoolError STORE_FULL */
  mark(batch: Iterable<BlobMarks>): void {
    this.#run('mark pieces', () => this.#markAll(batch));
  }

  /** Takes marks back, on the disk when it returns: only then may the bytes be overwritten or freed. */
  unmark(marks: BlobMarks): void {
    this.#durably('unmark pieces', () => this.#markAll([marks]));
  }

  /** Deletes a row and its claims, on the disk when it returns. */
  remove(id: number): void {
    this.#durably('remove a blob', () => this.#removeRow(id));
  }

  /** Forgets blobs of which nothing is marked; how many there were. */
  removeEmpty(): number {
    return this.#run('forget empty blobs', () => this.#removeEmpty());
  }

  /** Packed claims of one chunk, as they were marked. */
  chunk(id: number, chunk: number): Uint8Array | undefined {
    return this.#run('read claims', () => this.#chunk.get(id, chunk))?.packed;
  }

  /** The blob whose key is the next after this one. */
  after(key: string): BlobKey | undefined {
    const row = this.#run('find the next blob', () => this.#after.get(key));
    return row === undefined ? undefined : parseBlobKey(row.key);
  }

  /** What is marked, over all blobs. */
  totals(): { readonly bytes: number; readonly blobs: number } {
    return this.#run('count blobs', () => this.#totals.get()) ?? { bytes: 0, blobs: 0 };
  }

  /** All rows, the one longest unused first. The table must not be written to while it is read. */
  *list(): Generator<BlobRow> {
    for (const row of this.#list.iterate()) yield toRow(row);
  }

  #durably(what: string, change: () => void): void {
    run(what, () => {
      setSynchronous(this.#database, 'FULL');
      try {
        change();
      } finally {
        setSynchronous(this.#database, 'NORMAL');
      }
    });
  }
}

function toRow(row: RawRow): BlobRow {
  return {
    id: row.id,
    key: parseBlobKey(row.key),
    size: row.size,
    pieceSize: row.piece_size,
    whole: row.whole === 1,
    bitmap: row.bitmap ?? undefined,
    heldBytes: row.held_bytes,
    lastUsed: row.last_used,
  };
}
