import { rm } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCli } from '../../cloud/cli/program.ts';
import { type Clock, systemClock } from '../../shared/clock.ts';
import type { PrefetchDetailView, PrefetchView } from '../../shared/wire/api.ts';
import { AgentPool } from '../support/agent-pool.ts';
import { eventually, type HubFixture, startTestHub } from '../support/hub-fixture.ts';
import { buildImage, type SampleImage } from '../support/registry/index.ts';
import { SmallDisk } from '../support/small-disk.ts';

const IMAGE = 'reg.example/lab/app:v1';

let agents: AgentPool;
let hub: HubFixture;
let image: SampleImage;

beforeEach(async () => {
  agents = new AgentPool();
  await agents.registry.start();
  image = await buildImage({ layers: [{ bytes: 700_000, seed: 1 }] });
  agents.registry.addImage('lab/app', 'v1', image);
  hub = await startTestHub({
    files: { 'nodes.yaml': node('n1', 'alpha') + node('n2', 'alpha') + node('n3', 'beta') },
    registries: { 'reg.example': { url: agents.registry.url } },
  });
});
afterEach(async () => {
  await hub.close();
  await agents.close();
});

const node = (name: string, pool: string): string =>
  `apiVersion: v1\nkind: Node\nmetadata: {name: ${name}, labels: {apps.openyurt.io/nodepool: ${pool}}}\n---\n`;
const write = (spec: string, id = 'job'): Promise<void> =>
  hub.write(
    `${id}.yaml`,
    `apiVersion: tidepool.dev/v1alpha1\nkind: ImagePrefetch\nmetadata: {name: ${id}}\nspec: {${spec}}\n`,
  );
const start = (n: number, pool: string): Promise<void> => agents.start(n, { pool, hub: hub.mqtt });
const seen = (id: string, fits: (view: PrefetchDetailView) => boolean): Promise<PrefetchDetailView> =>
  eventually(
    () => hub.get<PrefetchDetailView>(`/v1/prefetches/${id}`),
    (view) => Array.isArray(view.nodes) && fits(view),
    30_000,
  );
const is = (type: string, reason?: string) => (view: PrefetchView) =>
  view.conditions?.some(
    (each) =>
      each.type === type && each.status === 'True' && (reason === undefined || each.reason === reason),
  ) === true;

describe('ImagePrefetch', () => {
  it('fills two pools, one of them later, with what the tag was when the job began', async () => {
    await start(1, 'alpha');
    await start(2, 'alpha');
    await write(`images: [${IMAGE}], selector: {nodePools: [alpha, beta]}`);
    const first = await seen('job', ({ succeeded }) => succeeded === 2);
    expect(first).toMatchObject({ desired: 3, offline: 1, failed: 0 });
    expect(first.images).toEqual([`${IMAGE}@${image.digest}`]);
    expect(is('Complete')(first)).toBe(false);
    await seen('job', is('Waiting', 'NodesOffline'));

    // The tag moves on, and the hub starts anew over its records: the job stays what it was.
    const newer = await buildImage({ layers: [{ bytes: 900_000, seed: 2 }] });
    agents.registry.addImage('lab/app', 'v1', newer);
    await hub.restart();
    await start(3, 'beta');
    const last = await seen('job', is('Complete', 'Complete'));
    expect(last).toMatchObject({ desired: 3, succeeded: 3, offline: 0 });
    expect(last.images).toEqual([`${IMAGE}@${image.digest}`]);
    for (const n of [1, 2, 3]) {
      const { counters } = await agents.status(n);
      expect(counters.storedBytes).toBeGreaterThanOrEqual(image.blobBytes);
      expect(counters.storedBytes).toBeLessThan(newer.blobBytes);
    }
  });

  it('says what is in the way, and holds nothing else up', async () => {
    await start(3, 'beta');
    await write('images: [reg.example/lab/none:v1], selector: {nodePools: [beta]}', 'missing');
    await write(`images: [${IMAGE}], selector: {nodePools: [gamma]}`, 'nowhere');
    await write(`images: [${IMAGE}], selector: {matchLabels: {disk: ssd}}`, 'nobody');
    await write(`images: [${IMAGE}], schedule: {cron: "61 * * * *"}`, 'cron');
    await write(`images: [${IMAGE}], schedule: {cron: "0 3 * * *", timeZone: Mars/North}`, 'zone');
    await write('images: ["127.0.0.1:1/a/b:1"], selector: {nodePools: [beta]}', 'away');
    await write(`images: [${IMAGE}], selector: {nodePools: [beta]}`);
    await seen('job', is('Complete'));
    const words = async (id: string, type: string, reason: string): Promise<string> => {
      const view = await seen(id, is(type, reason));
      return view.conditions?.find((each) => each.type === type)?.message ?? '';
    };
    expect(await words('missing', 'Failed', 'ImageNotFound')).toMatch(/lab\/none:v1.*check name and tag/);
    expect(await words('nowhere', 'Waiting', 'NoNodes')).toMatch(/pool gamma is unknown/);
    expect(await words('nobody', 'Waiting', 'NoNodes')).toMatch(/the selector fits no node/);
    expect(await words('cron', 'Failed', 'InvalidSchedule')).toMatch(/schedule\.cron: "61 \* \* \* \*"/);
    expect(await words('zone', 'Failed', 'InvalidSchedule')).toMatch(/"Mars\/North" is no time zone/);
    expect(await words('away', 'Waiting', 'RegistryUnreachable')).toMatch(
      /127\.0\.0\.1:1.*asks again by itself/,
    );
  });

  it('waits for a secret where the image is private, and goes on when the image is open', async () => {
    await start(3, 'beta');
    agents.registry.options.auth = { kind: 'bearer', username: 'u', password: 'p' };
    await write(`images: [${IMAGE}], selector: {nodePools: [beta]}`);
    const view = await seen('job', is('Waiting', 'NeedsPullSecret'));
    expect(view.problems.join()).toMatch(/spec\.pullSecrets/);
    agents.registry.options.auth = { kind: 'bearer', username: 'u', password: 'p', anonymousPull: true };
    // Told anew, it is asked anew.
    await write(`images: [${IMAGE}], selector: {nodePools: [beta]}, pullSecrets: []`);
    await write(`images: [${IMAGE}, ${IMAGE.replace('v1', 'v2')}], selector: {nodePools: [beta]}`);
    agents.registry.addImage('lab/app', 'v2', image);
    await seen('job', is('Complete'));
  });

  it('stops starting nodes when more fail than it bears', async () => {
    // Blobs of this image never come whole, so whoever begins fails.
    agents.registry.options.fault = ({ kind }) => (kind === 'blob' ? { status: 403 } : undefined);
    await start(1, 'alpha');
    await start(3, 'beta');
    await write(
      `images: [${IMAGE}], parallelism: {pools: 1}, failureTolerance: 0, pullPolicy: {backoffLimit: 0}`,
    );
    const view = await seen('job', is('Failed', 'FailureToleranceExceeded'));
    expect(view).toMatchObject({ desired: 3, failed: 1 });
    // Which pool comes first is whoever's agent the hub has seen: the other one never begins.
    const [failed] = view.failedNodes;
    expect(failed).toMatchObject({ code: 'DENIED' });
    const other = view.nodes.find((each) => ['n1', 'n3'].includes(each.node) && each.node !== failed?.node);
    expect(other).toMatchObject({ state: 'waiting', wanBytes: 0 });
  });

  it('starts pools one after the other', async () => {
    await start(1, 'alpha');
    await start(3, 'beta');
    await write(`images: [${IMAGE}], parallelism: {pools: 1, nodesPerPool: 1}, selector: {names: [n1, n3]}`);
    const view = await seen('job', is('Complete'));
    expect(view).toMatchObject({ desired: 2, succeeded: 2 });
  });

  it('answers a dry run in bytes a pool and fetches nothing', async () => {
    await start(3, 'beta');
    await eventually(
      () => hub.get<{ online: number }[]>('/v1/pools'),
      (pools) => pools.some(({ online }) => online === 1),
    );
    await write(`images: [${IMAGE}], selector: {nodePools: [beta]}, dryRun: true`);
    const view = await seen('job', is('Complete', 'DryRun'));
    expect(view.dryRun?.pools).toHaveLength(1);
    expect(view.dryRun?.wanBytes).toBeGreaterThan(image.blobBytes);
    expect(view.dryRun?.wanBytes).toBeLessThan(image.blobBytes + 20_000);
    expect((await agents.status(3)).counters.storedBytes).toBe(0);
  });

  it('takes a finished job of the API away when its time is over', async () => {
    await start(3, 'beta');
    const answer = await fetch(`${hub.api}/v1/prefetches/short`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        spec: {
          images: [{ image: IMAGE }],
          selector: { nodePools: ['beta'] },
          completionPolicy: { ttlSecondsAfterFinished: 1 },
        },
      }),
    });
    expect(answer.status).toBe(201);
    await seen('short', is('Complete'));
    await eventually(
      () => hub.get<PrefetchView[]>('/v1/prefetches'),
      (jobs) => jobs.length === 0,
    );
  });

  it('keeps images on nodes for the time that a job says, also when hub and job are gone', async () => {
    await start(3, 'beta');
    const put = (spec: object): Promise<Response> =>
      fetch(`${hub.api}/v1/prefetches/keep`, {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ spec: { images: [IMAGE], selector: { nodePools: ['beta'] }, ...spec } }),
      });
    expect((await put({ retain: '30 days' })).status).toBe(400);
    expect((await put({ retain: '30d', completionPolicy: { ttlSecondsAfterFinished: 2 } })).status).toBe(201);
    const view = await seen('keep', is('Complete'));
    const until = Date.parse(view.retainedUntil ?? '') - Date.now();
    expect(Math.round(until / 86_400_000)).toBe(30);
    const gone = (): Promise<unknown> =>
      eventually(
        () => agents.status(3),
        ({ prefetches }) => prefetches.length === 0,
      );
    await gone();
    const days = async (): Promise<[string, number][]> =>
      ((await agents.status(3)).kept ?? []).map(({ id, leftMs }) => [id, Math.round(leftMs / 86_400_000)]);
    expect(await days()).toEqual([['keep', 30]]);
    expect(await (await agents.ops(3, '/metrics')).text()).toContain('tidepool_prefetch_kept_images 1');

    // Without the hub, and after a restart.
    await hub.hub.stop();
    await agents.stop(3);
    await start(3, 'beta');
    expect(await days()).toEqual([['keep', 30]]);

    // A job of that name that says so lets go of them.
    await hub.start(Number(hub.mqtt.split(':').at(-1)));
    expect((await put({ retain: '0' })).status).toBe(201);
    await seen('keep', is('Complete'));
    expect(await days()).toEqual([]);
  });

  it('fails on a full node with what is missing there, and comes through when there is room', async () => {
    const disk = new SmallDisk(300_000);
    // Half a minute is nothing.
    const clock: Clock = {
      ...systemClock,
      after: (ms, fn) => systemClock.after(ms >= 20_000 && ms <= 60_000 ? 100 : ms, fn),
    };
    await agents.start(3, { pool: 'beta', hub: hub.mqtt, surroundings: { disk, clock } });
    await write(`images: [${IMAGE}], selector: {nodePools: [beta]}, pullPolicy: {backoffLimit: 0}`);
    const failed = await seen('job', is('Failed'));
    expect(failed.failedNodes).toMatchObject([{ node: 'n3', code: 'STORE_FULL' }]);
    expect(failed.failedNodes[0]?.message).toMatch(/^disk full: \S+ kB needed, .* free after making room/);
    disk.limit = 1_000_000_000;
    const done = await seen('job', is('Complete'));
    expect(done).toMatchObject({ succeeded: 1, failed: 0 });
  });

  it('finds done what is done when the hub has lost its data, and has none of it done again', async () => {
    await start(1, 'alpha');
    await start(2, 'alpha');
    await start(3, 'beta');
    await write(`images: [${IMAGE}], parallelism: {pools: 1, nodesPerPool: 1}`);
    const before = await seen('job', (view) => is('Complete')(view) && view.succeeded === 3);
    const progress = async (n: number) => (await agents.status(n)).prefetches[0];
    const first = await Promise.all([1, 2, 3].map(progress));
    const requests = agents.registry.requests.length;

    const port = Number(hub.mqtt.split(':').at(-1));
    await hub.hub.stop();
    await rm(hub.data, { recursive: true });
    await hub.start(port);
    const after = await seen('job', (view) => is('Complete')(view) && view.succeeded === 3);
    expect(after.bytes).toEqual(before.bytes);
    for (const [at, was] of first.entries()) {
      const now = await eventually(
        () => progress(at + 1),
        (each) => each !== undefined && each.generation !== was?.generation,
      );
      // A second run would have found everything here: no byte over the WAN, none from neighbours.
      expect(now).toEqual({ ...was, generation: now?.generation });
    }
    // The hub itself has asked what the tag is.
    expect(agents.registry.requests.slice(requests).filter(({ kind }) => kind === 'blob')).toEqual([]);
  });

  it('is steered from the command line', async () => {
    await start(3, 'beta');
    const cli = async (...args: string[]): Promise<string> => {
      let out = '';
      const io = { write: (text: string) => (out += text) };
      const code = await runCli([...args, '--hub', hub.api, '--insecure'], '0', {
        stdout: io,
        stderr: io,
        signal: new AbortController().signal,
      });
      expect([code, out]).toEqual([0, out]);
      return out;
    };
    expect(await cli('prefetch', 'plan', IMAGE, '--pool', 'beta')).toMatch(
      /is sha256:.* now[\s\S]*beta +1 .*upper bound/,
    );
    const file = `${hub.documents}/pull.txt`;
    await hub.write(
      'pull.txt',
      `apiVersion: apps.kruise.io/v1alpha1\nkind: ImagePullJob\nmetadata: {name: till}\nspec: {image: "${IMAGE}", parallelism: 0, selector: {names: [n3]}}\n`,
    );
    expect(await cli('prefetch', 'import', file, '--create')).toMatch(/pauses the job[\s\S]*suspended/);
    expect(await cli('prefetch', 'resume', 'till')).toMatch(/till/);
    await cli('prefetch', 'watch', 'till');
    // Counts are of now, conditions follow them a moment later.
    await seen('till', is('Complete'));
    expect(await cli('prefetch', 'show', 'till')).toMatch(/Complete \(Complete\)[\s\S]*n3 +beta +succeeded/);
    expect(await cli('prefetch', 'list')).toMatch(/till/);
    await cli('prefetch', 'delete', 'till');
    expect(await cli('prefetch', 'list')).toMatch(/no prefetches/);
  });
});
