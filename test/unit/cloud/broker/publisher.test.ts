import { beforeEach, describe, expect, it } from 'vitest';
import { Publisher } from '../../../../cloud/broker/publisher.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let clock: ManualClock;
let publisher: Publisher;
/** What a broker would hold: topic to body, undefined where it was cleared. */
let held: Map<string, Record<string, unknown> | undefined>;
let sent: string[];
let answer: () => Promise<void>;

beforeEach(() => {
  clock = new ManualClock();
  held = new Map();
  sent = [];
  answer = () => Promise.resolve();
  publisher = new Publisher(
    {
      clock,
      log: silentLogger(),
      sink: {
        publish: async (topic, payload, { retain }) => {
          expect(retain).toBe(true);
          sent.push(topic);
          await answer();
          held.set(topic, payload.length === 0 ? undefined : JSON.parse(payload.toString()));
        },
      },
    },
    { epoch: 5 },
  );
  publisher.resume();
});
const settle = async (): Promise<void> => {
  while (publisher.pending > 0) await new Promise((resolve) => setImmediate(resolve));
};
const group = (...topics: [string, object][]): Map<string, object> => new Map(topics);

describe('Publisher', () => {
  it('publishes with epoch and version, and not again what did not change', async () => {
    publisher.set('g', group(['t', { a: 1 }]));
    publisher.set('g', group(['t', { a: 1 }]));
    await settle();
    expect(sent).toEqual(['t']);
    expect(held.get('t')).toEqual({ a: 1, epoch: 5, version: 1 });
    publisher.set('g', group(['t', { a: 2 }]));
    await settle();
    expect(held.get('t')).toEqual({ a: 2, epoch: 5, version: 2 });
  });

  it('says everything anew under the epoch of a new term, and nothing under the one before', async () => {
    publisher.set('g', group(['t', { a: 1 }]));
    await settle();
    publisher.pause();
    publisher.set('g', group(['t', { a: 2 }]));
    publisher.begin(6);
    publisher.set('h', group(['u', { b: 1 }]));
    publisher.resume();
    await settle();
    expect([held.get('t'), held.get('u')]).toEqual([
      { a: 2, epoch: 6, version: 1 },
      { b: 1, epoch: 6, version: 1 },
    ]);
    expect(sent).toEqual(['t', 't', 'u']);
  });

  it('topics of one group change their version together; those that fall away are cleared', async () => {
    publisher.set('roster', group(['r/0', { n: 1 }], ['r/1', { n: 2 }]));
    await settle();
    publisher.set('roster', group(['r/0', { n: 1 }], ['r/1', { n: 3 }]));
    await settle();
    expect([held.get('r/0'), held.get('r/1')]).toEqual([
      { n: 1, epoch: 5, version: 2 },
      { n: 3, epoch: 5, version: 2 },
    ]);
    publisher.set('roster', group(['r/0', { n: 1 }]));
    await settle();
    expect(held.get('r/1')).toBeUndefined();
    publisher.remove('roster');
    await settle();
    expect([...held.values()]).toEqual([undefined, undefined]);
  });

  it('publishes everything anew on a new connection, with the version it has', async () => {
    publisher.set('g', group(['t', { a: 1 }]));
    await settle();
    held.clear();
    publisher.pause();
    publisher.set('h', group(['u', { b: 1 }]));
    expect(sent).toEqual(['t']);
    publisher.resume();
    await settle();
    expect(held.get('t')).toEqual({ a: 1, epoch: 5, version: 1 });
    expect(held.get('u')).toEqual({ b: 1, epoch: 5, version: 1 });
  });

  it('tries again what failed, but never puts the old over the new', async () => {
    let fail: ((error: Error) => void) | undefined;
    answer = () => new Promise((_resolve, reject) => (fail = reject));
    publisher.set('g', group(['t', { a: 1 }]));
    answer = () => Promise.resolve();
    publisher.set('g', group(['t', { a: 2 }]));
    await new Promise((resolve) => setImmediate(resolve));
    expect(held.get('t')).toMatchObject({ a: 2 });
    fail?.(new Error('connection lost'));
    await settle();
    clock.advance(5_000);
    await settle();
    expect(held.get('t')).toMatchObject({ a: 2 });

    answer = () => Promise.reject(new Error('no'));
    publisher.set('g', group(['t', { a: 3 }]));
    await new Promise((resolve) => setImmediate(resolve));
    answer = () => Promise.resolve();
    clock.advance(1_000);
    await settle();
    expect(held.get('t')).toMatchObject({ a: 3 });
  });

  it('refuses a message that is too large, and says so; what was said stays', async () => {
    publisher.set('g', group(['t', { a: 1 }]));
    publisher.set('g', group(['t', { a: 'x'.repeat(70_000) }]));
    await settle();
    expect(held.get('t')).toMatchObject({ a: 1 });
    expect(publisher.problems()).toEqual([
      { source: 'g', message: expect.stringMatching(/bytes; a message has at most 65536/) },
    ]);
    publisher.set('g', group(['t', { a: 2 }]));
    await settle();
    expect(publisher.problems()).toEqual([]);
    expect(held.get('t')).toMatchObject({ a: 2, version: 2 });
  });

  it('clears only those retained topics that are not its own', async () => {
    publisher.set('g', group(['t', { a: 1 }]));
    expect(publisher.clearStrays(['t', 'old'])).toBe(1);
    await settle();
    expect(held.get('t')).toBeDefined();
    expect(held.has('old') && held.get('old') === undefined).toBe(true);
  });

  it('has a bounded number under way', async () => {
    let open = 0;
    let most = 0;
    answer = async () => {
      most = Math.max(most, ++open);
      await new Promise((resolve) => setImmediate(resolve));
      open--;
    };
    for (let i = 0; i < 500; i++) publisher.set(`g${i}`, group([`t${i}`, { i }]));
    await settle();
    expect(held.size).toBe(500);
    expect(most).toBe(64);
  });
});
