import type Database from 'better-sqlite3';
import type { Digest } from '../../shared/ids.ts';
import { type Run, run } from './sqlite-errors.ts';
import type { ManifestRecord, ManifestTable } from './types.ts';

export class SqliteManifestTable implements ManifestTable {
  readonly #run: Run;
  readonly #get: Database.Statement<[Digest], { media_type: string; bytes: Buffer }>;
  readonly #put: Database.Statement<[Digest, string, Uint8Array]>;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#get = database.prepare('SELECT media_type, bytes FROM manifests WHERE digest = ?');
    // The bytes of a digest never change; what they are served as may have been learnt better.
    this.#put = database.prepare(
      `INSERT INTO manifests (digest, media_type, bytes) VALUES (?, ?, ?)
       ON CONFLICT (digest) DO UPDATE SET media_type = excluded.media_type WHERE media_type <> excluded.media_type`,
    );
  }

  get(digest: Digest): ManifestRecord | undefined {
    const row = this.#run('read a manifest', () => this.#get.get(digest));
    return row === undefined ? undefined : { digest, mediaType: row.media_type, bytes: row.bytes };
  }

  /** @throws TidepoolError STORE_FULL */
  put(record: ManifestRecord): void {
    this.#run('keep a manifest', () => this.#put.run(record.digest, record.mediaType, record.bytes));
  }
}
