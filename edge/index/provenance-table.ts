import type Database from 'better-sqlite3';
import type { BlobKey } from '../../shared/ids.ts';
import { type Run, run } from './sqlite-errors.ts';
import type { ProvenanceTable } from './types.ts';

export class SqliteProvenanceTable implements ProvenanceTable {
  readonly #run: Run;
  readonly #list: Database.Statement<[BlobKey], { registry: string; proven: number }>;
  readonly #begin: (digest: BlobKey, registry: string) => void;
  readonly #forget: Database.Statement<[BlobKey]>;
  readonly #prove: Database.Statement<[BlobKey, string]>;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#list = database.prepare('SELECT registry, proven FROM provenance WHERE digest = ?');
    this.#forget = database.prepare('DELETE FROM provenance WHERE digest = ? AND proven = 0');
    const insert = database.prepare<[BlobKey, string]>(
      'INSERT INTO provenance (digest, registry, proven) VALUES (?, ?, 0) ON CONFLICT (digest, registry) DO NOTHING',
    );
    this.#begin = database.transaction((digest: BlobKey, registry: string) => {
      this.#forget.run(digest);
      insert.run(digest, registry);
    });
    this.#prove = database.prepare(
      `INSERT INTO provenance (digest, registry, proven) VALUES (?, ?, 1)
       ON CONFLICT (digest, registry) DO UPDATE SET proven = 1`,
    );
  }

  list(digest: BlobKey): readonly { readonly registry: string; readonly proven: boolean }[] {
    const rows = this.#run('read where bytes came from', () => this.#list.all(digest));
    return rows.map(({ registry, proven }) => ({ registry, proven: proven === 1 }));
  }

  /** @throws TidepoolError STORE_FULL */
  begin(digest: BlobKey, registry: string): void {
    this.#run('keep where bytes come from', () => this.#begin(digest, registry));
  }

  forgetBegun(digest: BlobKey): void {
    this.#run('forget where bytes come from', () => this.#forget.run(digest));
  }

  /** @throws TidepoolError STORE_FULL */
  prove(digest: BlobKey, registry: string): void {
    this.#run('keep where bytes came from', () => this.#prove.run(digest, registry));
  }
}
