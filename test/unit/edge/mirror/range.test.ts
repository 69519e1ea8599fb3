import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { contentRange, parseRange } from '../../../../edge/mirror/range.ts';

const NONE = { kind: 'none' };
const ranges = (...list: [number, number][]): unknown => ({
  kind: 'ranges',
  ranges: list.map(([start, end]) => ({ start, end })),
});

describe('parseRange', () => {
  const table: [string | undefined, number, unknown][] = [
    [undefined, 100, NONE],
    ['', 100, NONE],
    ['bytes=0-0', 100, ranges([0, 1])],
    ['bytes=0-1', 100, ranges([0, 2])],
    ['bytes=10-', 100, ranges([10, 100])],
    ['bytes=0-', 100, ranges([0, 100])],
    ['bytes=-10', 100, ranges([90, 100])],
    ['bytes=-1000', 100, ranges([0, 100])],
    ['bytes=90-1000', 100, ranges([90, 100])],
    ['bytes=99-99', 100, ranges([99, 100])],
    ['BYTES=1-2', 100, ranges([1, 3])],
    ['bytes=0-1,5-6,-2', 100, ranges([0, 2], [5, 7], [98, 100])],
    ['bytes= 0-1 ,\t5-6', 100, ranges([0, 2], [5, 7])],
    ['bytes=,0-1,,', 100, ranges([0, 2])],
    ['bytes=5-9,0-9,5-9', 100, ranges([5, 10], [0, 10], [5, 10])],
    ['bytes=0-1,200-300', 100, ranges([0, 2])],
    ['bytes=0-99999999999999999999999', 100, ranges([0, 100])],
    ['bytes=100-', 100, { kind: 'unsatisfiable' }],
    ['bytes=100-200,300-', 100, { kind: 'unsatisfiable' }],
    ['bytes=-0', 100, { kind: 'unsatisfiable' }],
    ['bytes=99999999999999999999999-', 100, { kind: 'unsatisfiable' }],
    ['bytes=0-', 0, { kind: 'unsatisfiable' }],
    ['bytes=-5', 0, { kind: 'unsatisfiable' }],
    ['bytes=5-2', 100, NONE],
    ['bytes=0-1,5-2', 100, NONE],
    ['bytes=', 100, NONE],
    ['bytes=,', 100, NONE],
    ['bytes=-', 100, NONE],
    ['bytes=a-b', 100, NONE],
    ['bytes=0x1-2', 100, NONE],
    ['bytes=1 - 2', 100, NONE],
    ['bytes=--5', 100, NONE],
    ['bytes=+1-2', 100, NONE],
    ['bytes=1.5-2', 100, NONE],
    ['bytes 0-1', 100, NONE],
    ['items=0-1', 100, NONE],
    ['0-1', 100, NONE],
    ['bytes=0-1,2-3,4-5,6-7,8-9', 100, { kind: 'tooMany' }],
  ];
  it.each(table)('%j of %i bytes', (header, size, wanted) => {
    expect(parseRange(header, size, 4)).toEqual(wanted);
  });

  it('never throws, and never leaves the blob, whatever the header', () => {
    const chars = fc.constantFrom('0', '1', '7', '9', '-', ',', ' ', '\t', '=', 'b', '.');
    fc.assert(
      fc.property(fc.array(chars, { maxLength: 40 }), fc.nat(2000), (tail, size) => {
        const asked = parseRange(`bytes=${tail.join('')}`, size, 8);
        if (asked.kind !== 'ranges') return;
        expect(asked.ranges.length).toBeLessThanOrEqual(8);
        for (const { start, end } of asked.ranges) {
          expect(start).toBeGreaterThanOrEqual(0);
          expect(start).toBeLessThan(end);
          expect(end).toBeLessThanOrEqual(size);
        }
      }),
      { seed: 42, numRuns: 2000 },
    );
  });

  it('selects the bytes that the header names, one by one', () => {
    const spec = fc.oneof(
      fc
        .tuple(fc.nat(60), fc.nat(60))
        .map(([first, more]) => ({ text: `${first}-${first + more}`, first, last: first + more })),
      fc.nat(60).map((first) => ({ text: `${first}-`, first, last: Number.POSITIVE_INFINITY })),
      fc.nat(60).map((length) => ({ text: `-${length}`, length })),
    );
    fc.assert(
      fc.property(fc.array(spec, { minLength: 1, maxLength: 6 }), fc.nat(50), (specs, size) => {
        const wanted = specs
          .map((one) =>
            [...Array(size).keys()].filter((byte) =>
              'length' in one ? byte >= size - one.length : byte >= one.first && byte <= one.last,
            ),
          )
          .filter((bytes) => bytes.length > 0);
        const asked = parseRange(`bytes=${specs.map((one) => one.text).join(',')}`, size, 6);
        if (wanted.length === 0) expect(asked.kind).toBe('unsatisfiable');
        else {
          expect(asked.kind).toBe('ranges');
          if (asked.kind !== 'ranges') return;
          const got = asked.ranges.map(({ start, end }) =>
            [...Array(end - start).keys()].map((byte) => byte + start),
          );
          expect(got).toEqual(wanted);
        }
      }),
      { seed: 42, numRuns: 500 },
    );
  });
});

describe('contentRange', () => {
  it('has the last position included', () => {
    expect(contentRange({ start: 0, end: 500 }, 1234)).toBe('bytes 0-499/1234');
  });
});
