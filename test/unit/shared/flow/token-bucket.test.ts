import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../../../shared/clock.ts';
import { TokenBucket } from '../../../../shared/flow/token-bucket.ts';
import { VirtualClock } from '../../../sim/virtual-clock.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const BURST_MS = 100;
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Request {
  readonly at: number;
  readonly bytes: number;
  readonly priority: number;
}
interface Grant extends Request {
  readonly index: number;
  readonly grantedAt: number;
}

/** Plays requests against a bucket until all are served, and says when each was. */
async function play(rate: number, requests: readonly Request[], late = 0): Promise<Grant[]> {
  const clock = new VirtualClock();
  const timers: Clock = {
    now: () => clock.now(),
    mono: () => clock.mono(),
    after: (ms, fn) => clock.after(ms + late, fn),
  };
  const bucket = new TokenBucket(timers, rate);
  const grants: Grant[] = [];
  for (const [index, request] of requests.entries()) {
    clock.after(request.at, () => {
      void bucket.take(request.bytes, { priority: request.priority }).then(() => {
        grants.push({ ...request, index, grantedAt: clock.mono() });
      });
    });
  }
  await clock.run(() => grants.length === requests.length, 1e9);
  expect(bucket.waiting).toBe(0);
  return grants;
}

/** When a server of this rate that never idles while it has work would be done with everything. */
function idealEnd(rate: number, requests: readonly Request[]): number {
  let end = 0;
  for (const { at, bytes } of [...requests].sort((a, b) => a.at - b.at)) {
    end = Math.max(end, at) + (bytes / rate) * 1000;
  }
  return end;
}

const rates = fc.integer({ min: 100, max: 1_000_000 });
/** Bytes as a share of a burst, so that small and large requests come up at every rate. */
const plan = (priorities: number) =>
  fc.array(
    fc.record({
      at: fc.integer({ min: 0, max: 2_000 }),
      share: fc.double({ min: 0.01, max: 6, noNaN: true }),
      priority: fc.nat({ max: priorities - 1 }),
    }),
    { minLength: 1, maxLength: 14 },
  );
const sized = (rate: number, plan: readonly { at: number; share: number; priority: number }[]): Request[] =>
  plan.map(({ at, share, priority }) => ({
    at,
    bytes: Math.max(1, Math.round((share * rate * BURST_MS) / 1000)),
    priority,
  }));

describe('TokenBucket', () => {
  it('gives out no more than its rate, from the start and over any window, whatever is asked', async () => {
    await fc.assert(
      fc.asyncProperty(rates, plan(1), async (rate, shares) => {
        const requests = sized(rate, shares);
        const grants = await play(rate, requests);
        const largest = Math.max(...requests.map((request) => request.bytes));
        let given = 0;
        for (const [to, last] of grants.entries()) {
          given += last.bytes;
          expect(given).toBeLessThanOrEqual((rate * last.grantedAt) / 1000 + 0.01);
          let within = 0;
          for (let from = to; from >= 0; from--) {
            const grant = grants[from];
            if (grant === undefined) continue;
            within += grant.bytes;
            const windowMs = last.grantedAt - grant.grantedAt + BURST_MS;
            expect(within).toBeLessThanOrEqual((rate * windowMs) / 1000 + largest + 0.01);
          }
        }
      }),
      { seed: 42, numRuns: 150 },
    );
  });

  it('serves everything, as early as the rate lets it', async () => {
    await fc.assert(
      fc.asyncProperty(rates, plan(3), async (rate, shares) => {
        const requests = sized(rate, shares);
        const grants = await play(rate, requests);
        expect(grants.at(-1)?.grantedAt).toBeLessThanOrEqual(idealEnd(rate, requests) + 2);
      }),
      { seed: 42, numRuns: 150 },
    );
  });

  it('lets nobody pass who waits behind a lower number, or came later with the same', async () => {
    await fc.assert(
      fc.asyncProperty(rates, plan(3), async (rate, shares) => {
        const grants = await play(rate, sized(rate, shares));
        for (const [order, grant] of grants.entries()) {
          for (const later of grants.slice(order + 1)) {
            const stoodBefore = later.at < grant.at || (later.at === grant.at && later.index < grant.index);
            if (later.priority === grant.priority) expect(stoodBefore).toBe(false);
            if (later.priority < grant.priority) expect(later.at).toBeGreaterThanOrEqual(grant.grantedAt);
          }
        }
      }),
      { seed: 42, numRuns: 150 },
    );
  });

  it('keeps its rate though every timer comes late', async () => {
    const requests = Array.from({ length: 5 }, () => ({ at: 0, bytes: 10_000, priority: 0 }));
    const grants = await play(10_000, requests, 40);
    expect(grants.at(-1)?.grantedAt).toBeGreaterThanOrEqual(5_000);
    expect(grants.at(-1)?.grantedAt).toBeLessThanOrEqual(5_100);
  });

  it('saves up one burst and no more', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, 1_000);
    clock.advance(60_000);
    await bucket.take(100);
    let passed = false;
    void bucket.take(1).then(() => {
      passed = true;
    });
    await settled();
    expect(passed).toBe(false);
    clock.advance(1);
    await settled();
    expect(passed).toBe(true);
    expect(clock.timers).toBe(0);
  });

  it('hands on what a request had paid when it leaves', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, 1_000);
    const controller = new AbortController();
    const leaving = bucket.take(1_000, { signal: controller.signal });
    let passed = false;
    void bucket.take(100).then(() => {
      passed = true;
    });
    clock.advance(500);
    controller.abort(new Error('left'));
    await expect(leaving).rejects.toThrow('left');
    await settled();
    expect(passed).toBe(true);
    // One burst was handed on, not the half second that was paid.
    const next = bucket.take(50);
    expect(bucket.waiting).toBe(1);
    clock.advance(50);
    await next;
    expect(clock.timers).toBe(0);
  });

  it('leaves no timer and nobody in line after an abort, and starts nothing after one', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, 10);
    const controller = new AbortController();
    const leaving = bucket.take(1_000, { signal: controller.signal });
    controller.abort(new Error('left'));
    await expect(leaving).rejects.toThrow('left');
    await expect(bucket.take(1, { signal: controller.signal })).rejects.toThrow('left');
    expect([bucket.waiting, clock.timers]).toEqual([0, 0]);
  });

  it('gives nothing at rate 0, without a timer, and goes on when the rate comes back', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, 0);
    const waiting = bucket.take(100);
    clock.advance(3_600_000);
    expect([bucket.waiting, clock.timers]).toEqual([1, 0]);
    bucket.setRate(1_000);
    // The hour at rate 0 saved nothing up.
    clock.advance(99);
    expect(bucket.waiting).toBe(1);
    clock.advance(1);
    await waiting;
  });

  it('lets everybody pass at once when the cap is taken off', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, 1);
    const all = Promise.all([bucket.take(1e9), bucket.take(1e9, { priority: 5 })]);
    bucket.setRate(undefined);
    await all;
    await bucket.take(1e12);
    expect([bucket.rate, bucket.waiting, clock.timers]).toEqual([undefined, 0, 0]);
  });

  it('uses a new rate for whoever is in line', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(clock, 1_000);
    const waiting = bucket.take(1_100);
    clock.advance(100);
    bucket.setRate(10_000);
    clock.advance(99);
    expect(bucket.waiting).toBe(1);
    clock.advance(1);
    await waiting;
  });
});
