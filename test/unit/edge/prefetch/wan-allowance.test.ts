import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type PrefetchRules, WanAllowance } from '../../../../edge/prefetch/wan-allowance.ts';
import { parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { localDay, parseWindow } from '../../../../shared/time-window.ts';
import { MemoryDocuments } from '../../../support/filling-content.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const HOUR = 3_600_000;
const RULES: PrefetchRules = { windows: [], dailyBudget: undefined, timezone: 'UTC', gateways: new Set() };

function fixture(rules: Partial<PrefetchRules> = {}, init: { roster?: string[]; self?: string } = {}) {
  const clock = new ManualClock();
  /** What the wall clock is wrong by. */
  const wall = { wrongMs: 0 };
  const documents = new MemoryDocuments();
  const roster = init.roster ?? ['n1'];
  const make = (): WanAllowance => {
    const allowance = new WanAllowance({
      documents,
      members: { self: parseNodeName(init.self ?? 'n1'), names: () => roster },
      clock: {
        now: () => clock.now() + wall.wrongMs,
        mono: () => clock.mono(),
        after: (ms, fn) => clock.after(ms, fn),
      },
      log: silentLogger(),
    });
    allowance.configure({ ...RULES, ...rules });
    return allowance;
  };
  return { clock, wall, documents, roster, make, allowance: make() };
}

/** Reads one piece; false when it may not be. */
function read(allowance: WanAllowance, bytes: number): boolean {
  let pass: ReturnType<WanAllowance['begin']>;
  try {
    pass = allowance.begin(bytes);
  } catch (error) {
    expect(error).toMatchObject({ code: 'OVERLOADED' });
    return false;
  }
  pass.spend(bytes);
  pass.end();
  return true;
}

describe('windows', () => {
  it('let prefetches through inside alone, and tell when that turns', () => {
    const { clock, allowance } = fixture({ windows: [parseWindow({ start: '01:00', end: '05:00' }, 'UTC')] });
    const turns: (string | undefined)[] = [];
    allowance.onChange(() => turns.push(allowance.closed()));
    expect(allowance.closed()).toBe('waits for the prefetch window, which opens at 1970-01-01T01:00:00.000Z');
    expect(() => allowance.begin(1)).toThrow(/a prefetch waits for the prefetch window/);
    clock.advance(HOUR - 1);
    expect(turns).toEqual([]);
    clock.advance(1);
    expect(turns).toEqual([undefined]);
    expect(read(allowance, 1)).toBe(true);
    clock.advance(4 * HOUR);
    expect(turns).toEqual([
      undefined,
      'waits for the prefetch window, which opens at 1970-01-02T01:00:00.000Z',
    ]);
    allowance.configure(RULES);
    expect(turns).toHaveLength(3);
    expect(allowance.closed()).toBeUndefined();
  });

  it('hold no timer when there are none, and none after the end', async () => {
    const { clock, allowance } = fixture();
    expect(clock.timers).toBe(0);
    allowance.configure({ ...RULES, windows: [parseWindow({ start: '01:00', end: '05:00' }, 'UTC')] });
    expect(clock.timers).toBe(1);
    await allowance.stop();
    expect(clock.timers).toBe(0);
  });
});

describe('budgets', () => {
  it('are shared evenly by who goes over the WAN', () => {
    const four = fixture({ dailyBudget: 1000 }, { roster: ['n1', 'n2', 'n3', 'n4'] });
    expect(four.allowance.budget()).toEqual({ share: 250, spent: 0 });
    const gateways = new Set(['n1', 'n2']);
    four.allowance.configure({ ...RULES, dailyBudget: 1000, gateways });
    // The pool was larger today, and the others may have used their part.
    expect(four.allowance.budget()).toEqual({ share: 250, spent: 0 });
    const gateway = fixture({ dailyBudget: 1000, gateways }, { roster: four.roster });
    expect(gateway.allowance.budget()).toEqual({ share: 500, spent: 0 });
    const other = fixture({ dailyBudget: 1000, gateways }, { roster: four.roster, self: 'n3' });
    expect(other.allowance.budget()).toEqual({ share: 0, spent: 0 });
    expect(() => other.allowance.begin(1)).toThrow(/by the gateways alone/);
  });

  it('say what is used and from when there is more', () => {
    const { allowance, clock } = fixture({ dailyBudget: 10_000_000, timezone: 'Asia/Shanghai' });
    clock.advance(HOUR);
    expect(read(allowance, 9_000_000)).toBe(true);
    expect(() => allowance.begin(1_000_001)).toThrow(
      "9.0 MB of this node's 10.0 MB of the daily prefetch budget of 10.0 MB are used; more from 1970-01-01T16:00:00.000Z",
    );
    clock.advance(15 * HOUR - 1);
    expect(read(allowance, 1_000_001)).toBe(false);
    clock.advance(1);
    expect(read(allowance, 10_000_000)).toBe(true);
  });

  it('give back a read that never began; one that broke off may have been sent as far as sockets go', () => {
    const { allowance } = fixture({ dailyBudget: 100e6 });
    const unanswered = allowance.begin(100e6);
    expect(() => allowance.begin(1)).toThrow(/budget/);
    unanswered.end();
    unanswered.end();
    expect(allowance.budget()).toEqual({ share: 100e6, spent: 0 });
    const piece = allowance.begin(1e6);
    piece.spend(300_000);
    piece.end();
    piece.end();
    expect(allowance.budget()).toEqual({ share: 100e6, spent: 1e6 });
    const stream = allowance.begin(90e6);
    stream.spend(1e6);
    stream.end();
    expect(allowance.budget()).toEqual({ share: 100e6, spent: 2e6 + 4 * 1024 ** 2 });
  });

  it('outlive a restart exactly, and a crash without a byte too many', async () => {
    const { allowance, make } = fixture({ dailyBudget: 1600 });
    expect(read(allowance, 700)).toBe(true);
    const crashed = make();
    // A sixteenth at most is lost.
    expect(crashed.budget()?.spent).toBe(800);
    await allowance.stop();
    expect(make().budget()?.spent).toBe(700);
  });

  it('do not come back when the clock jumps there and back', () => {
    const { allowance, wall } = fixture({ dailyBudget: 100 });
    expect(read(allowance, 100)).toBe(true);
    wall.wrongMs = 400 * 24 * HOUR;
    expect(read(allowance, 100)).toBe(true);
    wall.wrongMs = 0;
    expect(read(allowance, 1)).toBe(false);
  });

  it('begin anew from a document that cannot be read', () => {
    const { documents, make } = fixture({ dailyBudget: 100 });
    documents.put('prefetch-budget', [{ day: 'x' }]);
    expect(make().budget()).toEqual({ share: 100, spent: 0 });
  });

  type Step =
    | { readonly kind: 'begin' | 'pass'; readonly node: number; readonly bytes: number }
    | { readonly kind: 'crash' | 'stop'; readonly node: number }
    | { readonly kind: 'leave' }
    | { readonly kind: 'time'; readonly ms: number };
  const node = fc.nat({ max: 3 });
  const bytes = fc.integer({ min: 1, max: 400 });
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('begin' as const), node, bytes }) },
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('pass' as const), node, bytes }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('crash' as const, 'stop' as const), node }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'leave' as const }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 9 * HOUR }) }),
    },
  );

  it('are never exceeded by all nodes together on any local day, whatever crashes, leaves or is in flight', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 20, maxLength: 120 }),
        fc.constantFrom('UTC', 'Asia/Shanghai', 'America/Santiago'),
        fc.integer({ min: 0, max: 3000 }),
        async (steps, timezone, dailyBudget) => {
          const clock = new ManualClock();
          clock.advance(Date.parse('2026-04-03T20:00Z'));
          const roster = ['n0', 'n1', 'n2', 'n3'];
          const rules = { ...RULES, dailyBudget, timezone };
          const open = new Map<WanAllowance, { pass: ReturnType<WanAllowance['begin']>; left: number }[]>();
          const make = (n: number, documents: MemoryDocuments): WanAllowance => {
            const self = parseNodeName(`n${n}`);
            const allowance = new WanAllowance({
              documents,
              members: { self, names: () => roster },
              clock,
              log: silentLogger(),
            });
            allowance.configure(rules);
            open.set(allowance, []);
            return allowance;
          };
          const nodes = roster.map((_, n) => {
            const documents = new MemoryDocuments();
            return { documents, allowance: make(n, documents) };
          });
          const used = new Map<number, number>();
          for (const each of steps) {
            if (each.kind === 'time') clock.advance(each.ms);
            else if (each.kind === 'leave') {
              if (roster.length > 1) roster.pop();
              // Somebody looks at the roster now and then.
              for (const { allowance } of nodes) allowance.budget();
            } else {
              const at = nodes[each.node];
              if (at === undefined) continue;
              const passes = open.get(at.allowance) ?? [];
              if (each.kind === 'begin') {
                // Who has left the pool ends what it has begun.
                if (!roster.includes(`n${each.node}`)) continue;
                try {
                  passes.push({ pass: at.allowance.begin(each.bytes), left: each.bytes });
                } catch (error) {
                  expect(error).toMatchObject({ code: 'OVERLOADED' });
                }
              } else if (each.kind === 'pass') {
                const first = passes[0];
                if (first === undefined) continue;
                const count = Math.min(first.left, each.bytes);
                first.pass.spend(count);
                first.left -= count;
                const day = localDay(timezone, clock.now());
                used.set(day, (used.get(day) ?? 0) + count);
                if (first.left === 0 || each.bytes % 3 === 0) {
                  first.pass.end();
                  passes.shift();
                }
              } else {
                if (each.kind === 'stop') await at.allowance.stop();
                at.allowance = make(each.node, at.documents);
              }
            }
          }
          for (const total of used.values()) expect(total).toBeLessThanOrEqual(dailyBudget);
        },
      ),
      { seed: 42, numRuns: 300 },
    );
  });
});
