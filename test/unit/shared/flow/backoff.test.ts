import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RECONNECT } from '../../../../edge/sync/constants.ts';
import { Backoff } from '../../../../shared/flow/backoff.ts';

describe('Backoff', () => {
  it('doubles its ceiling up to the most, and starts again after a reset', () => {
    const backoff = new Backoff({ baseMs: 100, maxMs: 1_000, random: () => 0.5 });
    expect(Array.from({ length: 6 }, () => backoff.next())).toEqual([50, 100, 200, 400, 500, 500]);
    expect(backoff.attempts).toBe(6);
    backoff.reset();
    expect(backoff.attempts).toBe(0);
    expect(backoff.next()).toBe(50);
  });

  it('stays within its bounds for ever', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 10_000 }),
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (baseMs, maxMs, jitter) => {
          const backoff = new Backoff({ baseMs, maxMs, random: () => jitter });
          for (let attempt = 0; attempt < 2_000; attempt++) {
            const ms = backoff.next();
            if (!(ms >= 0 && ms <= Math.min(maxMs, baseMs * 2 ** attempt)))
              expect.fail(`${ms} at ${attempt}`);
          }
        },
      ),
      { seed: 42 },
    );
  });

  it('uses the whole span, so that a pool does not come back as one', () => {
    const delays = Array.from({ length: 200 }, () => new Backoff({ baseMs: 1_000, maxMs: 60_000 }).next());
    expect(Math.min(...delays)).toBeLessThan(200);
    expect(Math.max(...delays)).toBeGreaterThan(800);
  });

  it('brings a thousand back evenly who lost the same thing in the same moment, however long it is away', () => {
    let seed = 7;
    const random = (): number => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647;
    };
    for (const awayMs of [300, 2_000, 5_000, 9_000, 15_000, 30_000, 120_000, 3_600_000]) {
      const back = Array.from({ length: 1_000 }, () => {
        const backoff = new Backoff({ ...RECONNECT, random });
        let at = backoff.next();
        while (at < awayMs) at += backoff.next();
        return at - awayMs;
      });
      const first = Math.min(...back);
      const seconds = new Map<number, number>();
      for (const at of back) {
        const second = Math.floor((at - first) / 1_000);
        seconds.set(second, (seconds.get(second) ?? 0) + 1);
      }
      const mean = back.length / (Math.max(...seconds.keys()) + 1);
      expect(Math.max(...seconds.values()) / mean).toBeLessThan(3);
      expect(Math.max(...back)).toBeLessThanOrEqual(RECONNECT.maxMs);
    }
  });
});
