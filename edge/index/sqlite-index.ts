import type Database from 'better-sqlite3';
import type { TidepoolError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import { BlobTable } from './blob-table.ts';
import { BorrowedTable } from './borrowed-table.ts';
import { OUTBOX, STORE_COMPLETE } from './constants.ts';
import { CustodyTable } from './custody-table.ts';
import { condemn, IN_MEMORY, openDatabase, setSynchronous } from './database.ts';
import { SqliteDocumentTable } from './document-table.ts';
import { SqliteGrantTable } from './grant-table.ts';
import { copyDatabase, restoreCopy } from './index-copy.ts';
import { LeftoverTable } from './leftover-table.ts';
import { SqliteManifestTable } from './manifest-table.ts';
import { SqliteOutboxTable } from './outbox-table.ts';
import { SqliteProvenanceTable } from './provenance-table.ts';
import { SqliteScopeTable } from './scope-table.ts';
import { SqliteSizeTable } from './size-table.ts';
import { type Run, watchedRun } from './sqlite-errors.ts';
import { SqliteTagTable } from './tag-table.ts';
import type { Index } from './types.ts';

/** What a node knows, in one SQLite file. */
export class SqliteIndex implements Index {
  readonly manifests: SqliteManifestTable;
  readonly sizes: SqliteSizeTable;
  readonly tags: SqliteTagTable;
  readonly documents: SqliteDocumentTable;
  readonly scope: SqliteScopeTable;
  readonly provenance: SqliteProvenanceTable;
  readonly grants: SqliteGrantTable;
  readonly custody: CustodyTable;
  readonly outbox: SqliteOutboxTable;
  readonly borrowed: BorrowedTable;
  /** The store's own rows. */
  readonly blobs: BlobTable;
  /** For who cleans up. */
  readonly leftovers: LeftoverTable;
  /** Told once when a statement finds the database damaged: nothing more can be done with it than to end and open it anew. */
  onDamaged: (error: TidepoolError) => void = () => undefined;
  readonly #database: Database.Database;
  readonly #run: Run;
  #damaged = false;
  readonly #changes: Database.Statement<[], { changes: number }>;

  constructor(database: Database.Database) {
    this.#database = database;
    const guard = watchedRun((error) => this.#foundDamaged(error));
    this.#run = guard;
    this.#changes = database.prepare('SELECT total_changes() AS changes');
    this.manifests = new SqliteManifestTable(database, guard);
    this.sizes = new SqliteSizeTable(database, guard);
    this.tags = new SqliteTagTable(database, guard);
    this.documents = new SqliteDocumentTable(database, guard);
    this.scope = new SqliteScopeTable(database, guard);
    this.provenance = new SqliteProvenanceTable(database, guard);
    this.grants = new SqliteGrantTable(database, guard);
    this.custody = new CustodyTable(database, guard);
    this.outbox = new SqliteOutboxTable(database, OUTBOX, guard);
    this.borrowed = new BorrowedTable(database, guard);
    this.blobs = new BlobTable(database, guard);
    this.leftovers = new LeftoverTable(database, guard);
  }

  /**
   * All that `work` writes or nothing, durable when it returns; what it throws comes through.
   * @throws TidepoolError STORE_FULL
   */
  atomically(work: () => void): void {
    setSynchronous(this.#database, 'FULL');
    try {
      this.#run('write what belongs together', () => this.#database.transaction(work)());
    } finally {
      setSynchronous(this.#database, 'NORMAL');
    }
  }

  /** Rows changed since it was opened. */
  get changes(): number {
    return this.#changes.get()?.changes ?? 0;
  }

  get bytes(): number {
    const [pages, size] = ['page_count', 'page_size'].map((name) =>
      Number(this.#database.pragma(name, { simple: true })),
    );
    return (pages ?? 0) * (size ?? 0);
  }

  /** Writes a copy beside it, from which a lost index gets back what its files do not tell. */
  async copy(): Promise<void> {
    // One that is still being made anew has less than the copy.
    if (this.documents.get(STORE_COMPLETE) !== true || this.#damaged) return;
    await copyDatabase(this.#database, this.#database.name);
  }

  #foundDamaged(error: TidepoolError): void {
    this.#damaged = true;
    try {
      // Opening it may not find what a statement has: a large one is not looked through as a whole.
      if (this.#database.name !== IN_MEMORY) condemn(this.#database.name);
    } finally {
      this.onDamaged(error);
    }
  }

  /** Nothing may be asked afterwards. */
  close(): void {
    this.#database.close();
  }
}

/**
 * Opens the index at `path`, or makes it; `:memory:` for one that is gone when closed. A damaged file is moved aside to
 * `<path>.corrupt`, with an error in the log. A new one gets what a copy of the
 * lost one has.
 * @throws TidepoolError CONFLICT when a newer program has written it
 */
export function openIndex(path: string, components: { readonly log: Logger }): SqliteIndex {
  const database = openDatabase(path, components.log);
  const isLost = path !== IN_MEMORY && new SqliteDocumentTable(database).get(STORE_COMPLETE) !== true;
  const rows = isLost ? restoreCopy(database, path, components.log) : 0;
  if (rows > 0) components.log.warn({ path, rows }, 'the index was lost: a copy gives back what it has');
  return new SqliteIndex(database);
}
