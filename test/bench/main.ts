/**
 * `npm run bench [-- --json]`: what an agent costs and gives on this machine, as ratios against docker-registry, a plain
 * stream, or bare sockets and hashes in the same run. Fails for wrong bytes and failed pulls, never for a missed target.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cpuSeconds, memoryMib } from '../lab/proc.ts';
import { freshBundles } from '../support/bundles.ts';
import { Cleanup } from '../support/cleanup.ts';
import { freePort } from '../support/free-port.ts';
import { type AgentProcess, startAgent } from '../support/processes.ts';
import { buildImage, hostPlatform, type SampleImage, SampleRegistry } from '../support/registry/index.ts';
import { pullImage } from '../support/runtime-pull.ts';
import { dockerRegistry, median, type Server, serveOnce } from './cached-blob.ts';
import { floorSeconds } from './floor.ts';
import { peerThroughput } from './peers.ts';

const NAME = 'registry.bench';
const GIB = 1024 * 1024 * 1024;
const UPLINK = 12_500_000;
const ROUNDS = 3;
const READERS = 8;
const SWARM = 8;
const IDLE_MS = 3_000;
const PLATFORM = { os: 'linux', architecture: hostPlatform().architecture };

interface Row {
  readonly what: string;
  readonly value: string;
  /** Empty where the row only informs; then `met` is undefined. */
  readonly target: string;
  readonly met: boolean | undefined;
}

const rows: Row[] = [];
const cleanup = new Cleanup();
const directory = mkdtempSync(join(tmpdir(), 'tidepool-bench-'));
cleanup.add('files', () => rmSync(directory, { recursive: true, force: true }));

try {
  const { agent: bundle } = await freshBundles();
  await peers();
  await cachedBlob(bundle);
  await swarm(bundle);
} finally {
  for (const failure of await cleanup.run()) console.error(failure);
}
if (process.argv.includes('--json')) console.log(JSON.stringify(rows));
else printTable();

/** What mutual TLS between neighbours costs. */
async function peers(): Promise<void> {
  const { plain, tls } = await peerThroughput(cleanup);
  row('peer throughput, plain', plain.bytesPerSecond / 1e6, 'MB/s');
  row('peer throughput, TLS', tls.bytesPerSecond / 1e6, 'MB/s');
  row('peer throughput, TLS ÷ plain', tls.bytesPerSecond / plain.bytesPerSecond, '×', 0.6, 'least');
  row('peers, plain: processor seconds per GB, both ends', plain.cpuPerGb, 's/GB', 4.5);
  row('peers, TLS: processor seconds per GB, both ends', tls.cpuPerGb, 's/GB', 4.5);
}

/** A 1 GiB layer: first byte when cold, then served from the store to one client and to eight. */
async function cachedBlob(bundle: string): Promise<void> {
  const registry = new SampleRegistry({ poolOf: () => 'bench' });
  await registry.start();
  cleanup.add('registry', () => registry.stop());
  const image = await buildImage({ layers: [{ bytes: GIB, seed: 7 }], platform: hostPlatform() });
  registry.addImage('app', 'v1', image);
  const agent = await start(bundle, 'solo', registry.url, []);
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  row('agent memory, idle', memoryMib(agent.pid).now, 'MiB', 80);

  registry.options.bytesPerSecond = UPLINK;
  const layer = `${agent.mirror}/v2/app/blobs/${layerOf(image)}?ns=${NAME}`;
  const pieceSeconds = (1024 * 1024) / UPLINK;
  await fetch(`${agent.mirror}/v2/app/manifests/v1?ns=${NAME}`).then((answer) => answer.arrayBuffer());
  row('first byte of a cold 1 GiB layer', (await firstByte(layer)) / pieceSeconds, 'piece times', 3);
  registry.options.bytesPerSecond = undefined;
  await pull(agent);

  const blob = Buffer.from(
    await (await fetch(`${registry.url}/v2/app/blobs/${layerOf(image)}`)).arrayBuffer(),
  );
  const ours: Server = { name: 'tidepool', pid: agent.pid, url: layer };
  const other = await dockerRegistry(cleanup, directory, blob);
  if (other === undefined)
    console.log('skipped: docker-registry is not installed, so there is nothing to compare with');
  else {
    const rates: number[] = [];
    const costs: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const theirs = await serveOnce(other, blob.length);
      const mine = await serveOnce(ours, blob.length);
      rates.push(mine.bytesPerSecond / theirs.bytesPerSecond);
      costs.push(mine.cpuPerGb / theirs.cpuPerGb);
    }
    row('cached blob over loopback, throughput ÷ docker-registry', median(rates), '×', 1, 'least');
    row('cached blob over loopback, processor time ÷ docker-registry', median(costs), '×', 1.5);
  }
  await Promise.all(Array.from({ length: READERS }, () => serveOnce(ours, blob.length)));
  row(`agent memory, peak, ${READERS} read 1 GiB through it`, memoryMib(agent.pid).peak, 'MiB', 128);
  await agent.stop();
}

/** Eight agents pull 200 MB at once behind a registry that gives the pool 100 Mbit/s. */
async function swarm(bundle: string): Promise<void> {
  const registry = new SampleRegistry({ poolOf: () => 'bench', bytesPerSecond: UPLINK });
  await registry.start();
  cleanup.add('registry', () => registry.stop());
  const layers = [80, 70, 50].map((megabytes, seed) => ({ bytes: megabytes * 1_000_000, seed: seed + 1 }));
  const image = await buildImage({ layers, platform: hostPlatform() });
  registry.addImage('app', 'v1', image);
  const floor = (): Promise<number> =>
    floorSeconds(cleanup, {
      registry: registry.url,
      ...{ repository: 'app', reference: 'v1', image, platform: PLATFORM },
      ...{ directory, processes: SWARM, idleMs: IDLE_MS },
    });
  const floorBefore = await floor();
  const ports: number[] = [];
  for (let index = 0; index < SWARM; index++) ports.push(await freePort('127.0.0.1'));
  const peers = ports.map((port) => `127.0.0.1:${port}`);
  const agents = await Promise.all(
    ports.map((port, index) => start(bundle, `member-${index}`, registry.url, peers, port)),
  );
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  registry.resetCounters();
  const cpuBefore = agents.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
  const started = performance.now();
  const pulled = await Promise.all(agents.map(pull));
  const seconds = (performance.now() - started) / 1000;
  const cpu = agents.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0) - cpuBefore;
  const bytes = pulled[0]?.blobBytes ?? Number.NaN;
  const wanBytes = registry.bytesSent();
  const peak = Math.max(...agents.map(({ pid }) => memoryMib(pid).peak));
  await Promise.all(agents.map((agent) => agent.stop()));
  const bare = (floorBefore + (await floor())) / 2;
  const gigabytes = (bytes * SWARM) / 1e9;
  row('8 agents at once: WAN bytes ÷ image', wanBytes / bytes, '×', 1.02);
  row('8 agents at once: time ÷ image at the uplink', seconds / (bytes / UPLINK), '×', 1.05);
  row('8 agents at once: processor seconds per GB delivered', cpu / gigabytes, 's/GB', 3.5);
  row(
    '8 at once: processor seconds per GB, bare sockets and hashes in the same run',
    bare / gigabytes,
    's/GB',
  );
  row('8 agents at once: processor time ÷ bare sockets and hashes', cpu / bare, '×');
  row('8 agents at once: memory, peak of the largest', peak, 'MiB', 128);
}

function start(
  bundle: string,
  node: string,
  registry: string,
  peers: readonly string[],
  port?: number,
): Promise<AgentProcess> {
  const begin = async (): Promise<AgentProcess> => {
    const peerPort = port ?? (await freePort('127.0.0.1'));
    const own = `127.0.0.1:${peerPort}`;
    return await startAgent(cleanup, {
      bundle,
      directory,
      node,
      pool: 'bench',
      address: '127.0.0.1',
      peerPort,
      peers: peers.filter((peer) => peer !== own),
      flags: [`--registry=${NAME}=${registry}`],
    });
  };
  return begin();
}

async function pull(agent: AgentProcess) {
  const pulled = await pullImage({
    mirror: agent.mirror,
    registry: NAME,
    repository: 'app',
    reference: 'v1',
    platform: PLATFORM,
  });
  if (pulled.wrong.length > 0) throw new Error(`wrong bytes: ${pulled.wrong.join(', ')}`);
  return pulled;
}

/** Seconds until the first byte of a body; the rest is not read. */
function firstByte(url: string): Promise<number> {
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const asked = request(url, (answer) => {
      answer.once('data', () => {
        resolve((performance.now() - started) / 1000);
        asked.destroy();
      });
      answer.once('error', () => undefined);
    });
    asked.once('error', reject);
    asked.end();
  });
}

function layerOf(image: SampleImage): string {
  const layer = image.blobs.find((blob) => blob.size >= GIB);
  if (layer === undefined) throw new Error('the sample image has no layer of that size');
  return layer.digest;
}

function row(
  what: string,
  value: number,
  unit: string,
  target?: number,
  bound: 'most' | 'least' = 'most',
): void {
  const text = `${value.toFixed(value < 10 ? 2 : 0)} ${unit}`;
  if (target === undefined) {
    rows.push({ what, value: text, target: '', met: undefined });
    return;
  }
  const met = bound === 'most' ? value <= target : value >= target;
  rows.push({ what, value: text, target: `${bound === 'most' ? '≤' : '≥'} ${target}`, met });
}

function printTable(): void {
  const width = Math.max(...rows.map(({ what }) => what.length));
  for (const { what, value, target, met } of rows) {
    const verdict = met === undefined ? 'no target' : met ? 'met' : 'missed';
    console.log(`${what.padEnd(width)}  ${value.padStart(16)}  ${target.padStart(7)}  ${verdict}`);
  }
}
