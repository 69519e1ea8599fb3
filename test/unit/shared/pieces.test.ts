import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  layoutOf,
  MAX_BLOB_BYTES,
  pieceLength,
  pieceRange,
  pieceSizeFor,
  piecesOfRange,
} from '../../../shared/pieces.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

describe('pieces', () => {
  // Members of one pool must agree: a change of this table is a change of the protocol.
  it.each([
    [0, 0.25 * MIB],
    [8 * MIB, 0.25 * MIB],
    [8 * MIB + 1, MIB],
    [2 * GIB, MIB],
    [2 * GIB + 1, 4 * MIB],
    [16 * GIB, 4 * MIB],
    [16 * GIB + 1, 8 * MIB],
    [MAX_BLOB_BYTES, 8 * MIB],
  ])('a blob of %d bytes has pieces of %d', (size, pieceSize) => {
    expect(pieceSizeFor(size)).toBe(pieceSize);
    expect(layoutOf(size).pieceSize).toBe(pieceSize);
  });

  it('cover a blob exactly: no gap, no overlap, only the last one short', () => {
    fc.assert(
      fc.property(fc.nat({ max: 10_000 }), fc.integer({ min: 1, max: 700 }), (size, pieceSize) => {
        const layout = layoutOf(size, pieceSize);
        let at = 0;
        for (let piece = 0; piece < layout.pieceCount; piece++) {
          const { start, end } = pieceRange(layout, piece);
          expect(start).toBe(at);
          expect(pieceLength(layout, piece)).toBe(end - start);
          if (piece < layout.pieceCount - 1) expect(end - start).toBe(pieceSize);
          else expect(end - start).toBeGreaterThan(0);
          at = end;
        }
        expect(at).toBe(size);
      }),
      { seed: 42 },
    );
  });

  it('of a range are those that touch it, and no other', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5_000 }),
        fc.integer({ min: 1, max: 700 }),
        fc.nat(),
        fc.nat(),
        (size, pieceSize, a, b) => {
          const layout = layoutOf(size, pieceSize);
          const start = a % size;
          const end = start + 1 + (b % (size - start));
          const { first, last } = piecesOfRange(layout, start, end);
          for (let piece = 0; piece < layout.pieceCount; piece++) {
            const range = pieceRange(layout, piece);
            expect(piece >= first && piece <= last).toBe(range.start < end && range.end > start);
          }
        },
      ),
      { seed: 42 },
    );
  });

  it('the largest blob has a bitmap of 16 KiB, and exact offsets', () => {
    const layout = layoutOf(MAX_BLOB_BYTES);
    expect(layout.pieceCount / 8).toBe(16 * 1024);
    expect(pieceRange(layout, layout.pieceCount - 1).end).toBe(MAX_BLOB_BYTES);
  });

  it('an empty blob has none', () => {
    expect(layoutOf(0).pieceCount).toBe(0);
  });
});
