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
  `
  -- When a registry last said that anybody may pull from a repository (open), or that not everybody may (closed).
  CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    open_at INTEGER,
    closed_at INTEGER,
    UNIQUE (registry, repository)
  ) STRICT;

  -- What a repository has, by the word of its registry: manifests, and what they name ('via' which one).
  CREATE TABLE content_scope (
    repository INTEGER NOT NULL,
    digest TEXT NOT NULL,
    kind TEXT NOT NULL,
    size INTEGER,
    via TEXT,
    PRIMARY KEY (repository, digest)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX content_scope_by_digest ON content_scope (digest);

  -- Registries that the bytes here came from. proven: every byte, checked; else the one that they are coming from.
  CREATE TABLE provenance (
    digest TEXT NOT NULL,
    registry TEXT NOT NULL,
    proven INTEGER NOT NULL,
    PRIMARY KEY (digest, registry)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    granted_at INTEGER NOT NULL,
    told_by TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- What is known already: a tag's record is the registry's word for its manifest.
  INSERT INTO repositories (registry, repository) SELECT DISTINCT registry, repository FROM tags;
  INSERT OR IGNORE INTO content_scope (repository, digest, kind)
    SELECT r.id, m.digest, 'manifest' FROM tags t
    JOIN repositories r ON r.registry = t.registry AND r.repository = t.repository
    JOIN manifests m ON m.digest = t.digest;
  INSERT OR IGNORE INTO content_scope (repository, digest, kind)
    SELECT s.repository, child.digest, 'manifest' FROM content_scope s
    JOIN (SELECT digest, CASE WHEN json_valid(CAST(bytes AS TEXT)) THEN CAST(bytes AS TEXT) ELSE '{}' END AS json
      FROM manifests) m ON m.digest = s.digest
    JOIN json_each(m.json, '$.manifests') named
    JOIN manifests child ON child.digest = json_extract(m.json, named.fullkey || '.digest');
  INSERT OR IGNORE INTO content_scope (repository, digest, kind, size, via)
    SELECT s.repository, json_extract(m.json, named.fullkey || '.digest'), 'blob',
      json_extract(m.json, named.fullkey || '.size'), m.digest
    FROM content_scope s
    JOIN (SELECT digest, CASE WHEN json_valid(CAST(bytes AS TEXT)) THEN CAST(bytes AS TEXT) ELSE '{}' END AS json
      FROM manifests) m ON m.digest = s.digest
    JOIN json_each(m.json, '$.layers') named
    WHERE s.kind = 'manifest' AND typeof(json_extract(m.json, named.fullkey || '.digest')) = 'text'
      AND typeof(json_extract(m.json, named.fullkey || '.size')) = 'integer';
  INSERT OR IGNORE INTO content_scope (repository, digest, kind, size, via)
    SELECT s.repository, json_extract(m.json, '$.config.digest'), 'blob', json_extract(m.json, '$.config.size'),
      m.digest
    FROM content_scope s
    JOIN (SELECT digest, CASE WHEN json_valid(CAST(bytes AS TEXT)) THEN CAST(bytes AS TEXT) ELSE '{}' END AS json
      FROM manifests) m ON m.digest = s.digest
    WHERE s.kind = 'manifest' AND typeof(json_extract(m.json, '$.config.digest')) = 'text'
      AND typeof(json_extract(m.json, '$.config.size')) = 'integer';
  -- Where two registries name it, nobody knows any more whose bytes they are.
  INSERT INTO provenance (digest, registry, proven)
    SELECT s.digest, min(r.registry), 1 FROM content_scope s JOIN repositories r ON r.id = s.repository
    WHERE s.kind = 'blob' GROUP BY s.digest HAVING count(DISTINCT r.registry) = 1;
  `,
  `
  -- Whole blobs that neighbours were promised when they gave up theirs; a promise ends with the blob.
  CREATE TABLE custody (
    key TEXT PRIMARY KEY
  ) STRICT, WITHOUT ROWID;
  CREATE TRIGGER custody_ends AFTER DELETE ON blobs BEGIN
    DELETE FROM custody WHERE key = OLD.key;
  END;
  `,
  `
  -- What happened and the hub has not acknowledged. told: it was sent, and does not change any more.
  CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    detail TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    UNIQUE (boot, seq)
  ) STRICT;
  CREATE INDEX outbox_untold ON outbox (kind, key) WHERE told = 0;
  -- The last number that was given in each boot.
  CREATE TABLE outbox_numbers (
    boot TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Blobs that lie in the container runtime's files, once their bytes were checked. The validator tells the file that was.
  CREATE TABLE borrowed (
    key TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    validator TEXT NOT NULL,
    hashes BLOB NOT NULL
  ) STRICT;
  `,
  `
  -- Every file of the store has its row: an index that was made anew has to look through them first.
  INSERT INTO documents (name, value) SELECT 'store/complete', 'true' WHERE EXISTS (SELECT 1 FROM blobs)
    ON CONFLICT (name) DO NOTHING;
  `,
  `
  -- Manifests that nothing needs, and since when: they go after a while.
  CREATE TABLE idle_manifests (
    digest TEXT PRIMARY KEY,
    since INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS tags_by_digest ON tags (digest);
  -- The one used longest ago is found without looking at all.
  CREATE INDEX IF NOT EXISTS blobs_by_use ON blobs (last_used);
  -- A crash leaves few of these among many.
  CREATE INDEX IF NOT EXISTS blobs_empty ON blobs (id) WHERE held_bytes = 0 AND whole = 0;
  `,
];

export const TABLES = [
  'manifests',
  'sizes',
  'tags',
  'documents',
  'blobs',
  'claims',
  'readers',
  'repositories',
  'content_scope',
  'provenance',
  'grants',
  'custody',
  'outbox',
  'outbox_numbers',
  'borrowed',
  'idle_manifests',
] as const;

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
