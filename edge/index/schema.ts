import type Database from 'better-sqlite3';
import { TidepoolError } from '../../shared/errors.ts';

/**
 * One step a schema version, in order, never changed once released: a new version is a new step at the end. The number of
 * steps done is the database's `user_version`.
 */
const STEPS: readonly string[] = [
  `
  CREATE TABLE manifests (
    digest TEXT PRIMARY KEY,
    media_type TEXT NOT NULL,
    bytes BLOB NOT NULL
  ) STRICT;

  CREATE TABLE sizes (
    digest TEXT PRIMARY KEY,
    size INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE tags (
    id INTEGER PRIMARY KEY,
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    origin_at INTEGER NOT NULL,
    UNIQUE (registry, repository, tag, digest)
  ) STRICT;

  CREATE TABLE documents (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- A whole blob has no bitmap: it would only say the same again.
  CREATE TABLE blobs (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    piece_size INTEGER NOT NULL,
    held_bytes INTEGER NOT NULL,
    whole INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    bitmap BLOB
  ) STRICT;

  -- What is said of the pieces, in chunks: a batch rewrites the chunks it touches, not megabytes.
  CREATE TABLE claims (
    blob INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    packed BLOB NOT NULL,
    UNIQUE (blob, chunk)
  ) STRICT;

  -- Names of nodes that claims speak of, so that a claim holds a small number.
  CREATE TABLE readers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
  ) STRICT;
  `,
];

export const TABLES = ['manifests', 'sizes', 'tags', 'documents', 'blobs', 'claims', 'readers'] as const;

/**
 * Brings the database to this program's schema version, each step in a transaction of its own.
 * @throws TidepoolError CONFLICT when a newer program has written it
 */
export function migrate(database: Database.Database): void {
  const version = Number(database.pragma('user_version', { simple: true }));
  if (version > STEPS.length) {
    throw new TidepoolError(
      'CONFLICT',
      `${database.name} has schema version ${version}, this program knows up to ${STEPS.length}: run the newer program, or give it another data directory`,
    );
  }
  for (const [index, step] of STEPS.entries()) {
    if (index < version) continue;
    database.transaction(() => {
      database.exec(step);
      database.pragma(`user_version = ${index + 1}`);
    })();
  }
}
