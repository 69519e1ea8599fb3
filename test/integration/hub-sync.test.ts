import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { HubLink, type HubLinkInit } from '../../edge/sync/hub-link.ts';
import { systemClock } from '../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import type {
  NodeView,
  PoolView,
  PrefetchDetailView,
  PrefetchView,
  ProblemView,
} from '../../shared/wire/api.ts';
import type { PrefetchMessage, PrefetchProgress } from '../../shared/wire/messages/prefetch.ts';
import type { TuningMessage } from '../../shared/wire/messages/tuning.ts';
import { freePort } from '../support/free-port.ts';
import { eventually, type HubFixture, startTestHub } from '../support/hub-fixture.ts';
import { MemoryDocuments } from '../support/memory-documents.ts';

const counters = {
  wanBytes: 10,
  peerBytes: 20,
  servedPeerBytes: 0,
  servedRuntimeBytes: 0,
  storedBytes: 30,
  blobs: 1,
};

interface TestAgent {
  readonly link: HubLink;
  readonly documents: MemoryDocuments;
  readonly seen: {
    tuning?: TuningMessage;
    jobs: readonly PrefetchMessage[];
    roster: readonly string[];
    rosters: number;
  };
  stop(): Promise<void>;
}

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function agent(
  urls: readonly string[],
  name: string,
  pool: string,
  more: { documents?: MemoryDocuments; init?: Partial<HubLinkInit> } = {},
): Promise<TestAgent> {
  const documents = more.documents ?? new MemoryDocuments();
  const link = new HubLink(
    { documents, clock: systemClock, log: silentLogger() },
    {
      urls,
      node: parseNodeName(name),
      pool: parsePoolName(pool),
      bootId: randomUUID(),
      address: '127.0.0.1:6181',
      version: '0.1.0',
      platform: 'linux/amd64',
      spreadMs: 20,
      reconnect: { baseMs: 50, maxMs: 400 },
      reportIntervalMs: 50,
      ...more.init,
    },
  );
  const seen: TestAgent['seen'] = { jobs: [], roster: [], rosters: 0 };
  link.onTuning((tuning) => {
    seen.tuning = tuning;
    link.report({ tuningHash: tuning.hash });
  });
  link.onPrefetch((jobs) => {
    seen.jobs = jobs;
  });
  link.onRoster(({ nodes }) => {
    seen.roster = nodes.map(({ node }) => node);
    seen.rosters++;
  });
  await link.start();
  let stopped = false;
  const stop = async (): Promise<void> => {
    if (stopped) return;
    stopped = true;
    await link.stop();
  };
  cleanups.push(stop);
  return { link, documents, seen, stop };
}

async function hub(files: Record<string, string> = {}, broker?: string): Promise<HubFixture> {
  const fixture = await startTestHub({ files, ...(broker === undefined ? {} : { broker }) });
  cleanups.push(() => fixture.close());
  return fixture;
}

const nodeDocument = (name: string, pool: string): string =>
  `apiVersion: v1\nkind: Node\nmetadata: {name: ${name}, labels: {apps.openyurt.io/nodepool: ${pool}}}\n---\n`;
const tuningDocument = (download: string): string =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tidepool-tuning}\ndata:\n  wan: |\n    - {name: everyone, settings: {download: ${download}}}\n`;

const online = (node: string) => (nodes: readonly NodeView[]) =>
  nodes.some((each) => each.node === node && each.online);
const progressOf = (job: PrefetchMessage, state: PrefetchProgress['state']): PrefetchProgress => ({
  id: job.id,
  generation: job.generation,
  state,
  totalBytes: 100,
  doneBytes: state === 'succeeded' ? 100 : 40,
  wanBytes: 25,
  peerBytes: 15,
});

/** Everything that must hold with any broker. */
function contract(broker: () => Promise<string | undefined>): void {
  it('brings tuning, roster and jobs to agents, and their reports back', async () => {
    const h = await hub({ 'tuning.yaml': tuningDocument('10Mbit') }, await broker());
    const a = await agent([h.mqtt], 'n1', 'alpha');
    const b = await agent([h.mqtt], 'n2', 'alpha');
    await eventually(
      () => a.seen.roster,
      (roster) => roster.join() === 'n1,n2',
    );
    await eventually(
      () => b.seen.tuning,
      (tuning) => tuning?.settings.wan?.download === '10Mbit',
    );
    await eventually(
      () => h.get<PoolView[]>('/v1/pools'),
      ([pool]) => pool?.tuned === 2 && pool.online === 2,
    );
    await h.write('tuning.yaml', tuningDocument('20Mbit'));
    await eventually(
      () => a.seen.tuning,
      (tuning) => tuning?.settings.wan?.download === '20Mbit',
    );

    const answer = await fetch(`${h.api}/v1/prefetches`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ id: 'job', images: [{ image: 'registry.test/app:1' }], pools: ['alpha'] }),
    });
    expect(answer.status).toBe(201);
    for (const each of [a, b]) {
      const [job] = await eventually(
        () => each.seen.jobs,
        (jobs) => jobs.length === 1,
      );
      if (job === undefined) throw new Error('no job');
      each.link.report({ counters, prefetches: [progressOf(job, 'active')] });
      each.link.report({ prefetches: [progressOf(job, 'succeeded')] });
    }
    const view = await eventually(
      () => h.get<PrefetchDetailView>('/v1/prefetches/job'),
      ({ succeeded }) => succeeded === 2,
    );
    expect(view.bytes).toEqual({ total: 200, done: 200, wan: 50, peer: 30 });
    expect(view.nodes.map(({ node, state }) => [node, state])).toEqual([
      ['n1', 'succeeded'],
      ['n2', 'succeeded'],
    ]);

    expect((await fetch(`${h.api}/v1/prefetches/job`, { method: 'DELETE' })).status).toBe(204);
    await eventually(
      () => a.seen.jobs,
      (jobs) => jobs.length === 0,
    );
  });

  it('tells an agent that left from one that was cut off, and never by a late will', async () => {
    const h = await hub({}, await broker());
    const a = await agent([h.mqtt], 'n1', 'alpha');
    await eventually(() => h.get<NodeView[]>('/v1/nodes'), online('n1'));
    await a.stop();
    await eventually(
      () => h.get<NodeView[]>('/v1/nodes'),
      (nodes) => nodes[0]?.online === false,
    );
    // The same name again, taking the connection over: the broker publishes the will of the first.
    await agent([h.mqtt], 'n1', 'alpha', { init: { reconnect: { baseMs: 600_000, maxMs: 600_000 } } });
    await eventually(() => h.get<NodeView[]>('/v1/nodes'), online('n1'));
    await agent([h.mqtt], 'n1', 'alpha');
    const canary = await agent([h.mqtt], 'canary', 'alpha');
    await eventually(() => h.get<NodeView[]>('/v1/nodes'), online('canary'));
    await canary.stop();
    // What came after the takeover has been worked through, so has the will.
    await eventually(
      () => h.get<NodeView[]>('/v1/nodes'),
      (nodes) => nodes.some(({ node, online: up }) => node === 'canary' && !up),
    );
    expect(online('n1')(await h.get<NodeView[]>('/v1/nodes'))).toBe(true);
  });

  it('a restarted hub has a higher epoch, and everything finds its way back', async () => {
    const h = await hub(
      { 'nodes.yaml': nodeDocument('n1', 'alpha') + tuningDocument('10Mbit') },
      await broker(),
    );
    const a = await agent([h.mqtt], 'n1', 'alpha');
    a.link.report({ counters });
    await eventually(
      () => a.seen.tuning?.epoch,
      (epoch) => epoch === h.hub.epoch,
    );
    await eventually(
      () => h.get<PoolView[]>('/v1/pools'),
      ([pool]) => pool?.wanBytes === 10,
    );
    const before = h.hub.epoch;
    await h.restart();
    expect(h.hub.epoch).toBeGreaterThan(before);
    const [pool] = await eventually(
      () => h.get<PoolView[]>('/v1/pools'),
      ([each]) => each?.online === 1 && each.tuned === 1 && each.wanBytes === 10,
    );
    expect(pool?.pool).toBe('alpha');
    await h.write('nodes.yaml', nodeDocument('n1', 'alpha') + tuningDocument('30Mbit'));
    await eventually(
      () => a.seen.tuning,
      (tuning) => tuning?.settings.wan?.download === '30Mbit',
    );
    expect(a.seen.tuning?.epoch).toBe(h.hub.epoch);
    // The address was known all along: no roster without it went out over the good one.
    expect((await h.get<NodeView[]>('/v1/nodes'))[0]?.address).toBe('127.0.0.1:6181');
  });

  it('a job that was taken back while the agent was away is dropped when it returns', async () => {
    const job = `apiVersion: tidepool.dev/v1alpha1\nkind: ImagePrefetch\nmetadata: {name: gone}\nspec: {images: [a.test/b:1]}\n`;
    const h = await hub({ 'nodes.yaml': nodeDocument('n1', 'alpha'), 'job.yaml': job }, await broker());
    const a = await agent([h.mqtt], 'n1', 'alpha');
    await eventually(
      () => a.seen.jobs,
      (jobs) => jobs.length === 1,
    );
    await a.stop();
    await h.write('job.yaml', '');
    await eventually(
      () => h.get<PrefetchView[]>('/v1/prefetches'),
      (jobs) => jobs.length === 0,
    );
    const again = await agent([h.mqtt], 'n1', 'alpha', { documents: a.documents });
    expect(again.seen.jobs).toHaveLength(1);
    await eventually(
      () => again.seen.jobs,
      (jobs) => jobs.length === 0,
    );
    expect(a.documents.list('sync/job/')).toEqual([]);
  });
}

describe('hub and agents over the embedded broker', () => {
  contract(async () => undefined);

  it('sends rosters of more than 100 nodes in shards that agents put together', async () => {
    const names = Array.from({ length: 250 }, (_, index) => `n${String(index).padStart(3, '0')}`);
    const h = await hub({ 'nodes.yaml': names.map((name) => nodeDocument(name, 'big')).join('') });
    const a = await agent([h.mqtt], 'n007', 'big');
    await eventually(
      () => a.seen.roster,
      (roster) => roster.length === 250,
    );
    expect(a.seen.roster).toEqual(names);
    await h.write(
      'nodes.yaml',
      names
        .slice(0, 90)
        .map((name) => nodeDocument(name, 'big'))
        .join(''),
    );
    await eventually(
      () => a.seen.roster,
      (roster) => roster.length === 90,
    );
  });

  it('an agent that starts without its hub works by what it was told', async () => {
    const h = await hub({ 'nodes.yaml': nodeDocument('n1', 'alpha') + nodeDocument('n2', 'alpha') });
    const a = await agent([h.mqtt], 'n1', 'alpha');
    await eventually(
      () => a.seen.roster,
      (roster) => roster.length === 2,
    );
    await a.stop();
    const offline = await agent(['mqtt://127.0.0.1:1'], 'n1', 'alpha', { documents: a.documents });
    expect(offline.seen.roster).toEqual(['n1', 'n2']);
    expect(offline.seen.rosters).toBe(1);
    offline.link.report({ counters });
    const state = await eventually(
      () => offline.link.state(),
      ({ lastError }) => lastError !== null,
    );
    expect(state.connected).toBe(false);
    expect(state.lastError).toMatch(/ECONNREFUSED/);
  });

  it('survives rubbish on every topic that agents may use', async () => {
    const h = await hub();
    const { default: mqtt } = await import('mqtt');
    const rude = await mqtt.connectAsync(h.mqtt, { protocolVersion: 4, reconnectPeriod: 0 });
    cleanups.push(() => rude.endAsync(true));
    for (const payload of ['', '{', 'null', '[]', '{"node":"n2"}', '\u0000', 'x'.repeat(60_000)]) {
      for (const kind of ['birth', 'death', 'report']) {
        await rude.publishAsync(`tidepool/v1/nodes/n1/${kind}`, payload, { qos: 1 });
      }
    }
    await agent([h.mqtt], 'n1', 'alpha');
    await eventually(() => h.get<NodeView[]>('/v1/nodes'), online('n1'));
    const metrics = await (await fetch(`${h.api}/metrics`)).text();
    expect(metrics).toMatch(/tidepool_hub_received_bad_total 18/);
  });

  it('does not let agents speak for the hub', async () => {
    const h = await hub();
    const a = await agent([h.mqtt], 'n1', 'alpha');
    const { default: mqtt } = await import('mqtt');
    const forger = await mqtt.connectAsync(h.mqtt, { protocolVersion: 4, reconnectPeriod: 0 });
    cleanups.push(() => forger.endAsync(true));
    const closed = new Promise<void>((resolve) => forger.once('close', () => resolve()));
    const forged = { epoch: 9e15, version: 9, hash: 'x', settings: { wan: { download: '1kbit' } } };
    forger.publish(
      'tidepool/v1/pools/alpha/tuning',
      JSON.stringify(forged),
      { qos: 1, retain: true },
      () => {},
    );
    await closed;
    await eventually(
      () => a.seen.tuning,
      (tuning) => tuning !== undefined,
    );
    expect(a.seen.tuning?.epoch).toBe(h.hub.epoch);
  });

  it('says in words why a prefetch goes nowhere', async () => {
    const h = await hub({ 'nodes.yaml': nodeDocument('n1', 'alpha') });
    const answer = await fetch(`${h.api}/v1/prefetches`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ id: 'lost', images: [{ image: 'a.test/b:1' }], pools: ['beta'] }),
    });
    const view = (await answer.json()) as PrefetchView;
    expect(view.problems).toEqual(['pool beta is unknown: no NodePool document and no node names it']);
    expect(await h.get<ProblemView[]>('/v1/problems')).toEqual([
      { source: 'prefetch lost', message: view.problems[0] },
    ]);
  });
});

const mosquitto = findMosquitto();
if (mosquitto === undefined) console.warn('hub-sync: mosquitto is not on PATH, its tests are skipped');

describe.skipIf(mosquitto === undefined)('hub and agents over Mosquitto', () => {
  contract(startMosquitto);

  it('clears what an earlier hub left behind', async () => {
    const url = await startMosquitto();
    const first = await hub({ 'nodes.yaml': nodeDocument('n1', 'old') }, url);
    await eventually(
      () => first.get<PoolView[]>('/v1/pools'),
      (pools) => pools.length === 1,
    );
    const { default: mqtt } = await import('mqtt');
    const look = await mqtt.connectAsync(url, { protocolVersion: 4, reconnectPeriod: 0 });
    cleanups.push(() => look.endAsync(true));
    const retained = new Map<string, string>();
    look.on('message', (topic, payload) => void retained.set(topic, payload.toString()));
    await look.subscribeAsync('tidepool/v1/pools/#', { qos: 1 });
    await eventually(
      () => [...retained.keys()],
      (found) => found.length === 3,
    );
    await first.hub.stop();
    const second = await hub({ 'nodes.yaml': nodeDocument('n1', 'new') }, url);
    await eventually(
      () => [...retained].filter(([topic, text]) => topic.includes('/old/') && text === '').length,
      (cleared) => cleared === 3,
    );
    expect(retained.get('tidepool/v1/pools/new/roster/0')).toContain(`"epoch":${second.hub.epoch}`);
  });
});

function findMosquitto(): string | undefined {
  try {
    return execFileSync('sh', ['-c', 'command -v mosquitto'], { encoding: 'utf8' }).trim();
  } catch {
    return undefined;
  }
}

async function startMosquitto(): Promise<string> {
  const directory = mkdtempSync(path.join(tmpdir(), 'tidepool-mosquitto-'));
  const port = await freePort('127.0.0.1');
  const config = path.join(directory, 'mosquitto.conf');
  writeFileSync(config, `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\n`);
  const child: ChildProcess = spawn(mosquitto ?? 'mosquitto', ['-c', config], { stdio: 'ignore' });
  cleanups.push(async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  });
  await eventually(
    () =>
      new Promise<boolean>((resolve) => {
        const socket = net.connect({ host: '127.0.0.1', port }, () => {
          socket.destroy();
          resolve(true);
        });
        socket.on('error', () => resolve(false));
      }),
    (up) => up,
  );
  return `mqtt://127.0.0.1:${port}`;
}
