import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Agent, createAgent } from '../../edge/components.ts';
import { loadSettings, thisMachine } from '../../edge/config/load-settings.ts';
import type { AgentStatus, PullEvent } from '../../edge/ops/api.ts';
import { digestOf } from '../../shared/ids.ts';
import { createLogger, silentLogger } from '../../shared/log.ts';
import { adminFetch } from '../support/admin-fetch.ts';
import { buildImage, SampleRegistry } from '../support/registry/index.ts';

const PEER_PORT = 16_181;

/** Whole agents in this process, each at a loopback address of its own, as hosts of one LAN. */
class Pool {
  readonly registry = new SampleRegistry();
  readonly #directory = mkdtempSync(join(tmpdir(), 'agents-'));
  /** Other tests use other networks. */
  readonly #network = `127.${10 + (process.pid % 200)}.${1 + Math.floor(Math.random() * 250)}`;
  readonly #agents = new Map<number, Agent>();

  address(n: number): string {
    return `${this.#network}.${n}`;
  }

  async start(
    n: number,
    peers: readonly number[],
    flags: Record<string, string> = {},
    { log = silentLogger(), yaml = '' } = {},
  ): Promise<Agent> {
    const address = this.address(n);
    const settings = loadSettings(
      {
        node: `n${n}`,
        address,
        data: join(this.#directory, `n${n}`),
        mirror: `${address}:0`,
        peerPort: String(PEER_PORT),
        ops: `${address}:0`,
        peers: peers.map((peer) => `${this.address(peer)}:${PEER_PORT}`).join(','),
        registry: [`reg.example=${this.registry.url}`],
        sourceAddress: address,
        insecure: true,
        ...flags,
      },
      'agent.yaml',
      { ...thisMachine, readFile: () => yaml },
    );
    const agent = createAgent(settings, { log });
    await agent.start();
    this.#agents.set(n, agent);
    return agent;
  }

  async stop(n: number): Promise<void> {
    await this.#agents.get(n)?.stop();
    this.#agents.delete(n);
  }

  async close(): Promise<void> {
    for (const n of [...this.#agents.keys()]) await this.stop(n);
    await this.registry.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  mirror(n: number, path: string): Promise<Response> {
    const { address = '', port = 0 } = this.#agents.get(n)?.addresses.mirror ?? {};
    return fetch(`http://${address}:${port}/v2/${path}?ns=reg.example`);
  }

  ops(n: number, path: string, init: RequestInit = {}): Promise<Response> {
    const { address = '', port = 0 } = this.#agents.get(n)?.addresses.ops ?? {};
    return fetch(`http://${address}:${port}${path}`, init);
  }

  admin(n: number, path: string, init: Parameters<typeof adminFetch>[2] = {}): ReturnType<typeof adminFetch> {
    return adminFetch(join(this.#directory, `n${n}`), path, init);
  }

  async status(n: number): Promise<AgentStatus> {
    return (await (await this.ops(n, '/v1/status')).json()) as AgentStatus;
  }

  /** Pulls as a runtime does, by tag; the digests of what came. */
  async pull(n: number, image: { digest: string; blobs: readonly { digest: string }[] }): Promise<string[]> {
    const manifest = await this.mirror(n, 'lab/app/manifests/v1');
    expect(manifest.status).toBe(200);
    const got = [digestOf(Buffer.from(await manifest.arrayBuffer()))];
    const blobs = await Promise.all(
      image.blobs.map(async ({ digest }) => {
        const answer = await this.mirror(n, `lab/app/blobs/${digest}`);
        expect(answer.status).toBe(200);
        return digestOf(Buffer.from(await answer.arrayBuffer()));
      }),
    );
    return [...got, ...blobs];
  }
}

let pool: Pool;
beforeEach(async () => {
  pool = new Pool();
  await pool.registry.start();
});
afterEach(() => pool.close());

async function sampleImage() {
  const image = await buildImage({
    layers: [
      { bytes: 6_000_000, seed: 1 },
      { bytes: 1_500_000, seed: 2 },
    ],
  });
  pool.registry.addImage('lab/app', 'v1', image);
  const wanted = [image.digest, ...image.blobs.map(({ digest }) => digest)];
  return { image, wanted };
}

describe('agents of one pool', () => {
  it('bring an image over the WAN once, and go on without registry, through restarts, for newcomers', async () => {
    const { image, wanted } = await sampleImage();
    await Promise.all([pool.start(1, [2, 3]), pool.start(2, [1, 3]), pool.start(3, [1, 2])]);
    for (const n of [1, 2, 3]) {
      await expect.poll(async () => (await pool.status(n)).members.filter(({ live }) => live).length).toBe(2);
    }
    const pulls = await Promise.all([1, 2, 3].map((n) => pool.pull(n, image)));
    for (const got of pulls) expect(got).toEqual(wanted);
    for (const { digest, size } of image.blobs) {
      expect(pool.registry.bytesOf(digest)).toBeLessThanOrEqual(size * 1.02);
    }
    const all = await Promise.all([1, 2, 3].map((n) => pool.status(n)));
    expect(all.map(({ counters }) => counters.storedBytes)).toEqual(Array(3).fill(image.blobBytes));
    for (const { counters } of all) expect(counters.servedRuntimeBytes).toBeGreaterThan(image.blobBytes);

    await pool.registry.stop();
    const sent = pool.registry.bytesSent();
    await pool.stop(2);
    await pool.start(2, []);
    expect((await pool.status(2)).members.map(({ node }) => node).sort()).toEqual(['n1', 'n3']);
    expect(await pool.pull(2, image)).toEqual(wanted);
    await pool.start(4, [2]);
    await expect.poll(async () => (await pool.status(4)).members.length).toBeGreaterThan(0);
    expect(await pool.pull(4, image)).toEqual(wanted);
    expect(pool.registry.bytesSent()).toBe(sent);
    expect((await pool.status(4)).counters).toMatchObject({ wanBytes: 0, staleAnswers: 1 });
  });

  it('answer the command line: health, pull with progress, manifest, blobs', async () => {
    const { image } = await sampleImage();
    await pool.start(1, []);
    expect((await pool.ops(1, '/healthz')).status).toBe(200);
    expect((await pool.ops(1, '/readyz')).status).toBe(200);
    const answer = await pool.admin(1, '/v1/pull', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ image: 'reg.example/lab/app:v1' }),
    });
    const events = (await answer.text())
      .trim()
      .split('\n')
      .map((line): PullEvent => JSON.parse(line));
    expect(events.at(-1)).toMatchObject({
      type: 'done',
      digest: image.digest,
      totalBytes: image.blobBytes,
      doneBytes: image.blobBytes,
      wanBytes: image.blobBytes,
    });
    const blobs = await (await pool.ops(1, '/v1/blobs')).json();
    expect(blobs).toMatchObject({ total: 3 });
    const manifest = await pool.admin(1, '/v1/manifest?image=reg.example/lab/app:v1');
    expect(digestOf(Buffer.from(await manifest.arrayBuffer()))).toBe(image.digest);
    const metrics = await (await pool.ops(1, '/metrics')).text();
    expect(metrics).toContain('tidepool_origin_up{registry="reg.example"} 1');
    const refused = await pool.mirror(1, 'lab/app/manifests/v9');
    expect(refused.status).toBe(404);
    expect(await refused.json()).toMatchObject({ errors: [{ code: 'MANIFEST_UNKNOWN' }] });
  });

  it('do not share with another pool', async () => {
    const { image, wanted } = await sampleImage();
    await pool.start(1, [2]);
    await pool.start(2, [1], { pool: 'other' });
    expect(await pool.pull(1, image)).toEqual(wanted);
    expect(await pool.pull(2, image)).toEqual(wanted);
    const [one, two] = await Promise.all([pool.status(1), pool.status(2)]);
    expect([...one.members, ...two.members]).toEqual([]);
    expect(two.counters).toMatchObject({ peerBytes: 0 });
    expect(two.counters.wanBytes).toBeGreaterThanOrEqual(image.blobBytes);
  });

  it('log at the level that tuning says, in every room', async () => {
    const lines: string[] = [];
    const log = createLogger('test', 'error', { write: (line) => void lines.push(line) });
    await pool.start(1, [], {}, { log });
    expect(lines).toEqual([]);
    await pool.start(2, [1], {}, { log, yaml: 'tuning: {logLevel: debug}' });
    expect(lines.map((line): { room?: string } => JSON.parse(line)).map(({ room }) => room)).toContain(
      'mirror',
    );
  });

  it('leave nothing behind when one of them cannot start', async () => {
    await pool.start(1, []);
    const taken = pool.start(1, [], { data: join(tmpdir(), `agents-taken-${process.pid}`) });
    await expect(taken).rejects.toThrow(/EADDRINUSE/);
    await pool.stop(1);
    await pool.start(1, []);
    expect((await pool.ops(1, '/healthz')).status).toBe(200);
    rmSync(join(tmpdir(), `agents-taken-${process.pid}`), { recursive: true, force: true });
  });
});
