import type Database from 'better-sqlite3';
import { GRANTS_A_NODE } from './constants.ts';
import { type Run, run } from './sqlite-errors.ts';
import type { GrantRecord, GrantTable } from './types.ts';

/** Bounded by node, so that none of them can push out what the others told. */
export class SqliteGrantTable implements GrantTable {
  readonly #run: Run;
  readonly #get: Database.Statement<[string], { granted_at: number }>;
  readonly #put: (record: GrantRecord & { readonly toldBy: string }) => void;
  readonly #delete: Database.Statement<[string]>;
  readonly #expire: Database.Statement<[number]>;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#get = database.prepare('SELECT granted_at FROM grants WHERE id = ?');
    const put = database.prepare<[string, number, string]>(
      `INSERT INTO grants (id, granted_at, told_by) VALUES (?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET granted_at = excluded.granted_at WHERE granted_at < excluded.granted_at`,
    );
    const surplus = database.prepare<[string]>(
      `DELETE FROM grants WHERE id IN
       (SELECT id FROM grants WHERE told_by = ? ORDER BY granted_at DESC, id LIMIT -1 OFFSET ${GRANTS_A_NODE})`,
    );
    this.#put = database.transaction(
      ({ id, grantedAt, toldBy }: GrantRecord & { readonly toldBy: string }) => {
        put.run(id, Math.round(grantedAt), toldBy);
        surplus.run(toldBy);
      },
    );
    this.#delete = database.prepare('DELETE FROM grants WHERE id = ?');
    this.#expire = database.prepare('DELETE FROM grants WHERE granted_at < ?');
  }

  get(id: string): GrantRecord | undefined {
    const row = this.#run('read a grant', () => this.#get.get(id));
    return row === undefined ? undefined : { id, grantedAt: row.granted_at };
  }

  /** @throws TidepoolError STORE_FULL */
  put(record: GrantRecord & { readonly toldBy: string }): void {
    this.#run('keep a grant', () => this.#put(record));
  }

  delete(id: string): void {
    this.#run('forget a grant', () => this.#delete.run(id));
  }

  expire(time: number): void {
    this.#run('forget old grants', () => this.#expire.run(Math.round(time)));
  }
}
