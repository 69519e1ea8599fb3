import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pressureOf } from '../../../../edge/retention/pressure.ts';

const GIB = 1024 ** 3;

describe('pressure', () => {
  it('is none below quota and mark', () => {
    const use = { storeBytes: 7 * GIB, totalBytes: 100 * GIB, freeBytes: 26 * GIB };
    expect(pressureOf(use, 8 * GIB)).toEqual({ toFree: 0, why: undefined });
    expect(pressureOf(use, undefined)).toEqual({ toFree: 0, why: undefined });
  });

  it('frees a little more than a quota asks for', () => {
    const use = { storeBytes: 9 * GIB, totalBytes: 100 * GIB, freeBytes: 80 * GIB };
    expect(pressureOf(use, 8 * GIB)).toEqual({ toFree: Math.ceil(9 * GIB - 7.2 * GIB), why: 'quota' });
  });

  it('gives way when others fill the disk', () => {
    const use = { storeBytes: 9 * GIB, totalBytes: 100 * GIB, freeBytes: 24 * GIB };
    expect(pressureOf(use, undefined)).toEqual({ toFree: 6 * GIB, why: 'disk' });
  });

  it('never asks for more than there is, nor for less than nothing, and ends once it was followed', () => {
    const bytes = fc.integer({ min: 0, max: 1_000 * GIB });
    fc.assert(
      fc.property(bytes, bytes, bytes, fc.option(bytes, { nil: undefined }), (store, total, free, quota) => {
        const use = {
          storeBytes: Math.min(store, total),
          totalBytes: total,
          freeBytes: Math.min(free, total),
        };
        const { toFree, why } = pressureOf(use, quota);
        const after = { ...use, storeBytes: use.storeBytes - toFree, freeBytes: use.freeBytes + toFree };
        return (
          toFree >= 0 &&
          toFree <= use.storeBytes &&
          toFree > 0 === (why !== undefined) &&
          (pressureOf(after, quota).toFree === 0 || after.storeBytes === 0)
        );
      }),
      { seed: 42, numRuns: 2_000 },
    );
  });
});
