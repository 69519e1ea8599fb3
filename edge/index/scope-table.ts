import type Database from 'better-sqlite3';
import { type BlobKey, parseDigest } from '../../shared/ids.ts';
import { type Run, run } from './sqlite-errors.ts';
import type { RepositoryAccess, RepositoryName, ScopeEntry, ScopeTable } from './types.ts';

interface RawEntry {
  kind: string;
  size: number | null;
  via: string | null;
}

export class SqliteScopeTable implements ScopeTable {
  readonly #run: Run;
  readonly #get: Database.Statement<[string, string, BlobKey], RawEntry>;
  readonly #put: (name: RepositoryName, entries: readonly ScopeEntry[]) => void;
  readonly #manifestIn: Database.Statement<[BlobKey, string], { found: number }>;
  readonly #isOpen: Database.Statement<[BlobKey], { found: number }>;
  readonly #access: Database.Statement<
    [string, string],
    { open_at: number | null; closed_at: number | null }
  >;
  readonly #setAccess: (name: RepositoryName, access: RepositoryAccess) => void;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#get = database.prepare(
      `SELECT s.kind, s.size, s.via FROM repositories r JOIN content_scope s ON s.repository = r.id
       WHERE r.registry = ? AND r.repository = ? AND s.digest = ?`,
    );
    const find = database.prepare<[string, string], { id: number }>(
      'SELECT id FROM repositories WHERE registry = ? AND repository = ?',
    );
    const add = database.prepare<[string, string]>(
      'INSERT INTO repositories (registry, repository) VALUES (?, ?)',
    );
    const idOf = ({ registry, repository }: RepositoryName): number =>
      find.get(registry, repository)?.id ?? Number(add.run(registry, repository).lastInsertRowid);
    // A manifest stays one, also where another manifest names it among its layers; and what names it is kept.
    const putOne = database.prepare<[number, BlobKey, string, number | null, BlobKey | null]>(
      `INSERT INTO content_scope (repository, digest, kind, size, via) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (repository, digest) DO UPDATE SET
         kind = CASE WHEN kind = 'manifest' THEN kind ELSE excluded.kind END,
         size = coalesce(excluded.size, size), via = coalesce(excluded.via, via)`,
    );
    this.#put = database.transaction((name: RepositoryName, entries: readonly ScopeEntry[]) => {
      const id = idOf(name);
      for (const { digest, kind, size, via } of entries) {
        putOne.run(id, digest, kind, size ?? null, via ?? null);
      }
    });
    this.#manifestIn = database.prepare(
      `SELECT 1 AS found FROM content_scope s JOIN repositories r ON r.id = s.repository
       WHERE s.digest = ? AND r.registry = ? AND s.kind = 'manifest' LIMIT 1`,
    );
    this.#isOpen = database.prepare(
      `SELECT 1 AS found FROM content_scope s
       JOIN repositories r ON r.id = s.repository
       JOIN provenance p ON p.digest = s.digest AND p.registry = r.registry AND p.proven = 1
       WHERE s.digest = ? AND r.open_at > coalesce(r.closed_at, 0) LIMIT 1`,
    );
    this.#access = database.prepare(
      'SELECT open_at, closed_at FROM repositories WHERE registry = ? AND repository = ?',
    );
    const setAccess = database.prepare<[number | null, number | null, number]>(
      'UPDATE repositories SET open_at = coalesce(?, open_at), closed_at = coalesce(?, closed_at) WHERE id = ?',
    );
    this.#setAccess = database.transaction((name: RepositoryName, access: RepositoryAccess) => {
      const rounded = (time: number | undefined): number | null =>
        time === undefined ? null : Math.round(time);
      setAccess.run(rounded(access.openAt), rounded(access.closedAt), idOf(name));
    });
  }

  get({ registry, repository }: RepositoryName, digest: BlobKey): ScopeEntry | undefined {
    const row = this.#run('read what a repository has', () => this.#get.get(registry, repository, digest));
    if (row === undefined) return undefined;
    return {
      digest,
      kind: row.kind === 'manifest' ? 'manifest' : 'blob',
      ...(row.size === null ? {} : { size: row.size }),
      ...(row.via === null ? {} : { via: parseDigest(row.via) }),
    };
  }

  /** @throws TidepoolError STORE_FULL */
  put(name: RepositoryName, entries: readonly ScopeEntry[]): void {
    this.#run('keep what a repository has', () => this.#put(name, entries));
  }

  manifestIn(registry: string, digest: BlobKey): boolean {
    return this.#run('look for a manifest', () => this.#manifestIn.get(digest, registry)) !== undefined;
  }

  isOpen(digest: BlobKey): boolean {
    return this.#run('look for an open repository', () => this.#isOpen.get(digest)) !== undefined;
  }

  access({ registry, repository }: RepositoryName): RepositoryAccess {
    const row = this.#run('read who may pull', () => this.#access.get(registry, repository));
    return {
      ...(row === undefined || row.open_at === null ? {} : { openAt: row.open_at }),
      ...(row === undefined || row.closed_at === null ? {} : { closedAt: row.closed_at }),
    };
  }

  /** @throws TidepoolError STORE_FULL */
  setAccess(name: RepositoryName, access: RepositoryAccess): void {
    this.#run('keep who may pull', () => this.#setAccess(name, access));
  }
}
