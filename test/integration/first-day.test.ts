import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../../cloud/cli/program.ts';
import { HubLink, type HubLinkInit } from '../../edge/sync/hub-link.ts';
import { systemClock } from '../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import type { NodeView, PoolView, PrefetchView } from '../../shared/wire/api.ts';
import type { PrefetchMessage } from '../../shared/wire/messages/prefetch.ts';
import type { TuningMessage } from '../../shared/wire/messages/tuning.ts';
import { freshBundles } from '../support/bundles.ts';
import { freePort } from '../support/free-port.ts';
import { eventually, type HubFixture, startTestHub } from '../support/hub-fixture.ts';
import { MemoryDocuments } from '../support/memory-documents.ts';

const cleanups: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function directory(): Promise<string> {
  const made = await mkdtemp(path.join(tmpdir(), 'tidepool-day-'));
  cleanups.push(() => rm(made, { recursive: true, force: true }));
  return made;
}

async function hub(init: Parameters<typeof startTestHub>[0] = {}): Promise<HubFixture> {
  const fixture = await startTestHub(init);
  cleanups.push(() => fixture.close());
  return fixture;
}

async function cli(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await runCli(args, '0.1.0', {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (err += text) },
    signal: new AbortController().signal,
  });
  return { code, out, err };
}

async function agent(urls: readonly string[], init: Partial<HubLinkInit> = {}) {
  const seen: { tuning?: TuningMessage; jobs: readonly PrefetchMessage[] } = { jobs: [] };
  const documents = new MemoryDocuments();
  const link = new HubLink(
    { documents, clock: systemClock, log: silentLogger() },
    {
      urls,
      node: parseNodeName('n1'),
      pool: parsePoolName('alpha'),
      bootId: randomUUID(),
      address: '10.0.0.1:6181',
      version: '0.1.0',
      platform: 'linux/amd64',
      spreadMs: 20,
      reconnect: { baseMs: 50, maxMs: 400 },
      reportIntervalMs: 20,
      ...init,
    },
  );
  link.onTuning((tuning) => {
    seen.tuning = tuning;
    link.report({ tuningHash: tuning.hash });
  });
  link.onPrefetch((jobs) => {
    seen.jobs = jobs;
  });
  await link.start();
  cleanups.push(() => link.stop());
  return { link, seen };
}

const tuning = (download: string): string =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tidepool-tuning}\ndata:\n  wan: |\n    wan: [{name: all, pool: alpha, settings: {download: ${download}}}]\n`;
const nodeIs = (up: boolean) => (nodes: readonly NodeView[]) => nodes.length === 1 && nodes[0]?.online === up;

describe('another hub address', () => {
  it('agents that know both go over to a hub restored from a backup, and obey it', async () => {
    const root = await directory();
    const b = `127.0.0.1:${await freePort('127.0.0.1')}`;
    const first = await hub({ files: { 'tuning.yaml': tuning('10Mbit') } });
    const a = await agent([first.mqtt, `mqtt://${b}`]);
    await eventually(() => first.get<NodeView[]>('/v1/nodes'), nodeIs(true));
    await fetch(`${first.api}/v1/prefetches`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ id: 'web', images: [{ image: 'r.test/web:1' }], pools: ['alpha'] }),
    });
    const [job] = await eventually(
      () => a.seen.jobs,
      (jobs) => jobs.length === 1,
    );
    const file = path.join(root, 'backup.json');
    expect(await cli('backup', '-o', file, '--data', first.data)).toMatchObject({ code: 0, err: '' });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    // Started once more after the backup, it has a higher epoch than the backup knows.
    await first.restart();
    await eventually(() => first.get<NodeView[]>('/v1/nodes'), nodeIs(true));
    const data = path.join(root, 'data');
    const restored = await cli('restore', file, '--data', data);
    expect(restored).toMatchObject({ code: 0, err: '' });
    expect(await cli('restore', file, '--data', data)).toMatchObject({
      code: 1,
      err: expect.stringMatching(/is not empty/),
    });
    await first.hub.stop();

    const port = Number(b.split(':')[1]);
    const second = await hub({
      data,
      files: { 'tuning.yaml': tuning('20Mbit') },
      settings: { mqtt: { host: '127.0.0.1', port } },
    });
    expect(second.hub.epoch).toBeGreaterThan(first.hub.epoch);
    await eventually(() => second.get<NodeView[]>('/v1/nodes'), nodeIs(true));
    await eventually(
      () => a.seen.tuning?.settings.wan?.download,
      (download) => download === '20Mbit',
    );
    await eventually(
      () => second.get<PoolView[]>('/v1/pools'),
      ([pool]) => pool?.tuned === 1,
    );
    // The job is the one of before, and not run a second time.
    const [kept] = await second.get<PrefetchView[]>('/v1/prefetches');
    expect(kept?.id).toBe('web');
    await eventually(
      () => a.seen.jobs,
      (jobs) => jobs.length === 1 && jobs[0]?.generation === job?.generation,
    );
  });
});

describe('a node that is replaced', () => {
  it('is shown once, with its new address and nothing of the old machine, and is forgotten on demand', async () => {
    const h = await hub();
    const old = await agent([h.mqtt]);
    const counters = {
      wanBytes: 5,
      peerBytes: 6,
      servedPeerBytes: 0,
      servedRuntimeBytes: 0,
      storedBytes: 7,
      blobs: 1,
    };
    old.link.report({ counters });
    await eventually(
      () => h.get<NodeView[]>('/v1/nodes'),
      ([node]) => node?.counters?.wanBytes === 5,
    );
    expect(await cli('nodes', 'forget', 'n1', '--hub', h.api, '--insecure')).toMatchObject({
      code: 1,
      err: expect.stringMatching(/node n1 is online; stop its agent first/),
    });
    await old.link.stop();
    await eventually(() => h.get<NodeView[]>('/v1/nodes'), nodeIs(false));
    expect((await cli('nodes', '--offline', '--hub', h.api, '--insecure')).out).toMatch(
      /n1 +alpha +offline \d+s/,
    );

    // Reinstalled: another boot, another address, an empty store.
    await agent([h.mqtt], { address: '10.0.0.99:6181', version: '0.2.0' });
    const [node] = await eventually(
      () => h.get<NodeView[]>('/v1/nodes'),
      (nodes) => nodeIs(true)(nodes) && nodes[0]?.address === '10.0.0.99:6181',
    );
    expect(node).toMatchObject({ node: 'n1', address: '10.0.0.99:6181', version: '0.2.0', counters: null });
    const shown = await cli('nodes', 'show', 'n1', '--hub', h.api, '--insecure');
    expect(shown.out).toMatch(/^address +10\.0\.0\.99:6181$/m);
    expect(shown.out).toMatch(/^state +online$/m);
    const pools = await h.get<PoolView[]>('/v1/pools');
    expect(pools.map(({ nodes, online }) => [nodes, online])).toEqual([[1, 1]]);
  });

  it('that is gone for good is forgotten, also by the next start of the hub', async () => {
    const h = await hub({
      files: { 'n2.yaml': 'apiVersion: v1\nkind: Node\nmetadata: {name: n2}\n' },
    });
    const a = await agent([h.mqtt]);
    const b = await agent([h.mqtt], { node: parseNodeName('n3'), address: '10.0.0.3:6181' });
    await eventually(
      () => h.get<PoolView[]>('/v1/pools'),
      ([pool]) => pool?.online === 2,
    );
    await a.link.stop();
    await eventually(
      () => h.get<PoolView[]>('/v1/pools'),
      ([pool]) => pool?.online === 1,
    );
    expect(await cli('nodes', 'forget', 'n1', '--hub', h.api, '--insecure')).toMatchObject({
      code: 0,
      err: '',
    });
    expect(await cli('nodes', 'forget', 'n1', '--hub', h.api, '--insecure')).toMatchObject({
      code: 1,
      err: expect.stringMatching(/there is no node "n1"/),
    });
    expect(await cli('nodes', 'forget', 'n2', '--hub', h.api, '--insecure')).toMatchObject({
      code: 1,
      err: expect.stringMatching(/n2 stands in a Node document/),
    });
    await b.link.stop();
    await h.restart();
    expect((await h.get<NodeView[]>('/v1/nodes')).map(({ node }) => node)).toEqual(['n2', 'n3']);
  });
});

describe('the command', () => {
  let bundle = '';
  beforeAll(async () => {
    bundle = (await freshBundles()).hub;
  });
  const start = (args: readonly string[], stdout: 'pipe' | 'ignore' = 'pipe') => {
    const child = spawn(process.execPath, [bundle, ...args], {
      stdio: ['ignore', stdout, 'pipe'],
    });
    cleanups.push(() => child.kill('SIGKILL'));
    let err = '';
    child.stderr?.on('data', (part: Buffer) => {
      err += part;
    });
    return { child, err: () => err, exit: once(child, 'exit') };
  };

  it('ends quietly when nobody reads on', async () => {
    const h = await hub({
      files: {
        'nodes.yaml': Array.from(
          { length: 4_000 },
          (_, i) => `---\napiVersion: v1\nkind: Node\nmetadata: {name: a-node-with-a-long-name-${i}}\n`,
        ).join(''),
      },
    });
    for (const args of [['nodes'], ['nodes', '--watch', '--json']]) {
      const { child, err, exit } = start([...args, '--hub', h.api, '--insecure']);
      if (child.stdout === null) throw new Error('no stdout');
      await once(child.stdout, 'data');
      child.stdout.destroy();
      const [, signal] = await exit;
      expect(signal).toBeNull();
      expect(err()).toBe('');
    }
  });

  it('ends a watch on Ctrl-C with 0', async () => {
    const h = await hub();
    const { child, err, exit } = start(['pools', '--watch', '--hub', h.api, '--insecure']);
    if (child.stdout === null) throw new Error('no stdout');
    await once(child.stdout, 'data');
    child.kill('SIGINT');
    expect(await exit).toEqual([0, null]);
    expect(err()).toBe('');
  });

  const startHubProcess = async () => {
    const root = await directory();
    const args = ['run', '--insecure', '--data', root, '--mqtt', '127.0.0.1:0', '--api', '127.0.0.1:0'];
    const { child, err, exit } = start(args, 'ignore');
    await eventually(err, (text) => text.includes('hub is up'), 20_000);
    return { child, exit };
  };

  it('ends a hub on Ctrl-C: nothing of it keeps the process', async () => {
    const { child, exit } = await startHubProcess();
    const startedAt = performance.now();
    child.kill('SIGINT');
    expect(await exit).toEqual([0, null]);
    // Time-outs of connections are 10 s and more.
    expect(performance.now() - startedAt).toBeLessThan(8_000);
  });

  it('lets go of a hub at once when it is told twice', async () => {
    const { child, exit } = await startHubProcess();
    child.kill('SIGINT');
    child.kill('SIGTERM');
    expect(await exit).toEqual([1, null]);
  });
});
