import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDatabase } from '../../../../edge/index/database.ts';
import { SqliteOutboxTable } from '../../../../edge/index/outbox-table.ts';
import { openIndex, type SqliteIndex } from '../../../../edge/index/sqlite-index.ts';
import { EventOutbox } from '../../../../edge/sync/events.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { type EventKind, type ToldEvent, toldEvent } from '../../../../shared/wire/events.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let directory: string;
let index: SqliteIndex;
let clock: ManualClock;
const log = silentLogger();
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'outbox-'));
  index = openIndex(join(directory, 'index.db'), { log });
  clock = new ManualClock();
});
afterEach(() => {
  index.close();
  rmSync(directory, { recursive: true, force: true });
});

const open = (boot = 'a', table: SqliteOutboxTable = index.outbox): EventOutbox =>
  new EventOutbox({ table, clock, log }, { boot });
const through = (told: readonly ToldEvent[]) => told.map(({ boot, seq }) => ({ boot, seq }));

/** A hub that keeps what it is told, each event once. */
class Hub {
  readonly known = new Map<string, ToldEvent>();
  hear(told: readonly ToldEvent[]): void {
    for (const event of told) {
      const id = `${event.boot} ${event.seq}`;
      const before = this.known.get(id);
      // Told again it is the same one, to the letter.
      if (before !== undefined) expect(event).toEqual(before);
      this.known.set(id, toldEvent.parse(event));
    }
  }
  count(kind: string): number {
    return [...this.known.values()].reduce((sum, each) => sum + (each.kind === kind ? each.count : 0), 0);
  }
}

describe('EventOutbox', () => {
  it('makes one of what is of the same kind and key, with a count and both times', () => {
    const outbox = open();
    outbox.note({ kind: 'tag-stale', key: 'app:v1', detail: 'first' });
    clock.advance(5_000);
    outbox.note({ kind: 'tag-stale', key: 'app:v1', detail: 'last', count: 2 });
    outbox.note({ kind: 'tag-stale', key: 'app:v2' });
    outbox.note({ kind: 'store-full' });
    outbox.resume();
    expect(outbox.next()).toEqual([
      {
        boot: 'a',
        seq: 1,
        kind: 'tag-stale',
        key: 'app:v1',
        detail: 'last',
        count: 3,
        firstAt: 0,
        lastAt: 5_000,
      },
      { boot: 'a', seq: 2, kind: 'tag-stale', key: 'app:v2', count: 1, firstAt: 5_000, lastAt: 5_000 },
      { boot: 'a', seq: 3, kind: 'store-full', count: 1, firstAt: 5_000, lastAt: 5_000 },
    ]);
    expect(outbox.state).toEqual({ waiting: 3, lost: 0, noted: { 'tag-stale': 4, 'store-full': 1 } });
  });

  it('keeps what was told until the hub says that it has it, and tells it again as it was', () => {
    const outbox = open();
    outbox.note({ kind: 'store-full' });
    expect(outbox.next()).toEqual([]);
    outbox.resume();
    const told = outbox.next();
    expect(told).toHaveLength(1);
    // One batch is under way at a time, and what comes meanwhile is an event of its own.
    outbox.note({ kind: 'store-full' });
    expect([outbox.hasNews, outbox.next()]).toEqual([false, []]);
    outbox.close();
    outbox.resume();
    expect(outbox.next()).toMatchObject([told[0], { seq: 2, count: 1 }]);
    outbox.acknowledged(through(told));
    expect(outbox.next()).toMatchObject([{ seq: 2 }]);
    outbox.acknowledged([{ boot: 'a', seq: 2 }]);
    expect(outbox.state.waiting).toBe(0);
    // Nothing that was not told goes, whatever is acknowledged.
    outbox.note({ kind: 'store-full' });
    outbox.acknowledged([{ boot: 'a', seq: 99 }]);
    expect(outbox.state.waiting).toBe(1);
  });

  it('tells it again after a while where nobody acknowledges, more and more seldom', () => {
    const outbox = open();
    let woken = 0;
    outbox.onNews = () => woken++;
    outbox.note({ kind: 'store-full' });
    outbox.resume();
    expect(outbox.next()).toHaveLength(1);
    clock.advance(29_000);
    expect([woken, outbox.hasNews]).toEqual([1, false]);
    clock.advance(1_000);
    expect([woken, outbox.hasNews]).toEqual([2, true]);
    expect(outbox.next()).toHaveLength(1);
    clock.advance(59_000);
    expect(outbox.hasNews).toBe(false);
    clock.advance(1_000);
    expect(outbox.hasNews).toBe(true);
  });

  it('tells at once what is the first in a while, and lets what follows wait for company', () => {
    const outbox = open();
    let woken = 0;
    outbox.onNews = () => woken++;
    outbox.resume();
    outbox.note({ kind: 'store-full' });
    expect(outbox.hasNews).toBe(true);
    outbox.acknowledged(through(outbox.next()));
    for (let n = 0; n < 5; n++) outbox.note({ kind: 'neighbour-revoked', key: 'n9' });
    expect(outbox.hasNews).toBe(false);
    const before = woken;
    clock.advance(10_000);
    expect([woken - before, outbox.hasNews]).toEqual([1, true]);
    expect(outbox.next()).toMatchObject([{ count: 5 }]);
    // A long list is told in one go.
    for (let n = 0; n < 120; n++) outbox.note({ kind: 'tag-stale', key: `app:${n}` });
    outbox.acknowledged([{ boot: 'a', seq: 2 }]);
    clock.advance(10_000);
    outbox.acknowledged(through(outbox.next()));
    expect(outbox.hasNews).toBe(true);
  });

  it('goes on with what an earlier start has left, and does not fill up with starts', () => {
    for (const boot of ['a', 'b', 'c', 'd']) open(boot).note({ kind: 'agent-started', key: '1.0' });
    const outbox = open('e');
    outbox.resume();
    expect(outbox.next()).toMatchObject([{ boot: 'a', seq: 1, count: 4 }]);
    // Told, so the next start is a new one.
    open('f').note({ kind: 'agent-started', key: '1.0' });
    const later = open('g');
    later.resume();
    expect(through(later.next())).toEqual([
      { boot: 'a', seq: 1 },
      { boot: 'f', seq: 1 },
    ]);
  });

  it('is bounded: the kind that fills it gives way, and the hub hears how many are lost', () => {
    const database = openDatabase(join(directory, 'small.db'), log);
    const table = new SqliteOutboxTable(database, { rows: 20, bytes: 10_000, dropped: 'events-dropped' });
    const outbox = open('a', table);
    outbox.note({ kind: 'index-rebuilt' });
    for (let n = 0; n < 100; n++) outbox.note({ kind: 'tag-stale', key: `app:${n}` });
    expect(outbox.state).toMatchObject({ waiting: 20, lost: 82 });
    for (let n = 0; n < 10; n++) outbox.note({ kind: 'blob-damaged', key: 'x'.repeat(4_000) });
    expect(table.usage().bytes).toBeLessThanOrEqual(10_000);
    outbox.resume();
    const hub = new Hub();
    for (let told = outbox.next(); told.length > 0; told = outbox.next()) {
      hub.hear(told);
      outbox.acknowledged(through(told));
    }
    expect(hub.count('index-rebuilt')).toBe(1);
    expect(hub.count('tag-stale') + hub.count('blob-damaged') + hub.count('events-dropped')).toBe(110);
    expect(table.usage().rows).toBe(0);
    database.close();
  });

  it('cuts long texts at whole characters, and reports stay within their size', () => {
    const outbox = open();
    for (let n = 0; n < 60; n++) {
      outbox.note({ kind: 'blob-damaged', key: `${n} ${'😀'.repeat(400)}`, detail: '"'.repeat(900) });
    }
    outbox.resume();
    const told = outbox.next();
    for (const event of told) expect(toldEvent.parse(event).key).toMatch(/^\d+ (😀)+…$/u);
    expect(told.length).toBeGreaterThan(1);
    expect(Buffer.byteLength(JSON.stringify(told))).toBeLessThan(20_000);
  });

  it('throws at nobody when the disk does not take it, and counts it', () => {
    const outbox = open();
    index.close();
    outbox.note({ kind: 'store-full' });
    expect(outbox.state).toEqual({ waiting: 0, lost: 1, noted: { 'store-full': 1 } });
    index = openIndex(join(directory, 'index.db'), { log });
  });

  it('loses nothing and doubles nothing, whatever is lost on the way and whenever it stops', () => {
    const kinds: readonly EventKind[] = ['tag-stale', 'store-full', 'blob-damaged'];
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ do: fc.constant('note'), kind: fc.nat(2), key: fc.nat(3) }) },
      {
        weight: 3,
        arbitrary: fc.record({ do: fc.constantFrom('tell', 'told in vain', 'heard, not answered') }),
      },
      { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('reconnect', 'restart') }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const memory = openIndex(':memory:', { log });
        const hub = new Hub();
        const noted = new Map<string, number>();
        let boot = 0;
        let outbox = open(`b${boot}`, memory.outbox);
        outbox.resume();
        for (const each of steps) {
          if (each.do === 'note' && 'kind' in each) {
            const kind = kinds[each.kind] ?? 'store-full';
            outbox.note({ kind, key: String(each.key) });
            noted.set(kind, (noted.get(kind) ?? 0) + 1);
          } else if (each.do === 'restart') {
            outbox = open(`b${++boot}`, memory.outbox);
            outbox.resume();
          } else if (each.do === 'reconnect') {
            outbox.resume();
          } else {
            const told = outbox.next();
            if (each.do !== 'told in vain') hub.hear(told);
            if (each.do === 'tell') outbox.acknowledged(through(told));
          }
        }
        outbox.resume();
        for (let told = outbox.next(); told.length > 0; told = outbox.next()) {
          hub.hear(told);
          outbox.acknowledged(through(told));
        }
        for (const kind of kinds) expect(hub.count(kind)).toBe(noted.get(kind) ?? 0);
        memory.close();
      }),
      { seed: 6, numRuns: 60 },
    );
  });
});
