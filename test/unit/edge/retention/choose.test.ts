import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Candidate, chooseVictims } from '../../../../edge/retention/choose.ts';
import { digestOf } from '../../../../shared/ids.ts';

const DAY_MS = 24 * 60 * 60_000;
const NOW = 100 * DAY_MS;
const blob = (name: string, changes: Partial<Candidate> = {}): Candidate => ({
  key: digestOf(Buffer.from(name)),
  bytes: 10,
  lastUsed: NOW - DAY_MS,
  keepers: 0,
  doubtful: false,
  ...changes,
});
const want = { bytes: 10, minReplicas: 2, now: NOW, nothingElse: true };

describe('choosing victims', () => {
  it('takes what enough neighbours keep before what one keeps, and that before last copies', () => {
    const kept = blob('kept', { keepers: 2, lastUsed: NOW - 1_000 });
    const spare = blob('spare', { keepers: 1, lastUsed: NOW - 5 * DAY_MS });
    const last = blob('last', { lastUsed: NOW - 90 * DAY_MS });
    const all = [last, spare, kept];
    expect(chooseVictims(all, want).evict).toEqual([kept]);
    expect(chooseVictims(all, { ...want, bytes: 20 }).evict).toEqual([kept, spare]);
    expect(chooseVictims(all, { ...want, bytes: 30 }).evict).toEqual([kept, spare, last]);
  });

  it('leaves last copies alone while there is something else, and always where somebody was silent', () => {
    const last = blob('last');
    expect(chooseVictims([last], { ...want, nothingElse: false })).toEqual({ evict: [], short: 10 });
    expect(chooseVictims([blob('last', { doubtful: true })], want)).toEqual({ evict: [], short: 10 });
  });

  it('takes the one longest unused first', () => {
    const old = blob('old', { keepers: 2, lastUsed: NOW - 9 * DAY_MS });
    const young = blob('young', { keepers: 2 });
    expect(chooseVictims([young, old], want).evict).toEqual([old]);
  });

  it('keeps to its rules for any candidates', () => {
    const candidates = fc.array(
      fc.record({
        bytes: fc.integer({ min: 1, max: 100 }),
        age: fc.integer({ min: 0, max: 50 * DAY_MS }),
        keepers: fc.integer({ min: 0, max: 4 }),
        doubtful: fc.boolean(),
      }),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(candidates, fc.integer({ min: 1, max: 400 }), fc.boolean(), (list, bytes, nothingElse) => {
        const all = list.map(({ age, ...rest }, index) =>
          blob(String(index), { ...rest, lastUsed: NOW - age }),
        );
        const { evict, short } = chooseVictims(all, { ...want, bytes, nothingElse });
        const freed = evict.reduce((sum, each) => sum + each.bytes, 0);
        const lasts = evict.filter(({ keepers }) => keepers === 0);
        const left = all.filter((each) => !evict.includes(each));
        expect(new Set(evict).size).toBe(evict.length);
        expect(short).toBe(Math.max(0, bytes - freed));
        // Nothing goes beyond what was asked for.
        expect(freed - (evict.at(-1)?.bytes ?? 0)).toBeLessThan(bytes);
        if (lasts.length > 0) {
          expect(nothingElse && lasts.every(({ doubtful }) => !doubtful)).toBe(true);
          expect(left.some(({ keepers }) => keepers > 0)).toBe(false);
        }
        if (short > 0) expect(left.some(({ keepers }) => keepers > 0)).toBe(false);
      }),
      { seed: 42, numRuns: 2_000 },
    );
  });
});
