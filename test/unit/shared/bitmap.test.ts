import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Bitmap } from '../../../shared/bitmap.ts';

/** What a bitmap is, said as plainly as possible. */
class Model {
  readonly bits = new Set<number>();
  readonly size: number;
  constructor(size: number) {
    this.size = size;
  }
  get leading(): number {
    return this.nextUnset(0);
  }
  nextUnset(from: number): number {
    for (let bit = Math.max(0, from); bit < this.size; bit++) if (!this.bits.has(bit)) return bit;
    return this.size;
  }
}

function pack(size: number, bits: Iterable<number>): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(size / 8));
  for (const bit of bits) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (1 << (bit & 7));
  return bytes;
}

function agree(map: Bitmap, model: Model): void {
  expect(map.count).toBe(model.bits.size);
  expect(map.leading).toBe(model.leading);
  expect(map.full).toBe(model.bits.size === model.size);
  expect(map.toBytes()).toEqual(pack(model.size, model.bits));
}

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('set' as const), at: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('clear' as const), at: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('or' as const), bits: fc.array(fc.nat(), { maxLength: 20 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('all' as const) }) },
);

describe('Bitmap', () => {
  it('is a set of numbers, whatever is done to it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.array(step, { maxLength: 80 }), (size, steps) => {
        const map = new Bitmap(size);
        const model = new Model(size);
        for (const each of steps) {
          if (each.kind === 'set') {
            const bit = each.at % size;
            expect(map.set(bit)).toBe(!model.bits.has(bit));
            model.bits.add(bit);
          } else if (each.kind === 'clear') {
            const bit = each.at % size;
            expect(map.clear(bit)).toBe(model.bits.delete(bit));
          } else if (each.kind === 'or') {
            const bits = each.bits.map((bit) => bit % size);
            map.or(pack(size, bits));
            for (const bit of bits) model.bits.add(bit);
          } else {
            map.setAll();
            for (let bit = 0; bit < size; bit++) model.bits.add(bit);
          }
          agree(map, model);
        }
        for (let bit = -2; bit < size + 3; bit++) {
          expect(map.has(bit)).toBe(model.bits.has(bit));
          expect(map.nextUnset(bit)).toBe(model.nextUnset(bit));
        }
      }),
      { seed: 42, numRuns: 300 },
    );
  });

  it('comes back from its bytes, and drops bits past its end', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 70 }),
        fc.uint8Array({ minLength: 9, maxLength: 9 }),
        (size, raw) => {
          const bytes = raw.slice(0, Math.ceil(size / 8));
          const model = new Model(size);
          for (let bit = 0; bit < size; bit++)
            if (((raw[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0) model.bits.add(bit);
          const map = new Bitmap(size, bytes);
          agree(map, model);
          agree(new Bitmap(size, map.toBytes()), model);
        },
      ),
      { seed: 42, numRuns: 300 },
    );
  });

  it('shares nothing with its clone or its bytes', () => {
    const map = new Bitmap(10);
    const bytes = map.toBytes();
    const clone = map.clone();
    map.set(3);
    expect(clone.has(3)).toBe(false);
    expect(clone.count).toBe(0);
    expect([...bytes]).toEqual([0, 0]);
    bytes[0] = 255;
    expect(map.count).toBe(1);
  });

  it.each([-1, 10, 1.5, Number.NaN])('refuses bit %s of 10', (bit) => {
    const map = new Bitmap(10);
    expect(() => map.set(bit)).toThrow(RangeError);
    expect(() => map.clear(bit)).toThrow(RangeError);
  });

  it('refuses bytes of another size', () => {
    expect(() => new Bitmap(9, new Uint8Array(1))).toThrow('9 bits takes 2 bytes, not 1');
    expect(() => new Bitmap(9).or(new Uint8Array(3))).toThrow(RangeError);
  });

  it('of no bits is full', () => {
    const map = new Bitmap(0);
    expect([map.full, map.count, map.leading, map.nextUnset(0)]).toEqual([true, 0, 0, 0]);
  });
});
