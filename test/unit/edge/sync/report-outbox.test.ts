import { beforeEach, describe, expect, it } from 'vitest';
import { ReportOutbox } from '../../../../edge/sync/report-outbox.ts';
import { parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { decode } from '../../../../shared/wire/messages/codec.ts';
import type { PrefetchProgress } from '../../../../shared/wire/messages/prefetch.ts';
import { type ReportMessage, reportMessage } from '../../../../shared/wire/messages/report.ts';
import { MAX_MESSAGE_BYTES } from '../../../../shared/wire/topics.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let clock: ManualClock;
let outbox: ReportOutbox;
let sent: ReportMessage[];
let pending: { resolve: () => void; reject: (error: Error) => void }[];

beforeEach(() => {
  clock = new ManualClock();
  clock.advance(1_000);
  sent = [];
  pending = [];
  outbox = new ReportOutbox(
    {
      clock,
      log: silentLogger(),
      publish: (payload) => {
        expect(payload.length).toBeLessThanOrEqual(MAX_MESSAGE_BYTES);
        sent.push(decode(reportMessage, payload, 'report'));
        return new Promise((resolve, reject) => pending.push({ resolve, reject }));
      },
    },
    { node: parseNodeName('n1'), bootId: 'b' },
  );
});
const flush = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const ack = async (): Promise<void> => {
  pending.shift()?.resolve();
  await flush();
};
const progress = (id: string, doneBytes = 0, message = ''): PrefetchProgress => ({
  id,
  generation: 1,
  state: 'active',
  totalBytes: 100,
  doneBytes,
  wanBytes: 0,
  peerBytes: 0,
  ...(message === '' ? {} : { error: { code: 'X', message } }),
});

describe('ReportOutbox', () => {
  it('says nothing without a connection, and everything at once with one', async () => {
    outbox.report({ tuningHash: 'a' });
    outbox.report({ prefetches: [progress('x', 1), progress('y', 1)] });
    outbox.report({ tuningHash: 'b', prefetches: [progress('x', 2)] });
    clock.advance(10_000);
    expect(sent).toEqual([]);
    outbox.resync();
    expect(sent).toHaveLength(1);
    expect(sent[0]).toMatchObject({ seq: 1, full: true, tuningHash: 'b' });
    expect(sent[0]?.prefetches.map(({ id, doneBytes }) => `${id} ${doneBytes}`).sort()).toEqual([
      'x 2',
      'y 1',
    ]);
  });

  it('tells of the container runtime when that changes, and in every full report', async () => {
    outbox.resync();
    await ack();
    outbox.report({ runtime: { mirror: 'no', fix: 'set config_path' } });
    clock.advance(500);
    await ack();
    outbox.report({ runtime: { mirror: 'no', fix: 'set config_path' } });
    clock.advance(500);
    expect(sent).toHaveLength(2);
    expect(sent[1]?.runtime).toEqual({ mirror: 'no', fix: 'set config_path' });
    outbox.resync();
    expect(sent[2]).toMatchObject({ full: true, runtime: { mirror: 'no' } });
  });

  it('brings many changes together in one report each half second', async () => {
    outbox.resync();
    await ack();
    for (let i = 1; i <= 50; i++) {
      outbox.report({ prefetches: [progress('x', i)] });
      clock.advance(10);
      await ack();
    }
    expect(sent.map(({ seq, full, prefetches }) => [seq, full, prefetches[0]?.doneBytes])).toEqual([
      [1, true, undefined],
      [2, false, 50],
    ]);
  });

  it('sends only what changed, and nothing when nothing did', async () => {
    outbox.report({ tuningHash: 'a', prefetches: [progress('x'), progress('y')] });
    outbox.resync();
    await ack();
    outbox.report({ tuningHash: 'a' });
    clock.advance(5_000);
    expect(sent).toHaveLength(1);
    outbox.report({ prefetches: [progress('y', 7)] });
    clock.advance(500);
    expect(sent[1]?.prefetches.map(({ id }) => id)).toEqual(['y']);
  });

  it('has one report under way at a time', async () => {
    outbox.resync();
    outbox.report({ tuningHash: 'a' });
    clock.advance(60_000);
    expect(sent).toHaveLength(1);
    await ack();
    expect(sent).toHaveLength(2);
    expect(sent[1]).toMatchObject({ seq: 2, full: false, tuningHash: 'a' });
  });

  it('after a report that may be lost the next one tells everything', async () => {
    outbox.report({ prefetches: [progress('x', 1)] });
    outbox.resync();
    pending.shift()?.reject(new Error('connection lost'));
    outbox.close();
    await flush();
    outbox.report({ prefetches: [progress('y', 1)] });
    clock.advance(5_000);
    expect(sent).toHaveLength(1);
    outbox.resync();
    expect(sent[1]).toMatchObject({ seq: 2, full: true });
    expect(sent[1]?.prefetches.map(({ id }) => id).sort()).toEqual(['x', 'y']);
  });

  it('a resync asked for while a report is under way is not forgotten', async () => {
    outbox.report({ prefetches: [progress('x', 1)] });
    outbox.resync();
    outbox.resync();
    await ack();
    clock.advance(500);
    expect(sent.map(({ full }) => full)).toEqual([true, true]);
    expect(sent[1]?.prefetches).toHaveLength(1);
  });

  it('splits what does not fit one message; the parts together are whole', async () => {
    const many = Array.from({ length: 200 }, (_, i) => progress(`j${i}`, 0, 'e'.repeat(1_900)));
    outbox.report({ prefetches: many });
    outbox.resync();
    for (let i = 0; i < 20; i++) {
      await ack();
      clock.advance(500);
    }
    expect(sent.length).toBeGreaterThan(5);
    expect(sent.map(({ full }) => full)).toEqual([true, ...sent.slice(1).map(() => false)]);
    expect(sent.map(({ seq }) => seq)).toEqual(sent.map((_, i) => i + 1));
    expect(sent.flatMap(({ prefetches }) => prefetches.map(({ id }) => id))).toEqual(
      many.map(({ id }) => id),
    );
  });

  it('forgets jobs that are no more, and holds a bounded number', () => {
    outbox.report({ prefetches: Array.from({ length: 1_200 }, (_, i) => progress(`j${i}`)) });
    outbox.keepOnly(new Set(['j0', 'j1198', 'j1199']));
    outbox.resync();
    expect(sent[0]?.prefetches.map(({ id }) => id)).toEqual(['j1198', 'j1199']);
  });
});
