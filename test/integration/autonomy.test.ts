/** Pools without their cloud: cold starts, black holes, splits, new addresses, and what the hub hears afterwards. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCli as runHubCli } from '../../cloud/cli/program.ts';
import type { AgentStatus } from '../../edge/ops/api.ts';
import type { NodeEventView, NodeView, PoolView } from '../../shared/wire/api.ts';
import type { BootstrapFile } from '../../shared/wire/bootstrap.ts';
import { AgentPool, digestsOf } from '../support/agent-pool.ts';
import { BlackHole } from '../support/black-hole.ts';
import { CliCapture } from '../support/cli-capture.ts';
import { Fleet, fleetBytes, fleetNode } from '../support/fleet.ts';
import { eventually, type HubFixture, startTestHub } from '../support/hub-fixture.ts';
import { startSecureHub } from '../support/hub-trust.ts';

const TEST_MS = 120_000;

let agents: AgentPool;
const closing: (() => Promise<unknown> | unknown)[] = [];
beforeEach(async () => {
  agents = new AgentPool();
  await agents.registry.start();
});
afterEach(async () => {
  await agents.close();
  for (const close of closing.splice(0).reverse()) await close();
});

const node = (name: string, pool = 'site'): string =>
  `apiVersion: v1\nkind: Node\nmetadata: {name: ${name}, labels: {apps.openyurt.io/nodepool: ${pool}}}\n---\n`;
const TUNING = `apiVersion: v1
kind: ConfigMap
metadata: {name: tidepool-tuning, namespace: kube-system}
data:
  wan: "wan:\\n- {name: all, settings: {connections: 3}}\\n"
`;
const job = (image: string): string =>
  `apiVersion: tidepool.dev/v1alpha1\nkind: ImagePrefetch\nmetadata: {name: job}\nspec: {images: ["${image}"]}\n`;

async function startHub(init: Parameters<typeof startTestHub>[0]): Promise<HubFixture> {
  const hub = await startTestHub(init);
  closing.push(() => hub.close());
  return hub;
}

async function swallow(address: string): Promise<BlackHole> {
  const hole = new BlackHole();
  const [host, port] = address.split(':');
  await hole.start(host, Number(port));
  closing.push(() => hole.stop());
  return hole;
}

describe('a pool whose cloud answers nothing', () => {
  it(
    'starts from its disks, keeps its word and its jobs, and makes no pull wait',
    async () => {
      const image = await agents.image([{ bytes: 1_500_000, seed: 1 }]);
      const files = {
        'nodes.yaml': ['n1', 'n2', 'n3'].map((name) => node(name)).join(''),
        'tuning.yaml': TUNING,
        'job.yaml': job(`reg.example/lab/app@${image.digest}`),
      };
      const hub = await startHub({ files });
      const { mqtt } = hub;
      const start = (n: number): Promise<void> => agents.start(n, { pool: 'site', hub: mqtt });
      await Promise.all([1, 2].map(start));
      await Promise.all([1, 2].map((n) => agents.untilLive(n, 1)));
      expect(await agents.pull(1, image)).toEqual(digestsOf(image));
      await eventually(
        () => agents.status(2),
        ({ prefetches }) => prefetches[0]?.state === 'succeeded',
        30_000,
      );
      const { tuningHash } = await agents.status(1);
      expect(tuningHash).not.toBeNull();

      // Power cut; when it is back the cloud swallows whatever it is sent.
      await Promise.all([1, 2].map((n) => agents.stop(n)));
      const [broker, registry] = [hub.hub.mqtt, new URL(agents.registry.url).host];
      await hub.hub.stop();
      await agents.registry.stop();
      const asked = agents.registry.requests.length;
      const cloud = await swallow(broker);
      await Promise.all([1, 2].map(start));
      await Promise.all([1, 2].map((n) => agents.untilLive(n, 1)));
      const cold = await agents.status(1);
      expect(cold.tuningHash).toBe(tuningHash);
      expect(cold.prefetches).toMatchObject([{ id: 'job', state: 'succeeded' }]);
      // Nothing listens at the registry: known to be down from the first request on.
      expect(await agents.pull(1, image)).toEqual(digestsOf(image));
      const down = await eventually(
        () => agents.status(1),
        ({ breakers = [] }) => breakers.length === 1,
      );
      expect(down.breakers).toMatchObject([
        { registry: 'reg.example', why: expect.stringContaining('ECONNREFUSED') },
      ]);

      // And now it takes connections and says nothing. Whatever a probe costs, no pull waits for it.
      const hole = await swallow(registry);
      await eventually(
        async () => {
          expect(await agents.pull(1, image)).toEqual(digestsOf(image));
          return hole.taken;
        },
        (taken) => taken > 0,
        30_000,
      );
      const open = hole.open;
      for (let n = 0; n < 5; n++) expect(await agents.pull(1, image)).toEqual(digestsOf(image));
      // All of them came and went while the probe still waited for its answer.
      expect(open).toBe(1);
      expect(hole.open).toBe(1);
      expect((await agents.status(1)).counters.wanBytes).toBe(0);

      const metrics = await (await agents.ops(1, '/metrics')).text();
      expect(metrics).toMatch(/tidepool_origin_breaker_open\{registry="reg.example",origin="http[^"]+"\} 1/);
      await eventually(
        () => cloud.taken,
        (taken) => taken > 0,
      );
      const { hub: link, events } = await agents.status(1);
      expect(['connecting', 'offline']).toContain(link?.state?.kind);
      expect(events?.waiting).toBeGreaterThan(0);
      expect(agents.registry.requests).toHaveLength(asked);
    },
    TEST_MS,
  );

  it('a node that has no pool and no hub works alone', async () => {
    const image = await agents.image([{ bytes: 300_000, seed: 2 }]);
    await agents.start(1);
    expect((await agents.status(1)).hub).toBeNull();
    expect(await agents.pull(1, image)).toEqual(digestsOf(image));
    await agents.registry.stop();
    expect(await agents.pull(1, image)).toEqual(digestsOf(image));
    await agents.stop(1);
    await agents.start(1);
    expect(await agents.pull(1, image)).toEqual(digestsOf(image));
    expect((await agents.status(1)).counters.wanBytes).toBe(0);
  });
});

describe('a hub that starts from nothing', () => {
  it(
    'knows every node again, its address, what it holds, its tuning and its jobs, within the spread of the agents',
    async () => {
      const pools = 4;
      const count = 40;
      const names = Array.from({ length: count }, (_, n) => fleetNode(n));
      const files = {
        'nodes.yaml': names.map((name, n) => node(name, `fleet-pool-${n % pools}`)).join(''),
        'tuning.yaml': TUNING,
        'job.yaml': job(`reg.example/lab/app@sha256:${'a'.repeat(64)}`),
      };
      const hub = await startHub({ files });
      const fleet = new Fleet({
        agents: count,
        pools,
        mqtt: hub.mqtt,
        link: { reconnect: { baseMs: 800, maxMs: 2_000, growth: 1.2, floor: 0.5 }, spreadMs: 100 },
      });
      closing.push(() => fleet.stop());
      await fleet.start();
      const known = async (): Promise<number> =>
        (await hub.get<PoolView[]>('/v1/pools')).reduce(
          (sum, { online, tuned }) => sum + Math.min(online, tuned),
          0,
        );
      await eventually(known, (sum) => sum === count);

      const port = Number(hub.hub.mqtt.split(':').at(-1));
      await hub.hub.stop();
      await rm(hub.data, { recursive: true });
      await hub.start(port);
      await eventually(known, (sum) => sum === count, 20_000);
      const seen = (): Promise<readonly NodeView[]> => hub.get<NodeView[]>('/v1/nodes');
      const views = await eventually(seen, (nodes) =>
        nodes.every(({ address, counters }) => address !== null && counters !== null),
      );
      for (const [n, name] of names.entries()) {
        const view = views.find((each) => each.node === name);
        expect(view).toMatchObject({ address: `10.2.0.${n}:6181`, counters: { storedBytes: fleetBytes(n) } });
      }
      await eventually(
        () => hub.get<{ succeeded: number }>('/v1/prefetches/job'),
        ({ succeeded }) => succeeded === count,
      );
      // Spread, and not all in one moment.
      const at = fleet.connectedAt();
      expect(Math.max(...at) - Math.min(...at)).toBeGreaterThan(400);
    },
    TEST_MS,
  );
});

describe('what happened while the hub was away', () => {
  it(
    'is told when it is back, once, and shown by node and by pool',
    async () => {
      const image = await agents.image([{ bytes: 200_000, seed: 4 }]);
      const hub = await startHub({ files: { 'nodes.yaml': node('n1') } });
      const { mqtt } = hub;
      await agents.start(1, { pool: 'site', hub: mqtt });
      const events = (query: string): Promise<NodeEventView[]> => hub.get<NodeEventView[]>(query);
      const started = await eventually(
        () => events('/v1/nodes/n1/events'),
        (found) => found.length === 1,
      );
      expect(started).toMatchObject([{ node: 'n1', kind: 'agent-started', count: 1 }]);
      await eventually(
        () => agents.status(1),
        (status) => status.events?.waiting === 0,
      );
      await agents.pull(1, image);
      const port = Number(hub.hub.mqtt.split(':').at(-1));
      await hub.hub.stop();
      await agents.registry.stop();
      // Stopped and started without a hub: it comes back with the first report of the next start.
      await agents.stop(1);
      await agents.start(1, { pool: 'site', hub: mqtt });
      for (let n = 0; n < 2; n++) expect(await agents.pull(1, image)).toEqual(digestsOf(image));
      await hub.start(port);
      const told = await eventually(
        () => events('/v1/events?pool=site'),
        (found) => found.length === 3,
        30_000,
      );
      expect(told).toMatchObject([
        { kind: 'agent-started' },
        { kind: 'agent-started' },
        { kind: 'tag-stale', key: 'reg.example/lab/app:v1', count: 2 },
      ]);
      await eventually(
        () => agents.status(1),
        (status) => status.events?.waiting === 0,
      );
      expect(await (await fetch(`${hub.api}/metrics`)).text()).toMatch(
        /tidepool_hub_node_events_total\{kind="agent-started"\} 1/,
      );
    },
    TEST_MS,
  );
});

describe('a new disk where no hub can be reached', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bootstrap-'));
    closing.push(() => rm(directory, { recursive: true, force: true }));
  });
  const cli = async (...args: string[]): Promise<string> => {
    let out = '';
    const write = (text: string | Uint8Array): boolean => {
      out += text.toString();
      return true;
    };
    const io = { stdout: { write }, stderr: { write }, signal: new AbortController().signal };
    const code = await runHubCli(args, '9.9.9', io);
    expect([code, out]).toEqual([0, out]);
    return out;
  };

  it(
    'is started by a file that the hub has written, and pulls from its neighbours by what the hub said of tags',
    async () => {
      const image = await agents.image([{ bytes: 400_000, seed: 5 }]);
      const files = {
        'nodes.yaml': node('n1') + node('n2'),
        'tuning.yaml': TUNING,
        'job.yaml': job(`reg.example/lab/app:v1@${image.digest}`),
      };
      const hub = await startHub({ files });
      const { mqtt } = hub;
      await agents.start(1, { pool: 'site', hub: mqtt });
      await eventually(
        () => agents.status(1),
        ({ prefetches, tuningHash }) => prefetches[0]?.state === 'succeeded' && tuningHash !== null,
        30_000,
      );
      const file = join(directory, 'site.json');
      await eventually(
        () => hub.get<NodeView[]>('/v1/nodes'),
        (nodes) => nodes.some(({ address }) => address === agents.peer(1)),
      );
      expect(await cli('pools', 'bootstrap', 'site', '-o', file, '--hub', hub.api, '--insecure')).toMatch(
        /pool site, 4 messages, not signed/,
      );
      await hub.hub.stop();
      await agents.registry.stop();

      const bad = join(directory, 'bad.json');
      await writeFile(bad, (await readFile(file)).subarray(0, 500));
      await expect(agents.start(2, { pool: 'site', hub: mqtt, bootstrap: bad })).rejects.toMatchObject({
        code: 'INVALID_CONFIG',
        message: expect.stringMatching(/bad\.json cannot be used.*tidepool-hub pools bootstrap site/),
      });
      await agents.start(2, { pool: 'site', hub: mqtt, bootstrap: file });
      await agents.untilLive(2, 1);
      const status = await agents.status(2);
      expect(status.tuningHash).toBe((await agents.status(1)).tuningHash);
      expect(status.prefetches).toMatchObject([{ id: 'job' }]);
      expect(await agents.pull(2, image)).toEqual(digestsOf(image));
      // What it has it keeps: the file may be gone the next time.
      await agents.stop(2);
      await agents.start(2, { pool: 'site', hub: mqtt, bootstrap: join(directory, 'gone.json') });
      expect((await agents.status(2)).tuningHash).toBe(status.tuningHash);
    },
    TEST_MS,
  );
});

describe('agents with certificates', () => {
  it(
    'find each other at new addresses without their hub, and take the word of a file where the index was lost',
    async () => {
      const directory = await mkdtemp(join(tmpdir(), 'autonomy-'));
      closing.push(() => rm(directory, { recursive: true, force: true }));
      const hub = await startSecureHub();
      closing.push(() => hub.close());
      const group = `239.255.61.82:${20_000 + (process.pid % 20_000)}`;
      const network = `127.${10 + (process.pid % 200)}.${1 + Math.floor(Math.random() * 250)}`;
      const join1 = await hub.token('site', { uses: 2 });
      const hubAt = [`--hub=mqtts://${hub.fixture.hub.mqtt}`, `--enroll-url=${hub.url}`, `--join=${join1}`];
      const running: { agent: CliCapture; ended: Promise<unknown> }[] = [];
      const start = (n: number, host: number, more: readonly string[] = []): CliCapture => {
        const agent = new CliCapture({
          files: { 'a.yaml': `trust: {beacon: true, beaconGroup: "${group}"}\n` },
        });
        const address = `${network}.${host}`;
        const ended = agent.run(
          ...['run', '--config=a.yaml', `--node=n${n}`, `--address=${address}`, `--ops=${address}:0`],
          ...[
            `--data=${join(directory, `n${n}`)}`,
            `--mirror=${address}:0`,
            '--peer-port=16184',
            '--cri=none',
          ],
          ...hubAt,
          ...more,
        );
        running.push({ agent, ended });
        return agent;
      };
      const stop = async (): Promise<void> => {
        const all = running.splice(0);
        for (const { agent } of all) agent.stop();
        await Promise.all(all.map(({ ended }) => ended));
      };
      closing.push(stop);
      const meets = (agent: CliCapture, address: string): Promise<AgentStatus | undefined> =>
        eventually(
          () => statusOf(agent),
          (found) =>
            found?.members.some((each) => each.live && each.address.startsWith(`${address}:`)) === true,
          30_000,
        );
      const [one, two] = [start(1, 1), start(2, 2)];
      await meets(one, `${network}.2`);
      await meets(two, `${network}.1`);
      const file = join(directory, 'site.json');
      const { messages } = await eventually(
        () => hub.admin.call<BootstrapFile>('GET', '/v1/pools/site/bootstrap'),
        (found) => JSON.stringify(found).length > 2_000,
      );
      expect(messages.map(({ topic }) => topic.split('/').at(4)).sort()).toContain('trust');
      await writeFile(file, JSON.stringify(await hub.admin.call('GET', '/v1/pools/site/bootstrap')));
      await stop();
      await hub.fixture.hub.stop();

      // Everything is rebooted, nobody where he was, and the hub is gone.
      const [moved, other] = [start(1, 11), start(2, 12)];
      await meets(moved, `${network}.12`);
      await meets(other, `${network}.11`);
      await stop();

      // The index of one is lost, its identity is kept.
      for (const name of ['index.db', 'index.db-wal', 'index.db-shm']) {
        await rm(join(directory, 'n2', name), { force: true });
      }
      const [back, fresh] = [start(1, 1), start(2, 2, [`--bootstrap=${file}`])];
      await meets(fresh, `${network}.1`);
      await meets(back, `${network}.2`);
      expect((await statusOf(fresh))?.tuningHash).not.toBeNull();
      expect(fresh.stderr).toContain('the bootstrap file is taken in');
    },
    TEST_MS,
  );
});

async function statusOf(agent: CliCapture): Promise<AgentStatus | undefined> {
  const up = agent.stderr.split('\n').findLast((line) => line.includes('"agent is up"'));
  if (up === undefined) return undefined;
  const { ops } = JSON.parse(up) as { ops: string };
  return (await (await fetch(`http://${ops}/v1/status`)).json()) as AgentStatus;
}
