import { describe, expect, it } from 'vitest';
import { PoolAssigner } from '../../../../cloud/broker/pool-assigner.ts';
import type { Member } from '../../../../cloud/pools/membership.ts';
import { ObservedNodes } from '../../../../cloud/pools/observed-nodes.ts';
import { type NodeName, parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const n1 = parseNodeName('n1');

/** Nodes by what their agents say, with the pools that labels say. */
function setUp(says: Record<string, string>, labels: Record<string, string | undefined>) {
  const clock = new ManualClock();
  const observed = new ObservedNodes({ clock });
  const birth = (node: string, pool: string): void => {
    observed.birth({
      node: parseNodeName(node),
      pool: parsePoolName(pool),
      bootId: 'b1',
      address: '10.0.0.1:6181',
      version: '0',
      platform: 'linux/amd64',
      at: 0,
    });
  };
  for (const [node, pool] of Object.entries(says)) birth(node, pool);
  const told: string[] = [];
  const state = { leads: true, labels };
  const assigner = new PoolAssigner({
    clock,
    log: silentLogger(),
    observed,
    leads: () => state.leads,
    members: () =>
      new Map<NodeName, Member>(
        Object.entries(state.labels).map(([name, pool]) => {
          const node = parseNodeName(name);
          const parsed = pool === undefined ? undefined : parsePoolName(pool);
          return [node, { node, pool: parsed, labels: {}, address: undefined }];
        }),
      ),
    send: async (node, command) => {
      if (command.kind === 'pool') told.push(`${node} ${command.pool}`);
    },
  });
  return { assigner, birth, clock, observed, state, told };
}

describe('PoolAssigner', () => {
  it('tells agents whose label says another pool, and nobody else', () => {
    const { assigner, told } = setUp(
      { n1: 'alone.n1', n2: 'b', n3: 'c' },
      { n1: 'a', n2: 'b', n3: undefined, away: 'a' },
    );
    assigner.look();
    expect(told).toEqual(['n1 a']);
  });

  it('tells one that does not follow again, at longer and longer intervals', async () => {
    const { assigner, clock, told } = setUp({ n1: 'fixed' }, { n1: 'a' });
    await assigner.start();
    clock.advance(9_000);
    expect(told.length).toBe(1);
    clock.advance(3_600_000);
    expect(told.length).toBeGreaterThan(5);
    expect(told.length).toBeLessThan(16);
    await assigner.stop();
  });

  it('tells at once what a label is changed to, also back and forth', () => {
    const { assigner, birth, state, told } = setUp({ n1: 'a' }, { n1: 'b' });
    assigner.look();
    birth('n1', 'b');
    assigner.look();
    state.labels = { n1: 'a' };
    assigner.look();
    birth('n1', 'a');
    state.labels = { n1: 'b' };
    assigner.look();
    expect(told).toEqual(['n1 b', 'n1 a', 'n1 b']);
  });

  it('waits for nodes to come, and says nothing while another hub leads', () => {
    const { assigner, observed, state, told } = setUp({ n1: 'alone.n1' }, { n1: 'a' });
    state.leads = false;
    assigner.look();
    expect(told).toEqual([]);
    state.leads = true;
    observed.death({ node: n1, bootId: 'b1' });
    assigner.look();
    expect(told).toEqual([]);
  });

  it('moves a relabelled cluster over several looks', () => {
    const names = Array.from({ length: 500 }, (_, i) => `n${i}`);
    const { assigner, told } = setUp(
      Object.fromEntries(names.map((name) => [name, 'old'])),
      Object.fromEntries(names.map((name) => [name, 'new'])),
    );
    assigner.look();
    expect(told.length).toBe(200);
    assigner.look();
    assigner.look();
    expect(new Set(told).size).toBe(500);
    expect(told.length).toBe(500);
  });
});
