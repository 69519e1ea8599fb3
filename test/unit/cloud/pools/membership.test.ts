import { describe, expect, it } from 'vitest';
import type { DesiredNode } from '../../../../cloud/desired/types.ts';
import { type KnownNode, membershipOf } from '../../../../cloud/pools/membership.ts';
import { rosterOf } from '../../../../cloud/pools/roster.ts';
import { type NodeName, parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { encode } from '../../../../shared/wire/messages/codec.ts';
import { MAX_MESSAGE_BYTES } from '../../../../shared/wire/topics.ts';

const document = (name: string, labels: Record<string, string> = {}, address?: string): DesiredNode => ({
  name: parseNodeName(name),
  labels,
  source: `nodes.yaml:${name}`,
  ...(address === undefined ? {} : { address }),
});
const inPool = (pool: string): Record<string, string> => ({ 'apps.openyurt.io/nodepool': pool });
const known = (...nodes: [string, string, string][]): ReadonlyMap<NodeName, KnownNode> =>
  new Map(
    nodes.map(([node, pool, address]) => [
      parseNodeName(node),
      { node: parseNodeName(node), pool: parsePoolName(pool), address },
    ]),
  );

describe('membershipOf', () => {
  it('goes by the certificate where a node has one, whatever its label or the node itself says', () => {
    const { nodes, problems } = membershipOf(
      { nodes: [document('a', inPool('labelled')), document('b', inPool('p'))], pools: [] },
      known(['a', 'said', '10.0.0.1:6181'], ['c', 'said', '10.0.0.3:6181'], ['d', 'said', '10.0.0.4:6181']),
      false,
      new Map([
        [parseNodeName('a'), parsePoolName('certified')],
        [parseNodeName('c'), parsePoolName('certified')],
      ]),
    );
    const found = Object.fromEntries([...nodes].map(([node, { pool, address }]) => [node, [pool, address]]));
    expect(found).toEqual({
      a: ['certified', '10.0.0.1:6181'],
      b: ['p', undefined],
      c: ['certified', '10.0.0.3:6181'],
    });
    expect(problems).toHaveLength(1);
    expect(problems[0]?.message).toContain('nodes move a --pool labelled');
  });

  it('the label decides, then what the node says; addresses of nodes go before those of documents', () => {
    const { pools, problems } = membershipOf(
      {
        nodes: [
          document('b', inPool('p'), '10.0.0.2:6181'),
          document('a', inPool('p'), '10.0.0.1:6181'),
          document('c'),
        ],
        pools: [{ name: parsePoolName('empty'), source: 'x' }],
      },
      known(['a', 'p', '10.9.9.9:6181'], ['c', 'q', '10.0.0.3:6181']),
      false,
    );
    const shown = [...pools].map(([pool, members]) => [
      pool,
      members.map(({ node, address }) => `${node}@${address}`),
    ]);
    expect(Object.fromEntries(shown)).toEqual({
      empty: [],
      p: ['a@10.9.9.9:6181', 'b@10.0.0.2:6181'],
      q: ['c@10.0.0.3:6181'],
    });
    expect(problems).toEqual([]);
  });

  it('nodes without a document are members only where the pool is open', () => {
    const births = known(['x', 'p', '10.0.0.1:6181']);
    expect(membershipOf({ nodes: [], pools: [] }, births, true).pools.get(parsePoolName('p'))).toHaveLength(
      1,
    );
    expect(membershipOf({ nodes: [], pools: [] }, births, false).pools.size).toBe(0);
  });

  it('tells a node that runs in another pool than its label says, and a label that is no name', () => {
    const { problems, nodes } = membershipOf(
      { nodes: [document('a', inPool('p')), document('b', inPool('No Name'))], pools: [] },
      known(['a', 'q', '10.0.0.1:6181']),
      true,
    );
    expect(problems.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^Node a: its agent runs in pool q, its label says p/),
      expect.stringMatching(/^Node b: label apps.openyurt.io\/nodepool: not a pool name/),
    ]);
    expect(nodes.get(parseNodeName('a'))?.pool).toBe('p');
  });

  it('every member has the labels that selectors count on', () => {
    const { nodes } = membershipOf({ nodes: [], pools: [] }, known(['x', 'p', '10.0.0.1:6181']), true);
    expect(nodes.get(parseNodeName('x'))?.labels).toEqual({ 'kubernetes.io/hostname': 'x', ...inPool('p') });
  });
});

describe('rosterOf', () => {
  const members = (count: number, nameOf = (i: number) => `n${i}`) =>
    Array.from({ length: count }, (_, i) => ({
      node: parseNodeName(nameOf(i)),
      pool: parsePoolName('p'),
      labels: { big: 'x'.repeat(2_000) },
      address: `10.0.${i >> 8}.${i & 255}:6181`,
    }));

  it('splits at 100 nodes and numbers the shards', () => {
    const shards = rosterOf(members(250));
    expect(shards.map(({ shard, shards: of, nodes }) => [shard, of, nodes.length])).toEqual([
      [0, 3, 100],
      [1, 3, 100],
      [2, 3, 50],
    ]);
    expect(rosterOf(members(100))).toHaveLength(1);
    expect(rosterOf([])).toEqual([{ shard: 0, shards: 1, nodes: [] }]);
  });

  it('a shard fits a message, however long names and labels are', () => {
    const long = (i: number): string =>
      `n${i}.${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.${'d'.repeat(60)}`;
    for (const shard of rosterOf(members(100, long))) {
      expect(encode({ ...shard, epoch: Date.now(), version: 1 }).length).toBeLessThan(MAX_MESSAGE_BYTES);
    }
  });
});
