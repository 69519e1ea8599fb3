import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ItemSplitter } from '../../../../cloud/kube/item-splitter.ts';

function split(
  text: string,
  cuts: readonly number[],
  maxBytes = 1_000_000,
): { rest: unknown; items: unknown[] } {
  const bytes = Buffer.from(text);
  const items: unknown[] = [];
  const splitter = new ItemSplitter((item) => items.push(item), maxBytes);
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const place of [...places, bytes.length]) {
    splitter.push(bytes.subarray(from, place));
    from = place;
  }
  return { rest: splitter.end(), items };
}

describe('ItemSplitter', () => {
  it('gives what JSON.parse gives, however the bytes are cut', () => {
    const item = fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 3 }));
    const list = fc.record({
      kind: fc.string(),
      metadata: fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 })),
      items: fc.array(item, { maxLength: 6 }),
      tail: fc.jsonValue({ maxDepth: 2 }),
    });
    const spaces = fc.constantFrom(0, 2);
    fc.assert(
      fc.property(list, spaces, fc.array(fc.nat(), { maxLength: 8 }), (value, indent, cuts) => {
        const text = JSON.stringify(value, null, indent);
        const parsed = JSON.parse(text) as { items: unknown[] };
        const { rest, items } = split(text, cuts);
        expect(items).toEqual(parsed.items);
        expect(rest).toEqual({ ...parsed, items: [] });
      }),
      { seed: 42, numRuns: 400 },
    );
  });

  it('is not misled by keys and values that look like it', () => {
    const text =
      '{"a":"items","b":["x"],"metadata":{"items":[{"n":1}]},"items":[{"items":[{}],"s":"]}\\""},{}],"z":[{}]}';
    expect(split(text, [10, 50])).toEqual({
      rest: { ...(JSON.parse(text) as object), items: [] },
      items: [{ items: [{}], s: ']}"' }, {}],
    });
    expect(split('{"items":null}', [])).toEqual({ rest: { items: null }, items: [] });
  });

  it('refuses what is too large, and what ends too early', () => {
    const large = JSON.stringify({ items: [{ text: 'x'.repeat(2_000) }] });
    expect(() => split(large, [100], 1_000)).toThrow(RangeError);
    expect(
      split(JSON.stringify({ items: Array.from({ length: 50 }, () => ({ a: 'x'.repeat(50) })) }), [], 100)
        .items,
    ).toHaveLength(50);
    expect(() => split('{"items":[{"a":1}', [])).toThrow(SyntaxError);
  });
});
