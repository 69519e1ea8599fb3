import { appendFile, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EventBook } from '../../../../cloud/pools/event-book.ts';
import { NodeEvents } from '../../../../cloud/pools/node-events.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { ToldEvent } from '../../../../shared/wire/events.ts';

const n1 = parseNodeName('n1');
const n2 = parseNodeName('n2');

function told(seq: number, more: Partial<ToldEvent> = {}): ToldEvent {
  return { boot: 'a', seq, kind: 'tag-stale', count: 1, firstAt: 1, lastAt: 2, ...more };
}

describe('NodeEvents', () => {
  it('keeps each event once, and counts those that never came', () => {
    const events = new NodeEvents();
    expect(events.add(n1, [told(3), told(4)], 10)).toHaveLength(2);
    expect(events.add(n1, [told(3), told(4), told(5)], 11)).toMatchObject([{ seq: 5, heardAt: 11 }]);
    // The first number of a boot says nothing of those before: another hub may have them.
    expect(events.missed(n1)).toBe(0);
    events.add(n1, [told(9)], 12);
    expect(events.missed(n1)).toBe(3);
    events.add(n1, [told(1, { boot: 'b', count: 7 })], 13);
    expect(events.of(n1).map(({ boot, seq }) => `${boot}${seq}`)).toEqual(['a3', 'a4', 'a5', 'a9', 'b1']);
    expect(Object.fromEntries(events.counts)).toEqual({ 'tag-stale': 11 });
  });

  it('is bounded for a node, in all, and by kind', () => {
    const events = new NodeEvents({ maxANode: 3, maxAll: 5 });
    for (let seq = 1; seq <= 9; seq++) events.add(n1, [told(seq, { kind: `k${seq}` })], seq);
    expect(events.of(n1).map(({ seq }) => seq)).toEqual([7, 8, 9]);
    for (let seq = 1; seq <= 3; seq++) events.add(n2, [told(seq)], seq);
    // The one who has been silent longest gives way.
    expect(events.of(n1).map(({ seq }) => seq)).toEqual([8, 9]);
    expect(events.all()).toHaveLength(5);
    for (let seq = 10; seq < 100; seq++) events.add(n2, [told(seq, { kind: `k${seq}` })], seq);
    expect(events.counts.size).toBeLessThanOrEqual(41);
    expect(events.counts.get('other')).toBeGreaterThan(0);
    events.forget(n2);
    expect(events.of(n2)).toEqual([]);
  });
});

describe('EventBook', () => {
  let directory: string;
  let file: string;
  const books: EventBook[] = [];
  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'events-'));
    file = path.join(directory, 'deep/events.jsonl');
  });
  afterEach(async () => {
    for (const book of books.splice(0)) await book.stop();
    await rm(directory, { recursive: true, force: true });
  });
  const open = async (at = file, maxFileBytes?: number): Promise<EventBook> => {
    const init = { file: at, ...(maxFileBytes === undefined ? {} : { maxFileBytes }) };
    const book = new EventBook({ clock: systemClock, log: silentLogger() }, init);
    books.push(book);
    await book.start();
    return book;
  };

  it('says what need not be told again once it is on the disk, and knows it after a restart', async () => {
    const book = await open();
    const first = await book.take(n1, [told(1), told(2, { key: 'x' }), told(5, { boot: 'b' })]);
    expect(first).toEqual([
      { boot: 'a', seq: 2 },
      { boot: 'b', seq: 5 },
    ]);
    expect((await readFile(file, 'utf8')).trim().split('\n')).toHaveLength(3);
    await book.stop();
    // The power went while the next line was written.
    await appendFile(file, '{"node":"n1","boo');
    const again = await open();
    expect(again.events.of(n1)).toHaveLength(3);
    expect(await again.take(n1, [told(2)])).toEqual([{ boot: 'a', seq: 2 }]);
    await again.take(n1, [told(3)]);
    await again.stop();
    expect((await open()).events.of(n1)).toHaveLength(4);
  });

  it('does not say so while the disk refuses, and writes everything down when it takes it', async () => {
    const book = await open(path.join(directory, 'plain/x'));
    await appendFile(path.join(directory, 'plain'), 'a file where a directory should be');
    await expect(book.take(n1, [told(1)])).rejects.toMatchObject({ code: 'STORE_FULL' });
    await expect(book.take(n1, [told(1)])).rejects.toMatchObject({ code: 'STORE_FULL' });
    await rm(path.join(directory, 'plain'));
    expect(await book.take(n1, [told(1)])).toEqual([{ boot: 'a', seq: 1 }]);
    expect(await readFile(path.join(directory, 'plain/x'), 'utf8')).toContain('"seq":1');
  });

  it('writes the file anew when it has grown', async () => {
    const book = await open(file, 20_000);
    for (let seq = 1; seq <= 600; seq++) await book.take(n1, [told(seq)]);
    expect((await stat(file)).size).toBeLessThan(40_000);
    expect(book.events.of(n1)).toHaveLength(100);
    await book.stop();
    const again = await open();
    expect(again.events.of(n1).at(-1)?.seq).toBe(600);
  });
});
