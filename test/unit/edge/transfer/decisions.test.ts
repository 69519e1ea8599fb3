import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { wantedPieces } from '../../../../edge/transfer/interest.ts';
import { fallbackRate, LeaseBook } from '../../../../edge/transfer/lease-book.ts';
import { SwarmView } from '../../../../edge/transfer/swarm-view.ts';
import { pickRecord } from '../../../../edge/transfer/tags.ts';
import { wanDepth, wanWindow } from '../../../../edge/transfer/window.ts';
import { Bitmap } from '../../../../shared/bitmap.ts';
import { digestOf, parseNodeName } from '../../../../shared/ids.ts';

const SEED = { seed: 42 };
const [me, a, b] = ['me', 'node-a', 'node-b'].map(parseNodeName);
if (me === undefined || a === undefined || b === undefined) throw new Error('no names');
const nothing = { weight: 1, whole: false, have: new Uint8Array(2), claimed: [] };

function view(gateways: readonly string[] = []): SwarmView {
  return new SwarmView({
    self: me as never,
    key: 'sha256:x',
    pieceCount: 16,
    liveness: { version: 0, isLive: () => true },
    gateways: new Set(gateways),
    weight: 1,
  });
}

describe('the window', () => {
  it('opens with what is in hand, is shared among blobs, and never exceeds its bound', () => {
    fc.assert(
      fc.property(fc.nat(100), fc.integer({ min: 1, max: 10 }), (leading, blobs) => {
        let sum = 0;
        for (let place = 0; place < blobs; place++) sum += wanWindow(leading, blobs, place);
        return sum === Math.min(16, 1 + 2 * leading);
      }),
      SEED,
    );
    expect([1, 2, 4, 8].map(wanDepth)).toEqual([4, 2, 2, 2]);
    // Three layers at once on a thin uplink: two first pieces side by side would each take twice as long.
    expect([0, 1, 2].map((place) => wanWindow(0, 3, place))).toEqual([1, 0, 0]);
    expect([0, 1, 2].map((place) => wanWindow(1, 3, place))).toEqual([1, 1, 1]);
  });

  it('wants pieces in order, none that is held, and of a range none past its end', () => {
    const have = new Bitmap(40);
    for (const piece of [0, 1, 3]) have.set(piece);
    const whole = wantedPieces(have, [{ mode: 'whole', priority: 0, cursor: 0, end: 40 }], 4);
    expect(whole.slice(0, 3)).toEqual([
      { piece: 2, priority: 0, wan: true },
      { piece: 4, priority: 0, wan: true },
      { piece: 5, priority: 0, wan: true },
    ]);
    expect(whole.filter(({ wan }) => wan)).toHaveLength(3);
    const range = wantedPieces(have, [{ mode: 'range', priority: 0, cursor: 7, end: 9 }], 4);
    expect(range.map(({ piece }) => piece)).toEqual([7, 8]);
  });
});

describe('whom to ask', () => {
  it('is who has the piece, then who claimed it, then its owner, then this node', () => {
    const seen = view();
    seen.setSelfRanked(true);
    expect(seen.choose(3, new Set())).toEqual({ kind: 'self' });
    seen.learn(a as never, { ...nothing, ranked: true, claimed: [3] }, 'announcement', 0);
    expect(seen.choose(3, new Set())).toEqual({ kind: 'claimant', node: a });
    seen.learn(b as never, { ...nothing, ranked: false, have: new Uint8Array([8, 0]) }, 'answer', 0);
    expect(seen.choose(3, new Set())).toEqual({ kind: 'holder', node: b });
    expect(seen.choose(3, new Set([a, b] as never))).toEqual({ kind: 'self' });
    expect(seen.choose(3, new Set([a, b, me] as never))).toBeUndefined();
  });

  it('an answer from before an announcement does not take the member out of the ranking', () => {
    const seen = view();
    seen.learn(a as never, { ...nothing, ranked: true }, 'announcement', 20);
    seen.learn(a as never, { ...nothing, ranked: false }, 'answer', 10);
    expect(seen.ranking(0)).toEqual([a]);
    seen.learn(a as never, { ...nothing, ranked: false }, 'answer', 30);
    expect(seen.ranking(0)).toEqual([]);
  });

  it('gateways alone go over the WAN', () => {
    const seen = view(['node-b']);
    seen.setSelfRanked(true);
    seen.learn(a as never, { ...nothing, ranked: true }, 'announcement', 0);
    expect(seen.ranking(5)).toEqual([b]);
    expect(seen.choose(5, new Set())).toEqual({ kind: 'owner', node: b });
  });
});

describe('the WAN cap', () => {
  it('is never exceeded, whoever has a lease, lost one, or has none', () => {
    const step = fc.record({ node: fc.nat(5), wants: fc.boolean(), lost: fc.boolean(), ms: fc.nat(2_500) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const roster = Array.from({ length: 6 }, (_, index) => `n${index}`);
        const pool = { cap: 600, roster };
        const book = new LeaseBook();
        const using = new Map<string, { rate: number; until: number }>();
        let now = 0;
        const rateOf = (node: string): number => {
          const lease = using.get(node);
          return lease !== undefined && lease.until > now ? lease.rate : fallbackRate(pool);
        };
        for (const { node: index, wants, lost, ms } of steps) {
          now += ms;
          const node = `n${index}`;
          const lease = using.get(node);
          const usingMs = lease !== undefined && lease.until > now ? lease.until - now : 0;
          const { rate, validMs } = book.grant(
            node,
            { wants, using: rateOf(node), usingMs },
            pool,
            now,
            3_000,
          );
          if (!lost) using.set(node, { rate, until: now + validMs });
          const sum = roster.reduce((total, name) => total + rateOf(name), 0);
          if (sum > pool.cap + 1e-6) return false;
        }
        return true;
      }),
      { ...SEED, numRuns: 500 },
    );
  });

  it('is given whole to the only one who wants it', () => {
    const book = new LeaseBook();
    const pool = { cap: 300, roster: ['x', 'y', 'z'] };
    for (const usingMs of [0, 3_000])
      for (const node of ['y', 'z']) book.grant(node, { wants: false, using: 0, usingMs }, pool, 0, 3_000);
    expect(book.grant('x', { wants: true, using: 0, usingMs: 0 }, pool, 100, 3_000)).toEqual({
      rate: 300,
      validMs: 2_900,
    });
  });

  it('does not grow by what a member does not use of another granter’s lease: that one may have given it away', () => {
    const book = new LeaseBook();
    const pool = { cap: 300, roster: ['x', 'y', 'z'] };
    for (const node of ['y', 'z'])
      book.grant(node, { wants: false, using: 0, usingMs: 2_000 }, pool, 0, 3_000);
    expect(book.grant('x', { wants: true, using: 0, usingMs: 0 }, pool, 100, 3_000).rate).toBe(100);
    // Nor does it get more here, until nobody counts on it any more.
    expect(book.grant('y', { wants: true, using: 0, usingMs: 1_000 }, pool, 1_000, 3_000)).toEqual({
      rate: 0,
      validMs: 1_000,
    });
  });
});

describe('tags without the origin', () => {
  const record = (n: number, originAt: number) => ({
    registry: 'r.example',
    repository: 'app',
    tag: 'v1',
    digest: digestOf(Buffer.from(`${n}`)),
    originAt,
  });

  it('own records first, then the newest that enough members have, none from the future', () => {
    const others = [
      { node: 'a', record: record(2, 500) },
      { node: 'b', record: record(2, 400) },
      { node: 'c', record: record(3, 900) },
      { node: 'd', record: record(4, 10_000_000_000) },
    ];
    const pick = (quorum: number) =>
      pickRecord({ pins: [], own: [record(1, 100)], others, quorum, now: 1_000 }).map(({ digest }) => digest);
    expect(pick(2)).toEqual([record(1, 0).digest, record(2, 0).digest]);
    expect(pick(1)).toEqual([record(1, 0).digest, record(3, 0).digest, record(2, 0).digest]);
  });
});
