import type Database from 'better-sqlite3';
import { setSynchronous } from './database.ts';
import { type Run, run } from './sqlite-errors.ts';
import type { OutboxEvent, OutboxTable, OutboxUsage } from './types.ts';

/** Of a row besides its texts. */
const ROW_BYTES = 120;

interface Row {
  readonly id: number;
  readonly boot: string;
  readonly seq: number;
  readonly kind: string;
  readonly key: string;
  readonly detail: string;
  readonly count: number;
  readonly first_at: number;
  readonly last_at: number;
}

export interface OutboxBounds {
  readonly rows: number;
  readonly bytes: number;
  /** Kind under which the number of events is kept that there was no room for. */
  readonly dropped: string;
}

/**
 * What happened and the hub has not acknowledged. Rows that were not told yet take in what is of the same kind and key;
 * one that was told stays as it was told, so that it is the same one when it is told again. Past the bounds the kind that
 * fills the table gives up its oldest row: one noisy kind does not push out the others.
 */
export class SqliteOutboxTable implements OutboxTable {
  readonly #run: Run;
  readonly #database: Database.Database;
  readonly #list: Database.Statement<[number], Row>;
  readonly #acknowledge: Database.Statement<[string, number]>;
  readonly #usage: Database.Statement<[], { rows: number; bytes: number; lost: number }>;
  readonly #add: (event: OutboxEvent) => void;
  readonly #tell: (ids: readonly number[]) => void;

  constructor(database: Database.Database, bounds: OutboxBounds, guard: Run = run) {
    this.#run = guard;
    this.#database = database;
    this.#list = database.prepare('SELECT * FROM outbox ORDER BY id LIMIT ?');
    this.#acknowledge = database.prepare('DELETE FROM outbox WHERE told = 1 AND boot = ? AND seq <= ?');
    this.#usage = database.prepare(
      `SELECT count(*) AS rows, coalesce(sum(bytes), 0) AS bytes,
        coalesce(sum(count) FILTER (WHERE kind = '${bounds.dropped}'), 0) AS lost FROM outbox`,
    );
    const merge = database.prepare<[number, number, string, number, string, string]>(
      `UPDATE outbox SET count = count + ?, last_at = ?, detail = ?, bytes = ?
        WHERE told = 0 AND kind = ? AND key = ?`,
    );
    const insert = database.prepare<[string, number, string, string, string, number, number, number, number]>(
      `INSERT INTO outbox (boot, seq, kind, key, detail, count, first_at, last_at, bytes)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    );
    const number = database.prepare<[string], { seq: number }>(
      `INSERT INTO outbox_numbers (boot, seq) VALUES (?, 1)
        ON CONFLICT (boot) DO UPDATE SET seq = seq + 1 RETURNING seq`,
    );
    const forget = database.prepare<[string]>(
      `DELETE FROM outbox_numbers WHERE boot <> ? AND NOT EXISTS
        (SELECT 1 FROM outbox WHERE outbox.boot = outbox_numbers.boot)`,
    );
    const victim = database.prepare<[], { id: number; count: number }>(
      `SELECT id, count FROM outbox WHERE told = 0 AND kind = (
          SELECT kind FROM outbox WHERE told = 0 AND kind <> '${bounds.dropped}'
          GROUP BY kind ORDER BY sum(bytes) DESC, kind LIMIT 1
        ) ORDER BY id LIMIT 1`,
    );
    const drop = database.prepare<[number]>('DELETE FROM outbox WHERE id = ?');
    const put = ({ boot, kind, key, detail, count, at }: OutboxEvent): void => {
      const bytes = ROW_BYTES + Buffer.byteLength(kind) + Buffer.byteLength(key) + Buffer.byteLength(detail);
      if (merge.run(count, at, detail, bytes, kind, key).changes > 0) return;
      const seq = number.get(boot)?.seq ?? 1;
      if (seq === 1) forget.run(boot);
      insert.run(boot, seq, kind, key, detail, count, at, at, bytes);
    };
    this.#add = database.transaction((event: OutboxEvent) => {
      put(event);
      for (;;) {
        const { rows = 0, bytes = 0 } = this.#usage.get() ?? {};
        if (rows <= bounds.rows && bytes <= bounds.bytes) return;
        const oldest = victim.get();
        if (oldest === undefined) return;
        drop.run(oldest.id);
        put({ ...event, kind: bounds.dropped, key: '', detail: '', count: oldest.count });
      }
    });
    const told = database.prepare<[number]>('UPDATE outbox SET told = 1 WHERE id = ?');
    this.#tell = database.transaction((ids: readonly number[]) => {
      for (const id of ids) told.run(id);
    });
  }

  add(event: OutboxEvent): void {
    this.#run('keep an event', () => this.#add(event));
  }

  tell(limit: number, maxBytes: number): ReturnType<OutboxTable['tell']> {
    return this.#run('read events', () => {
      const chosen: Row[] = [];
      let left = maxBytes;
      for (const row of this.#list.iterate(limit)) {
        left -= ROW_BYTES + Buffer.byteLength(JSON.stringify(row));
        if (left < 0 && chosen.length > 0) break;
        chosen.push(row);
      }
      if (chosen.length === 0) return [];
      // On the disk before it is said: what is added to a row that the hub has already would be lost.
      setSynchronous(this.#database, 'FULL');
      try {
        this.#tell(chosen.map(({ id }) => id));
      } finally {
        setSynchronous(this.#database, 'NORMAL');
      }
      return chosen.map(({ boot, seq, kind, key, detail, count, first_at: firstAt, last_at: lastAt }) => ({
        ...{ boot, seq, kind, key, detail, count, firstAt, lastAt },
      }));
    });
  }

  acknowledge(boot: string, seq: number): void {
    this.#run('forget events', () => this.#acknowledge.run(boot, seq));
  }

  usage(): OutboxUsage {
    const { rows = 0, bytes = 0, lost = 0 } = this.#run('count events', () => this.#usage.get()) ?? {};
    return { rows, bytes, lost };
  }
}
