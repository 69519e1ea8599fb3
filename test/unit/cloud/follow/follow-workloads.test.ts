import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DesiredWorkload } from '../../../../cloud/desired/types.ts';
import { FollowWorkloads } from '../../../../cloud/follow/follow-workloads.ts';
import { membershipOf } from '../../../../cloud/pools/membership.ts';
import { ObservedNodes } from '../../../../cloud/pools/observed-nodes.ts';
import type { KnownState } from '../../../../cloud/prefetch/derived-jobs.ts';
import { type PlannedJob, planJob } from '../../../../cloud/prefetch/plan.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'tidepool-follow-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const web = (image: string): DesiredWorkload => ({
  kind: 'DaemonSet',
  namespace: 'shop',
  name: 'web',
  images: [image],
  nodeSelector: {},
  pullSecrets: [],
  source: 'DaemonSet shop/web',
});

async function world() {
  const clock = new ManualClock();
  const observed = new ObservedNodes({ clock });
  const node = parseNodeName('n1');
  const bootId = 'b';
  observed.birth({
    node,
    pool: parsePoolName('alpha'),
    bootId,
    address: '10.0.0.1:6181',
    version: '1',
    platform: 'linux/amd64',
    at: 0,
  });
  const follow = new FollowWorkloads(
    { clock, log: silentLogger(), observed, follows: (pool) => pool === 'alpha' },
    { file: path.join(directory, 'follow.json') },
  );
  await follow.start();
  let planned: ReadonlyMap<string, PlannedJob> = new Map();
  const membership = membershipOf({ nodes: [], pools: [] }, observed.all(), true);
  const known = (workloads: readonly DesiredWorkload[]): KnownState => ({
    workloads,
    membership,
    tuning: new Map(),
    jobs: () => planned,
  });
  let seq = 0;
  return {
    clock,
    follow,
    /** As the reconciler does it. */
    reconcile(workloads: readonly DesiredWorkload[]): readonly string[] {
      const { definitions } = follow.jobs(known(workloads));
      planned = new Map(definitions.map((each) => [each.id, planJob(each, {}, membership)]));
      return definitions.map(({ id }) => id);
    },
    succeed(id: string): void {
      const prefetch = { id, generation: 0, totalBytes: 1, doneBytes: 1, wanBytes: 1, peerBytes: 0 };
      observed.report({
        node,
        bootId,
        seq: ++seq,
        at: 0,
        full: false,
        prefetches: [{ ...prefetch, state: 'succeeded' }],
      });
    },
  };
}

describe('FollowWorkloads', () => {
  it('sees by itself that a pool is through, and does not begin again after a restart', async () => {
    const w = await world();
    const [id] = w.reconcile([web('r.test/web:1')]);
    if (id === undefined) throw new Error('no job');
    let changes = 0;
    w.follow.onChange(() => changes++);
    w.clock.advance(60_000);
    expect(changes).toBe(0);
    w.succeed(id);
    w.clock.advance(10_000);
    expect(changes).toBe(1);
    expect(w.reconcile([web('r.test/web:1')])).toEqual([]);
    expect(w.reconcile([web('r.test/web:1')])).toEqual([]);
    await w.follow.stop();

    const again = await world();
    expect(again.reconcile([web('r.test/web:1')])).toEqual([]);
    expect(again.reconcile([web('r.test/web:2')])).toHaveLength(1);
    expect(again.reconcile([])).toEqual([]);
    await again.follow.stop();
    expect(JSON.parse(await readFile(path.join(directory, 'follow.json'), 'utf8'))).toEqual({});
  });

  it('works without what it remembered when that is damaged, and says so', async () => {
    await writeFile(path.join(directory, 'follow.json'), '{');
    const w = await world();
    expect(w.reconcile([web('r.test/web:1')])).toHaveLength(1);
    await w.follow.stop();
  });
});
