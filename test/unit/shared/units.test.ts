import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatBytes, parseBytes, parseDuration, parseRate } from '../../../shared/units.ts';

const INVALID = expect.objectContaining({ code: 'INVALID_ARGUMENT' });

describe('parseBytes', () => {
  it.each([
    ['0', 0],
    ['1024', 1024],
    ['7B', 7],
    ['8Gi', 8 * 1024 ** 3],
    ['8GiB', 8 * 1024 ** 3],
    ['500MB', 500e6],
    [' 1.5 KiB ', 1536],
    ['2T', 2e12],
  ])('reads %j as %d', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });
});

describe('parseRate', () => {
  it.each([
    ['20Mbit', 2_500_000],
    ['256kbit', 32_000],
    ['8bit', 1],
    ['1Gbit', 125e6],
    ['2MB', 2e6],
    ['1Mi', 1024 ** 2],
    ['1000', 1000],
  ])('reads %j as %d bytes a second', (text, rate) => {
    expect(parseRate(text)).toBe(rate);
  });

  it.each(['0', '0Mbit', '7bit', '0.5'])('refuses %j: a cap of nothing is a mistake', (text) => {
    expect(() => parseRate(text)).toThrow(INVALID);
  });
});

describe('parseDuration', () => {
  it.each([
    ['0', 0],
    ['500ms', 500],
    ['30s', 30_000],
    ['1.5m', 90_000],
    ['1h', 3_600_000],
    ['2d', 172_800_000],
  ])('reads %j as %d ms', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it('wants a unit', () => {
    expect(() => parseDuration('30')).toThrow(INVALID);
  });
});

describe.each([
  ['parseBytes', parseBytes],
  ['parseRate', parseRate],
  ['parseDuration', parseDuration],
])('%s', (_, parse) => {
  it.each([
    '',
    'x',
    'Gi',
    '-1s',
    '-1Gi',
    '1e3',
    '1.',
    '.5',
    '1,5MB',
    '1 2',
    '0x10',
    'NaN',
    'Infinity',
    '5 parsecs',
    '5gi',
    // Names that every object has.
    '5constructor',
    '5toString',
    '5hasOwnProperty',
    `${'9'.repeat(400)}`,
    `${'9'.repeat(20)}T`,
    `${'9'.repeat(20)}d`,
  ])('refuses %j', (text) => {
    expect(() => parse(text)).toThrow(INVALID);
  });

  it('answers a safe number or refuses, whatever it reads', () => {
    const text = fc.oneof(
      fc.string(),
      fc
        .tuple(
          fc.oneof(fc.double({ min: 0, noNaN: true }), fc.nat()),
          fc.oneof(
            fc.constantFrom('', ' ', 'Gi', 'Mbit', 's', 'd', 'TiB'),
            fc.constantFrom(...Object.getOwnPropertyNames(Object.prototype)),
          ),
        )
        .map(([number, unit]) => `${number}${unit}`),
    );
    fc.assert(
      fc.property(text, (input) => {
        let value: number;
        try {
          value = parse(input);
        } catch (error) {
          expect(error).toEqual(INVALID);
          return;
        }
        expect(value).toBeGreaterThanOrEqual(0);
        expect(value).toBeLessThanOrEqual(Number.MAX_SAFE_INTEGER);
      }),
      { seed: 42, numRuns: 1000 },
    );
  });
});

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [1536, '1.5 kB'],
    [999_999, '1.0 MB'],
    [201_326_592, '201.3 MB'],
    [999_999_999, '1.0 GB'],
    [5e9, '5.0 GB'],
    [1024 ** 4, '1.1 TB'],
  ])('writes %d as %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it('never writes a thousand of a unit that has a next, and stays near the truth', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 999_000_000_000_000 }), (bytes) => {
        const text = formatBytes(bytes);
        expect(text).not.toMatch(/^1000/);
        expect(Math.abs(parseBytes(text.replace('kB', 'KB')) - bytes)).toBeLessThanOrEqual(
          bytes * 0.05 + 0.5,
        );
      }),
      { seed: 42, numRuns: 1000 },
    );
  });
});
