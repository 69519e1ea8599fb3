import { describe, expect, it } from 'vitest';
import { Interests } from '../../../../edge/transfer/interest.ts';
import { Bitmap } from '../../../../shared/bitmap.ts';

describe('the interests in a blob', () => {
  it('cover what is still to be read, or all of it', () => {
    const interests = new Interests();
    const range = { mode: 'range', priority: 0, cursor: 2, end: 4 } as const;
    const leave = interests.add({ ...range });
    expect([1, 2, 3, 4].map((piece) => interests.cover(piece))).toEqual([false, true, true, false]);
    const leaveWhole = interests.add({ mode: 'whole', priority: 1, cursor: 0, end: 8 });
    expect(interests.cover(7)).toBe(true);
    expect(interests.wanted(new Bitmap(8), 1)[0]).toMatchObject({ piece: 2, priority: 0 });
    leave();
    expect(interests.wanted(new Bitmap(8), 1)[0]).toMatchObject({ piece: 0, priority: 1 });
    leaveWhole();
    expect(interests.size).toBe(0);
    expect(interests.cover(2)).toBe(false);
  });
});
