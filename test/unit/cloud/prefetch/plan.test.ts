import { describe, expect, it } from 'vitest';
import type { DesiredPrefetch, NodeSelector } from '../../../../cloud/desired/types.ts';
import { membershipOf } from '../../../../cloud/pools/membership.ts';
import { type GenerationTable, numberJobs } from '../../../../cloud/prefetch/generations.ts';
import { planJob } from '../../../../cloud/prefetch/plan.ts';
import { nodeRows, rollUp } from '../../../../cloud/prefetch/roll-up.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { type PrefetchProgress, prefetchMessage } from '../../../../shared/wire/messages/prefetch.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const document = (name: string, pool: string | undefined, labels: Record<string, string> = {}) => ({
  name: parseNodeName(name),
  labels: { ...labels, ...(pool === undefined ? {} : { 'apps.openyurt.io/nodepool': pool }) },
  source: 'nodes.yaml:1',
});
const membership = membershipOf(
  {
    nodes: [
      document('a1', 'alpha', { disk: 'ssd' }),
      document('a2', 'alpha'),
      document('b1', 'beta', { disk: 'ssd' }),
      document('loner', undefined),
    ],
    pools: [{ name: parsePoolName('empty'), source: 'pools.yaml:1' }],
  },
  new Map(),
  false,
);
const job = (selector: Partial<NodeSelector>, images = [{ image: 'r.test/a:1' }]): DesiredPrefetch => ({
  id: 'job',
  images,
  selector: { match: [], ...selector },
  suspend: false,
  timeoutMs: 1_000,
  retries: 3,
  source: 'job.yaml:1',
});
const plan = (selector: Partial<NodeSelector>) =>
  planJob(job(selector), { job: { generation: 7, content: '' } }, membership);
const pools = (...names: string[]) => names.map(parsePoolName);
const nodes = (...names: string[]) => names.map(parseNodeName);
const shown = (selector: Partial<NodeSelector>) => {
  const { messages, problems } = plan(selector);
  return {
    messages: Object.fromEntries([...messages].map(([pool, each]) => [pool, each.nodes ?? 'all'])),
    problems,
  };
};

describe('planJob', () => {
  it('names no nodes where a whole pool is meant, so that newcomers run the job too', () => {
    expect(shown({ nodePools: pools('alpha') })).toEqual({ messages: { alpha: 'all' }, problems: [] });
    expect(shown({})).toEqual({ messages: { alpha: 'all', beta: 'all', empty: 'all' }, problems: [] });
  });

  it('names nodes where they were chosen by name or by label', () => {
    expect(shown({ names: nodes('a2', 'b1') }).messages).toEqual({ alpha: ['a2'], beta: ['b1'] });
    expect(shown({ nodePools: pools('beta'), names: nodes('a2') }).messages).toEqual({
      alpha: ['a2'],
      beta: 'all',
    });
    const match = [{ key: 'disk', operator: 'In' as const, value: 'ssd' }];
    expect(shown({ match }).messages).toEqual({ alpha: ['a1'], beta: ['b1'] });
    expect(shown({ nodePools: pools('alpha'), match }).messages).toEqual({ alpha: ['a1'] });
  });

  it('says in words why nothing will happen', () => {
    expect(shown({ nodePools: pools('gamma') })).toEqual({
      messages: {},
      problems: ['pool gamma is unknown: no NodePool document and no node names it'],
    });
    expect(shown({ nodePools: pools('empty') }).problems).toEqual(['pool empty has no nodes yet']);
    expect(shown({ names: nodes('nobody', 'loner') }).problems).toEqual([
      'node nobody is unknown',
      'node loner is in no pool; its agent has not come up yet',
    ]);
    expect(shown({ match: [{ key: 'disk', operator: 'In', value: 'tape' }] }).problems).toEqual([
      'the selector fits no node; the job starts as soon as it fits one',
    ]);
  });

  it('makes messages that agents accept', () => {
    for (const message of plan({}).messages.values()) {
      expect(() => prefetchMessage.parse({ ...message, epoch: 1 })).not.toThrow();
    }
  });
});

describe('numberJobs', () => {
  it('numbers grow when images change, and only then', () => {
    const clock = new ManualClock();
    const first = numberJobs({}, [job({})], clock);
    expect(numberJobs(first, [job({ names: nodes('a1') })], clock)).toEqual(first);
    const second = numberJobs(first, [job({}, [{ image: 'r.test/a:2' }])], clock);
    expect(numberOf(second)).toBe(numberOf(first) + 1);
  });

  it('a job that was gone and comes again is a new one', () => {
    const clock = new ManualClock();
    const first = numberJobs({}, [job({})], clock);
    const gone = numberJobs(first, [], clock);
    expect(numberOf(numberJobs(gone, [job({})], clock))).toBe(numberOf(first) + 1);
  });

  it('grows also over a table that was lost, and remembers a bounded number of jobs', () => {
    const clock = new ManualClock();
    const first = numberJobs({}, [job({})], clock);
    clock.advance(5_000);
    expect(numberOf(numberJobs({}, [job({})], clock))).toBeGreaterThan(numberOf(first));
    const many = Array.from({ length: 1_500 }, (_, index) => ({ ...job({}), id: `j${index}` }));
    expect(Object.keys(numberJobs(numberJobs({}, many, clock), [], clock))).toHaveLength(1_000);
  });

  const numberOf = (table: GenerationTable): number => table.job?.generation ?? Number.NaN;
});

describe('rollUp', () => {
  const progress = (
    state: PrefetchProgress['state'],
    more: Partial<PrefetchProgress> = {},
  ): PrefetchProgress => ({
    id: 'job',
    generation: 7,
    state,
    totalBytes: 100,
    doneBytes: 50,
    wanBytes: 30,
    peerBytes: 20,
    ...more,
  });
  const states = new Map<string, { online: boolean; prefetches: Map<string, PrefetchProgress> }>();
  const set = (node: string, online: boolean, ...all: PrefetchProgress[]) =>
    states.set(node, { online, prefetches: new Map(all.map((each) => [each.id, each])) });

  it('counts each node once, offline nodes apart, and only this generation', () => {
    states.clear();
    set('a1', true, progress('active'));
    set('a2', false, progress('active'));
    set('b1', true, progress('succeeded', { generation: 6 }));
    const view = rollUp(plan({}), (node) => states.get(node));
    expect(view).toMatchObject({
      desired: 3,
      active: 1,
      offline: 1,
      waiting: 1,
      succeeded: 0,
      failed: 0,
      skipped: 0,
    });
    expect(view.bytes).toEqual({ total: 200, done: 100, wan: 60, peer: 40 });
    set('a2', false, progress('succeeded'));
    set('b1', true, progress('failed', { error: { code: 'ORIGIN_ERROR', message: 'no' } }));
    const later = rollUp(plan({}), (node) => states.get(node));
    expect(later).toMatchObject({ active: 1, offline: 0, succeeded: 1, failed: 1 });
    expect(later.failedNodes).toEqual([{ node: 'b1', code: 'ORIGIN_ERROR', message: 'no' }]);
    expect(
      nodeRows(plan({}), (node) => states.get(node)).map(({ node, state }) => `${node} ${state}`),
    ).toEqual(['a1 active', 'a2 succeeded', 'b1 failed']);
  });

  it('is bounded: 100 rows of pools, 20 failures, every node counted', () => {
    const many = membershipOf(
      {
        nodes: Array.from({ length: 300 }, (_, i) => document(`n${i}`, `p${i % 150}`)),
        pools: [],
      },
      new Map(),
      false,
    );
    const failed = { online: true, prefetches: new Map([['job', progress('failed')]]) };
    const view = rollUp(planJob(job({}), { job: { generation: 7, content: '' } }, many), () => failed);
    expect(view.pools).toHaveLength(100);
    expect(view.poolCount).toBe(150);
    expect(view.failedNodes).toHaveLength(20);
    expect(view.failed).toBe(300);
    expect(view.bytes.total).toBe(30_000);
  });
});
