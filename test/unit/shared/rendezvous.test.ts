import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { first, type Ranked, rank } from '../../../shared/rendezvous.ts';

const members = fc.uniqueArray(
  fc.record({ node: fc.stringMatching(/^[a-z0-9]{1,8}$/), weight: fc.integer({ min: 0, max: 5 }) }),
  { selector: (member) => member.node, maxLength: 12 },
);
const names = (ranked: readonly Ranked[]): string[] => ranked.map((member) => member.node);
const nodes = (count: number, weight = 1): Ranked[] =>
  Array.from({ length: count }, (_, i) => ({ node: `edge-${i + 1}`, weight }));
const items = (count: number): string[] =>
  Array.from({ length: count }, (_, i) => `sha256:${'ab'.repeat(32)}#${i}`);

function owned(of: readonly Ranked[], over: readonly string[]): Map<string, number> {
  const counts = new Map(of.map((member) => [member.node, 0]));
  for (const item of over) {
    const owner = first(of, item)?.node ?? '';
    counts.set(owner, (counts.get(owner) ?? 0) + 1);
  }
  return counts;
}

function chiSquare(counts: Iterable<number>, expected: number): number {
  let sum = 0;
  for (const count of counts) sum += (count - expected) ** 2 / expected;
  return sum;
}

describe('rank', () => {
  it('does not depend on the order that members come in', () => {
    fc.assert(
      fc.property(
        members.chain((all) =>
          fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length })),
        ),
        fc.string(),
        ([all, shuffled], item) => {
          expect(names(rank(shuffled, item))).toEqual(names(rank(all, item)));
        },
      ),
      { seed: 42, numRuns: 500 },
    );
  });

  it('has every member of weight once, and nobody else', () => {
    fc.assert(
      fc.property(members, fc.string(), (all, item) => {
        const ranked = rank(all, item);
        expect(names(ranked).sort()).toEqual(names(all.filter((member) => member.weight > 0)).sort());
        expect(first(all, item)).toBe(ranked[0]);
      }),
      { seed: 42 },
    );
  });

  it('keeps the order of the others when one leaves: only its own items move', () => {
    fc.assert(
      fc.property(members, fc.nat(), fc.string(), (all, pick, item) => {
        const leaver = all[pick % Math.max(1, all.length)]?.node;
        const rest = all.filter((member) => member.node !== leaver);
        expect(names(rank(rest, item))).toEqual(names(rank(all, item)).filter((name) => name !== leaver));
      }),
      { seed: 42, numRuns: 500 },
    );
  });

  it('takes from the others only what the grown member gains when its weight grows', () => {
    const all = nodes(8);
    const grown = all.map((member, i) => (i === 3 ? { ...member, weight: 3 } : member));
    let moved = 0;
    for (const item of items(2_000)) {
      const before = first(all, item)?.node;
      const after = first(grown, item)?.node;
      if (before === after) continue;
      moved++;
      expect(after).toBe('edge-4');
    }
    expect(moved).toBeGreaterThan(0);
  });

  it.each([2, 7, 20, 100])('is even over %d members', (count) => {
    const perNode = 300;
    const counts = owned(nodes(count), items(count * perNode));
    // The statistic's mean is its degrees of freedom, its variance twice that; six sigmas leave chance no say.
    const freedom = count - 1;
    expect(chiSquare(counts.values(), perNode)).toBeLessThan(freedom + 6 * Math.sqrt(2 * freedom) + 12);
    for (const owns of counts.values()) expect(owns).toBeGreaterThan(perNode * 0.7);
    for (const owns of counts.values()) expect(owns).toBeLessThan(perNode * 1.3);
  });

  it('spreads the items of one that left evenly over those that stay', () => {
    const all = nodes(11);
    const orphans = items(11_000).filter((item) => first(all, item)?.node === 'edge-1');
    const counts = owned(all.slice(1), orphans);
    expect(chiSquare(counts.values(), orphans.length / 10)).toBeLessThan(9 + 6 * Math.sqrt(18) + 12);
  });

  it('gives work in proportion to weight', () => {
    const all = [1, 2, 4, 0.5].map((weight, i) => ({ node: `edge-${i}`, weight }));
    const counts = owned(all, items(15_000));
    for (const member of all) {
      const share = (counts.get(member.node) ?? 0) / 15_000;
      expect(share).toBeGreaterThan((member.weight / 7.5) * 0.9);
      expect(share).toBeLessThan((member.weight / 7.5) * 1.1);
    }
  });

  // Members of different versions must compute the same order: a change here is a change of the protocol.
  it('stays what it was', () => {
    expect(items(12).map((item) => first(nodes(5), item)?.node)).toMatchInlineSnapshot(`
      [
        "edge-5",
        "edge-2",
        "edge-4",
        "edge-2",
        "edge-4",
        "edge-3",
        "edge-2",
        "edge-3",
        "edge-3",
        "edge-4",
        "edge-2",
        "edge-2",
      ]
    `);
  });

  it('of nobody is nobody', () => {
    expect(first([], 'x')).toBeUndefined();
    expect(
      rank(
        [
          { node: 'a', weight: 0 },
          { node: 'b', weight: -1 },
        ],
        'x',
      ),
    ).toEqual([]);
  });
});
