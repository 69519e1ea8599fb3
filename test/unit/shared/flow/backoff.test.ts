import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
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
});
