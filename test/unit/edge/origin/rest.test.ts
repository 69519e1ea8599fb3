import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { READ_BYTES, REST_MAX_MS } from '../../../../edge/origin/constants.ts';
import { restMs } from '../../../../edge/origin/rest.ts';

const mbit = (rate: number): number => (rate * 1e6) / 8 / 1000;

describe('restMs', () => {
  it('reads on while reads are large, as on a fast network', () => {
    expect(restMs(READ_BYTES, mbit(1000), 0)).toBe(0);
  });

  it('reads on where a packet comes now and then: nothing comes together in 30 ms of 256 kbit/s', () => {
    expect(restMs(1448, mbit(0.256), 0)).toBe(0);
  });

  it('rests at 12 Mbit/s, about as long as a good read takes to come', () => {
    expect(restMs(1448, mbit(12), 0)).toBeGreaterThanOrEqual(20);
  });

  it('ends rests of several streams at one moment', () => {
    const ends = [1001.2, 1004.9, 1008.3].map((now) => now + restMs(1448, mbit(12), now));
    for (const end of ends) expect(Math.round(end * 1000) % 10_000).toBe(0);
  });

  it('is never longer than its bound, and never negative', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e6 }),
        fc.double({ min: 0, max: 1e6, noNaN: true }),
        fc.double({ min: 0, max: 1e9, noNaN: true }),
        (read, rate, now) => {
          const ms = restMs(read, rate, now);
          expect(ms).toBeGreaterThanOrEqual(0);
          expect(ms).toBeLessThanOrEqual(REST_MAX_MS);
        },
      ),
      { seed: 42 },
    );
  });
});
