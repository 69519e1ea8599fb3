import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SwarmView } from '../../../../edge/transfer/swarm-view.ts';
import { Bitmap } from '../../../../shared/bitmap.ts';
import { type NodeName, parseNodeName } from '../../../../shared/ids.ts';

const RUNS = { seed: 42, numRuns: 300 };
const PIECES = 64;
const NAMES = Array.from({ length: 8 }, (_, n) => parseNodeName(`node-${n}`));

class Pool {
  version = 0;
  readonly dead = new Set<NodeName>();

  isLive(node: NodeName): boolean {
    return !this.dead.has(node);
  }

  kill(node: NodeName): void {
    this.dead.add(node);
    this.version++;
  }
}

function name(n: number): NodeName {
  const found = NAMES[n];
  if (found === undefined) throw new Error(`no name ${n}`);
  return found;
}

function viewOf(self: NodeName, pool = new Pool(), gateways: readonly string[] = []): SwarmView {
  return new SwarmView({
    self,
    key: 'sha256:x',
    pieceCount: PIECES,
    liveness: pool,
    gateways: new Set(gateways),
    weight: 1,
  });
}

function said(
  more: { ranked?: boolean; have?: readonly number[]; whole?: boolean; claimed?: readonly number[] } = {},
) {
  const have = new Bitmap(PIECES);
  for (const piece of more.have ?? []) have.set(piece);
  const { ranked = true, whole = false, claimed = [] } = more;
  return { ranked, weight: 1, whole, have: whole ? new Uint8Array(0) : have.toBytes(), claimed };
}

describe('the ranking', () => {
  it('is the same seen from every member that knows the same of the others', () => {
    fc.assert(
      fc.property(fc.nat(PIECES - 1), fc.uniqueArray(fc.nat(7), { minLength: 2 }), (piece, ranked) => {
        const orders = ranked.map((n) => {
          const view = viewOf(name(n));
          view.setSelfRanked(true);
          for (const other of ranked) view.learn(name(other), said(), 'announcement', 0);
          return view.ranking(piece);
        });
        for (const order of orders) expect(order).toEqual(orders[0]);
        expect(new Set(orders[0])).toEqual(new Set(ranked.map(name)));
      }),
      RUNS,
    );
  });

  it('shares the pieces out, and moves those of a dead member only', () => {
    const pool = new Pool();
    const view = viewOf(name(0), pool);
    view.setSelfRanked(true);
    for (const node of NAMES.slice(1)) view.learn(node, said(), 'announcement', 0);
    const pieces = Array.from({ length: PIECES }, (_, piece) => piece);
    const before = pieces.map((piece) => view.ranking(piece)[0]);
    expect(new Set(before).size).toBe(8);
    pool.kill(name(3));
    pieces.forEach((piece) => {
      const now = view.ranking(piece)[0];
      if (before[piece] === name(3)) expect(now).not.toBe(name(3));
      else expect(now).toBe(before[piece]);
    });
    expect(view.owners).toBe(7);
  });

  it('has one owner for all pieces once the origin takes no ranges', () => {
    const view = viewOf(name(0));
    view.setSelfRanked(true);
    for (const node of NAMES.slice(1)) view.learn(node, said(), 'announcement', 0);
    view.setOneOwner();
    const owners = Array.from({ length: PIECES }, (_, piece) => view.ranking(piece)[0]);
    expect(new Set(owners).size).toBe(1);
  });

  it('has no place for who only looks, left, or is silent', () => {
    const pool = new Pool();
    const view = viewOf(name(0), pool);
    view.learn(name(1), said({ ranked: false }), 'announcement', 0);
    view.learn(name(2), said(), 'announcement', 0);
    view.learn(name(3), said(), 'announcement', 0);
    expect(new Set(view.ranking(0))).toEqual(new Set([name(2), name(3)]));
    view.unrank(name(2));
    pool.kill(name(3));
    expect(view.ranking(0)).toEqual([]);
    expect(view.choose(0, new Set())).toEqual({ kind: 'self' });
  });
});

describe('whom to ask', () => {
  const act = fc.oneof(
    fc.record({
      kind: fc.constant('learn' as const),
      node: fc.integer({ min: 1, max: 7 }),
      ranked: fc.boolean(),
      whole: fc.boolean(),
      have: fc.array(fc.nat(PIECES - 1), { maxLength: 5 }),
      claimed: fc.array(fc.nat(PIECES - 1), { maxLength: 5 }),
    }),
    fc.record({ kind: fc.constant('unlearn' as const), node: fc.nat(7), piece: fc.nat(PIECES - 1) }),
    fc.record({ kind: fc.constant('kill' as const), node: fc.integer({ min: 1, max: 7 }) }),
  );

  it('is never dead, never excluded, never this node by way of the network; at the end there is always somebody', () => {
    fc.assert(
      fc.property(
        fc.array(act, { maxLength: 30 }),
        fc.nat(PIECES - 1),
        fc.subarray(NAMES),
        fc.boolean(),
        (acts, piece, excluded, ranked) => {
          const pool = new Pool();
          const view = viewOf(name(0), pool);
          view.setSelfRanked(ranked);
          const holders = new Set<NodeName>();
          for (const step of acts) {
            const node = name(step.node);
            if (step.kind === 'learn') {
              view.learn(node, said(step), 'announcement', 0);
              if (step.whole || step.have.includes(piece)) holders.add(node);
            } else if (step.kind === 'kill') pool.kill(node);
            else {
              view.unlearnPiece(node, step.piece);
              if (step.piece === piece) holders.delete(node);
            }
          }
          const choice = view.choose(piece, new Set(excluded));
          if (choice === undefined) return excluded.includes(name(0));
          if (choice.kind === 'self') {
            return (
              !excluded.includes(name(0)) &&
              ![...holders].some((n) => pool.isLive(n) && !excluded.includes(n))
            );
          }
          if (choice.kind === 'holder') expect(holders).toContain(choice.node);
          return choice.node !== name(0) && pool.isLive(choice.node) && !excluded.includes(choice.node);
        },
      ),
      { ...RUNS, numRuns: 1_000 },
    );
  });

  it('is the holder with the fewest asks of ours', () => {
    const view = viewOf(name(0));
    for (const n of [1, 2, 3]) view.learn(name(n), said({ whole: true }), 'answer', 0);
    const asked = Array.from({ length: 9 }, () => {
      const node = view.holder(0, new Set());
      if (node === undefined) throw new Error('nobody');
      return { node, done: view.asked(node) };
    });
    for (const n of [1, 2, 3]) expect(asked.filter(({ node }) => node === name(n))).toHaveLength(3);
    for (const { node, done } of asked) if (node === name(2)) done();
    expect(view.holder(0, new Set())).toBe(name(2));
  });

  it('one that turned out not to have a piece has all others still', () => {
    const view = viewOf(name(0));
    view.learn(name(1), said({ whole: true }), 'answer', 0);
    view.unlearnPiece(name(1), 5);
    expect(view.holder(5, new Set())).toBeUndefined();
    expect(view.holder(6, new Set())).toBe(name(1));
    view.learnPiece(name(1), 5);
    expect(view.holder(5, new Set())).toBe(name(1));
  });

  it('what a member had stays known when it leaves; what it had claimed does not', () => {
    const view = viewOf(name(0));
    view.learn(name(1), said({ have: [1], claimed: [2] }), 'announcement', 0);
    expect(view.claimant(2, new Set())).toBe(name(1));
    view.unrank(name(1));
    expect(view.holder(1, new Set())).toBe(name(1));
    expect(view.claimant(2, new Set())).toBeUndefined();
  });

  it('knowledge is added to, not replaced: announcement and answer may overtake each other', () => {
    const view = viewOf(name(0));
    view.learn(name(1), said({ have: [1] }), 'announcement', 10);
    view.learn(name(1), said({ have: [2] }), 'answer', 5);
    expect([1, 2, 3].map((piece) => view.holder(piece, new Set()))).toEqual([name(1), name(1), undefined]);
  });

  it('is a gateway where there are any; holders pass waiters on only where gateways are few', () => {
    const everyone = viewOf(name(0));
    const gatewayed = viewOf(name(0), new Pool(), [name(7)]);
    for (const view of [everyone, gatewayed]) {
      view.setSelfRanked(true);
      for (const node of NAMES.slice(1)) view.learn(node, said(), 'announcement', 0);
    }
    expect([everyone.gatewayed, everyone.owners, everyone.fanOut]).toEqual([false, 8, false]);
    expect([gatewayed.gatewayed, gatewayed.owners, gatewayed.fanOut]).toEqual([true, 1, true]);
    expect(gatewayed.choose(3, new Set())).toEqual({ kind: 'owner', node: name(7) });
    // A pool whose gateways are all gone goes over the WAN itself.
    expect(gatewayed.choose(3, new Set([name(7)]))).toEqual({ kind: 'self' });
  });
});
