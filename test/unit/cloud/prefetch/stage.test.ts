import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { conditionsOf } from '../../../../cloud/prefetch/conditions.ts';
import { JobRecord, savedRecord } from '../../../../cloud/prefetch/job-record.ts';
import type { PlannedJob } from '../../../../cloud/prefetch/plan.ts';
import type { NodeState } from '../../../../cloud/prefetch/progress.ts';
import { stageJob, toleranceOf } from '../../../../cloud/prefetch/stage.ts';
import { type NodeName, parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import type { PrefetchProgress, PrefetchState } from '../../../../shared/wire/messages/prefetch.ts';

const GENERATION = 7;
const POOLS = ['a', 'b', 'c'].map(parsePoolName);

class World {
  readonly record = new JobRecord(0);
  readonly nodes = new Map<NodeName, NodeState>();

  constructor() {
    this.record.begin(GENERATION);
  }

  set(node: string, state: PrefetchState | undefined, online = true): void {
    const progress: PrefetchProgress[] =
      state === undefined
        ? []
        : [
            {
              id: 'job',
              generation: GENERATION,
              state,
              totalBytes: 9,
              doneBytes: 3,
              wanBytes: 2,
              peerBytes: 1,
            },
          ];
    const name = parseNodeName(node);
    this.nodes.set(name, { online, prefetches: new Map(progress.map((each) => [each.id, each])) });
    for (const each of progress) this.record.note(name, each);
  }

  job(more: Partial<PlannedJob['definition']> = {}, perPool = 2): PlannedJob {
    const message = {
      id: 'job',
      generation: GENERATION,
      images: [],
      suspend: false,
      timeoutMs: 1,
      retries: 0,
    };
    const members = (pool: string) => Array.from({ length: perPool }, (_, n) => parseNodeName(`${pool}${n}`));
    return {
      id: 'job',
      generation: GENERATION,
      definition: { ...message, selector: { match: [] }, source: 'job.yaml:1', ...more },
      targets: new Map(POOLS.map((pool) => [pool, members(pool)])),
      messages: new Map(POOLS.map((pool) => [pool, message])),
      open: new Set(POOLS),
      problems: [],
    };
  }

  stage(more: Partial<PlannedJob['definition']> = {}, perPool = 2) {
    return stageJob(this.job(more, perPool), this.record, (node) => this.nodes.get(node));
  }

  told(more: Partial<PlannedJob['definition']> = {}): Record<string, readonly string[] | 'all'> {
    const { messages } = this.stage(more);
    return Object.fromEntries([...messages].map(([pool, { nodes }]) => [pool, nodes ?? 'all']));
  }
}

describe('stageJob', () => {
  it('tells everybody at once where nothing limits it, who is away too', () => {
    expect(new World().told()).toEqual({ a: 'all', b: 'all', c: 'all' });
  });

  it('starts pools as others end; those that are away hold nobody up', () => {
    const world = new World();
    const limits = { parallelism: { pools: 1 } };
    for (const node of ['b0', 'b1', 'c0', 'c1']) world.set(node, undefined);
    world.set('a0', undefined, false);
    expect(world.told(limits)).toEqual({ b: 'all' });
    world.set('b0', 'succeeded');
    expect(world.told(limits)).toEqual({ b: 'all' });
    world.set('b1', 'active', false);
    expect(world.told(limits)).toEqual({ b: 'all', c: 'all' });
    world.set('c0', 'succeeded');
    world.set('c1', 'failed');
    world.set('a0', undefined);
    expect(world.told(limits)).toEqual({ a: 'all', b: 'all', c: 'all' });
  });

  it('starts nodes of a pool one by one', () => {
    const world = new World();
    const limits = { parallelism: { nodesPerPool: 1 } };
    world.set('a0', undefined);
    world.set('a1', undefined);
    expect(world.told(limits)).toEqual({ a: ['a0'], b: [], c: [] });
    world.set('a0', 'succeeded');
    expect(world.told(limits)).toMatchObject({ a: ['a0', 'a1'] });
  });

  it('stops beyond its tolerance; what has begun goes on', () => {
    const world = new World();
    world.set('a0', 'failed');
    world.set('a1', 'active');
    world.set('b0', undefined);
    expect(world.told({ failureTolerance: 1 })).toEqual({ a: 'all', b: 'all', c: 'all' });
    expect(world.told({ failureTolerance: 0 })).toEqual({ a: ['a0', 'a1'], b: [], c: [] });
    expect(world.stage({ failureTolerance: 0 })).toMatchObject({ halted: true, over: false });
    world.set('a1', 'succeeded');
    expect(world.stage({ failureTolerance: 0 })).toMatchObject({ halted: true, over: true });
  });

  it('never runs more than it may, and always comes to its end', () => {
    fc.assert(
      fc.property(
        fc.record({ pools: fc.integer({ min: 1, max: 3 }), nodesPerPool: fc.integer({ min: 1, max: 3 }) }),
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.nat(), { minLength: 60, maxLength: 60 }),
        (parallelism, perPool, dice) => {
          const world = new World();
          const all = [...world.job({}, perPool).targets.values()].flat();
          for (const node of all) world.set(node, undefined);
          for (const die of dice) {
            const { messages, over } = world.stage({ parallelism }, perPool);
            const done = (node: string): boolean => world.record.outcomes.has(node);
            const running = [...messages.values()].map(({ nodes = [] }) =>
              nodes.filter((node) => !done(node)),
            );
            expect(running.filter((nodes) => nodes.length > 0).length).toBeLessThanOrEqual(parallelism.pools);
            for (const nodes of running) expect(nodes.length).toBeLessThanOrEqual(parallelism.nodesPerPool);
            if (over) return;
            const flat = running.flat();
            const next = flat[die % flat.length];
            if (next === undefined) throw new Error('nothing runs, and nothing is over');
            world.set(next, 'succeeded');
          }
          expect(world.stage({ parallelism }, perPool).over).toBe(true);
        },
      ),
      { seed: 42 },
    );
  });

  it('keeps what it knows on disk', () => {
    const world = new World();
    world.set('a0', 'succeeded');
    world.set('a1', 'failed');
    world.stage({ parallelism: { nodesPerPool: 1 } });
    const saved = savedRecord.parse(JSON.parse(JSON.stringify(world.record.save())));
    expect(JobRecord.load(saved)).toEqual(world.record);
  });
});

describe('toleranceOf', () => {
  it.each([
    [undefined, 10, Number.POSITIVE_INFINITY],
    [0, 10, 0],
    ['10%', 19, 1],
    ['100%', 7, 7],
  ])('%s of %i is %d', (tolerance, all, expected) => {
    expect(toleranceOf(tolerance, all)).toBe(expected);
  });
});

describe('conditionsOf', () => {
  const counts = { desired: 2, active: 1, succeeded: 0, failed: 0, skipped: 0, waiting: 1, offline: 0 };
  const base = { suspend: false, failureTolerance: undefined, problems: [], remark: undefined };
  const running = { ...base, phase: { kind: 'running' as const, halted: false } };

  it('moves the time of a condition only when its status does', () => {
    const first = conditionsOf({ ...running, counts, completed: false }, [], 1_000);
    const more = { ...counts, active: 0, waiting: 1, succeeded: 1 };
    const second = conditionsOf({ ...running, counts: more, completed: false }, first, 5_000);
    expect(second.map(({ lastTransitionTime }) => lastTransitionTime)).toEqual(
      Array(5).fill('1970-01-01T00:00:01.000Z'),
    );
    expect(second.find(({ status }) => status === 'True')).toMatchObject({
      type: 'Progressing',
      message: '1 of 2 nodes are through',
    });
    const over = { ...counts, active: 0, waiting: 0, succeeded: 2 };
    const third = conditionsOf({ ...running, counts: over, completed: true }, second, 9_000);
    expect(third.find(({ type }) => type === 'Complete')).toMatchObject({
      status: 'True',
      lastTransitionTime: '1970-01-01T00:00:09.000Z',
    });
  });

  it('a failed node makes a failed job, except where that is borne', () => {
    const one = { ...counts, active: 0, waiting: 0, succeeded: 1, failed: 1 };
    const outcome = (failureTolerance: number | undefined) =>
      conditionsOf({ ...running, counts: one, completed: true, failureTolerance }, [], 0).find(
        ({ status }) => status === 'True',
      );
    expect(outcome(undefined)).toMatchObject({ type: 'Failed', reason: 'NodesFailed' });
    expect(outcome(1)).toMatchObject({
      type: 'Complete',
      message: expect.stringContaining('failureTolerance allows'),
    });
    expect(outcome(0)).toMatchObject({ type: 'Failed', reason: 'FailureToleranceExceeded' });
  });
});
