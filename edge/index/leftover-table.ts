import type Database from 'better-sqlite3';
import { type Digest, parseDigest } from '../../shared/ids.ts';
import { type Run, run } from './sqlite-errors.ts';
import type { ManifestRecord } from './types.ts';

export interface TagName {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string;
}

/** A manifest as a walk over all of them comes by it. */
export interface WalkedManifest extends ManifestRecord {
  /** The walk goes on after it. */
  readonly row: number;
  /** When a walk first found that nothing needs it, ms since 1970. */
  readonly idleSince: number | undefined;
}

/** Rows that were written down for content that is gone: found in small steps, and removed in small transactions. */
export class LeftoverTable {
  readonly #run: Run;
  readonly #walk: Database.Statement<
    [number, number],
    { row: number; digest: string; media_type: string; bytes: Buffer; since: number | null }
  >;
  readonly #held: Database.Statement<{ key: string }, { found: number }>;
  readonly #tagsOf: Database.Statement<[string], TagName>;
  readonly #digestsOf: Database.Statement<[string, string, string], { digest: string }>;
  readonly #setIdle: Database.Statement<[string, number]>;
  readonly #clearIdle: Database.Statement<[string]>;
  readonly #siblings: Database.Statement<[string, number], { digest: string }>;
  readonly #remove: (digest: Digest, keep: ReadonlySet<string>) => void;
  readonly #removeDetails: (after: string, limit: number) => string | undefined;
  readonly #removeTags: Database.Statement<[number, number]>;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#walk = database.prepare(
      `SELECT m.rowid AS row, m.digest, m.media_type, m.bytes, i.since FROM manifests m
       LEFT JOIN idle_manifests i ON i.digest = m.digest WHERE m.rowid > ? ORDER BY m.rowid LIMIT ?`,
    );
    this.#held = database.prepare(
      `SELECT 1 AS found WHERE EXISTS (SELECT 1 FROM blobs WHERE key = :key)
       OR EXISTS (SELECT 1 FROM borrowed WHERE key = :key)`,
    );
    this.#tagsOf = database.prepare('SELECT registry, repository, tag FROM tags WHERE digest = ?');
    this.#digestsOf = database.prepare(
      'SELECT digest FROM tags WHERE registry = ? AND repository = ? AND tag = ?',
    );
    this.#setIdle = database.prepare('INSERT OR IGNORE INTO idle_manifests (digest, since) VALUES (?, ?)');
    this.#clearIdle = database.prepare('DELETE FROM idle_manifests WHERE digest = ?');
    this.#siblings = database.prepare(
      `SELECT DISTINCT other.digest FROM content_scope mine
       JOIN content_scope other ON other.repository = mine.repository AND other.kind = 'manifest'
       WHERE mine.digest = ? AND mine.kind = 'manifest' AND other.digest <> mine.digest LIMIT ?`,
    );
    const removeManifest = database.prepare<[string]>('DELETE FROM manifests WHERE digest = ?');
    const removeTags = database.prepare<[string]>('DELETE FROM tags WHERE digest = ?');
    const scopeVia = database.prepare<[string], { repository: number; digest: string }>(
      `SELECT s.repository, s.digest FROM content_scope own
       JOIN content_scope s ON s.repository = own.repository AND s.via = own.digest
       WHERE own.digest = ? AND own.kind = 'manifest'`,
    );
    const removeEntry = database.prepare<[number, string]>(
      'DELETE FROM content_scope WHERE repository = ? AND digest = ?',
    );
    const removeOwn = database.prepare<[string]>(
      "DELETE FROM content_scope WHERE digest = ? AND kind = 'manifest'",
    );
    this.#remove = database.transaction((digest: Digest, keep: ReadonlySet<string>) => {
      for (const entry of scopeVia.all(digest)) {
        if (!keep.has(entry.digest) && this.#held.get({ key: entry.digest }) === undefined) {
          removeEntry.run(entry.repository, entry.digest);
        }
      }
      removeOwn.run(digest);
      removeTags.run(digest);
      removeManifest.run(digest);
      this.#clearIdle.run(digest);
    });
    const nextDigests = database.prepare<[string, number], { digest: string }>(
      `SELECT digest FROM (SELECT digest FROM sizes UNION SELECT digest FROM provenance)
       WHERE digest > ? ORDER BY digest LIMIT ?`,
    );
    const inScope = database.prepare<[string], { found: number }>(
      'SELECT 1 AS found FROM content_scope WHERE digest = ? LIMIT 1',
    );
    const removeSize = database.prepare<[string]>('DELETE FROM sizes WHERE digest = ?');
    const removeProvenance = database.prepare<[string]>('DELETE FROM provenance WHERE digest = ?');
    this.#removeDetails = database.transaction((after: string, limit: number) => {
      const rows = nextDigests.all(after, limit);
      for (const { digest } of rows) {
        if (inScope.get(digest) !== undefined || this.#held.get({ key: digest }) !== undefined) continue;
        removeSize.run(digest);
        removeProvenance.run(digest);
      }
      return rows.length < limit ? undefined : rows.at(-1)?.digest;
    });
    this.#removeTags = database.prepare(
      `DELETE FROM tags WHERE id IN (SELECT t.id FROM tags t WHERE t.origin_at < ?
       AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.digest = t.digest) LIMIT ?)`,
    );
  }

  /** The next manifests after a row, in the order that they came. */
  walk(after: number, limit: number): WalkedManifest[] {
    return this.#run('walk the manifests', () =>
      this.#walk.all(after, limit).map(({ row, digest, media_type, bytes, since }) => ({
        ...{ row, digest: parseDigest(digest), mediaType: media_type, bytes },
        idleSince: since ?? undefined,
      })),
    );
  }

  /** Something of the blob is here, in the store or in files of the runtime. */
  isHeld(key: string): boolean {
    return this.#run('look for a blob', () => this.#held.get({ key })) !== undefined;
  }

  /** What the tags that name this manifest have named, now and before. */
  taggedWith(digest: Digest): Digest[] {
    return this.#run('read tags of a manifest', () =>
      this.#tagsOf
        .all(digest)
        .flatMap(({ registry, repository, tag }) => this.#digestsOf.all(registry, repository, tag))
        .map((row) => parseDigest(row.digest)),
    );
  }

  /** Other manifests of the repositories that have this one. */
  siblings(digest: Digest, limit: number): Digest[] {
    return this.#run('read what a repository has', () =>
      this.#siblings.all(digest, limit).map((row) => parseDigest(row.digest)),
    );
  }

  /** @param since ms since 1970; undefined: something needs it. @throws TidepoolError STORE_FULL */
  setIdle(digest: Digest, since: number | undefined): void {
    this.#run('note an idle manifest', () =>
      since === undefined ? this.#clearIdle.run(digest) : this.#setIdle.run(digest, Math.round(since)),
    );
  }

  /** Removes a manifest, its tags, and that repositories have what only it names. @throws TidepoolError STORE_FULL */
  remove(digest: Digest, keep: ReadonlySet<string>): void {
    this.#run('remove a manifest', () => this.#remove(digest, keep));
  }

  /**
   * Removes sizes and origins of blobs that are not here and that no repository names, of the next `limit`.
   * @returns where to go on; undefined at the end. @throws TidepoolError STORE_FULL
   */
  removeDetails(after: string, limit: number): string | undefined {
    return this.#run('remove sizes', () => this.#removeDetails(after, limit));
  }

  /** Removes records of tags, older than `before`, whose manifests are not here; how many. @throws TidepoolError STORE_FULL */
  removeTags(before: number, limit: number): number {
    return this.#run('remove tags', () => this.#removeTags.run(Math.round(before), limit).changes);
  }
}
