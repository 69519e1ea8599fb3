import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Agent, createAgent } from '../../edge/components.ts';
import { loadSettings, thisMachine } from '../../edge/config/load-settings.ts';
import type { PullEvent, RuntimeStatus } from '../../edge/ops/api.ts';
import { GrpcConnection } from '../../edge/runtime/cri/grpc-connection.ts';
import { silentLogger } from '../../shared/log.ts';
import { adminFetch } from '../support/admin-fetch.ts';
import { CriDouble } from '../support/cri-double.ts';
import { buildImage, SampleRegistry } from '../support/registry/index.ts';

let directory: string;
let agent: Agent | undefined;
let cri: CriDouble;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cri-agent-'));
  cri = new CriDouble();
  await cri.start();
});
afterEach(async () => {
  await agent?.stop();
  agent = undefined;
  await cri.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function start(socket: string, registry: readonly string[] = []): Promise<void> {
  const settings = loadSettings(
    {
      node: 'n1',
      address: '127.0.0.1',
      data: join(directory, 'data'),
      mirror: '127.0.0.1:0',
      peerPort: '0',
      ops: '127.0.0.1:0',
      cri: socket,
      registry,
      insecure: true,
    },
    'agent.yaml',
    { ...thisMachine, readFile: () => `runtime: {hostRoot: ${JSON.stringify(directory)}}\n` },
  );
  agent = createAgent(settings, { log: silentLogger() });
  await agent.start();
  cri.mirror = `http://127.0.0.1:${agent.addresses.mirror.port}`;
}

async function selfTest(): Promise<RuntimeStatus> {
  const answer = await fetch(`http://127.0.0.1:${agent?.addresses.ops.port}/v1/self-test`, {
    method: 'POST',
  });
  expect(answer.status).toBe(200);
  return (await answer.json()) as RuntimeStatus;
}

describe('an agent beside a runtime (a CRI double on a unix socket)', () => {
  it('finds that the runtime uses the mirror, and when it no longer does', async () => {
    await start(cri.socket);
    expect(await selfTest()).toMatchObject({
      mirror: 'yes',
      runtime: 'containerd v2.2.4',
      present: true,
      reason: null,
    });
    cri.mirror = undefined;
    const no = await selfTest();
    expect(no.mirror).toBe('no');
    expect(no.reason).toContain('without asking the mirror');
    expect(no.fix).toContain('config_path');
    const metrics = await (await fetch(`http://127.0.0.1:${agent?.addresses.ops.port}/metrics`)).text();
    expect(metrics).toContain('tidepool_runtime_uses_mirror{state="no"} 1');
    expect(metrics).toContain('tidepool_runtime_uses_mirror{state="yes"} 0');
  });

  it('says that it cannot know without a socket, and looks again', async () => {
    await start(join(directory, 'later.sock'));
    expect(await selfTest()).toMatchObject({ mirror: 'unknown', present: false, fix: null });
  });
});

describe('an image that goes on into the runtime', () => {
  const registry = new SampleRegistry();
  beforeEach(() => registry.start());
  afterEach(() => registry.stop());

  async function pull(): Promise<PullEvent> {
    const answer = await adminFetch(join(directory, 'data'), '/v1/pull', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ image: 'reg.example/lab/app:v1', runtime: true }),
    });
    const lines = (await answer.text()).trim().split('\n');
    return JSON.parse(lines.at(-1) ?? '') as PullEvent;
  }

  it('comes out of the store: the registry sends each blob once', async () => {
    const image = await buildImage({ layers: [{ bytes: 3_000_000, seed: 1 }] });
    registry.addImage('lab/app', 'v1', image);
    await start(cri.socket, [`reg.example=${registry.url}`]);
    const done = await pull();
    expect(done).toMatchObject({ type: 'done', imageId: image.blobs[0]?.digest });
    expect(cri.images.get('reg.example/lab/app:v1')).toMatchObject({ digest: image.digest });
    if (done.type === 'done')
      expect(done.wanBytes).toBe(image.blobs.reduce((sum, { size }) => sum + size, 0));
    const status = (await (
      await fetch(`http://127.0.0.1:${agent?.addresses.ops.port}/v1/status`)
    ).json()) as { counters: { wanBytes: number } };
    expect(status.counters.wanBytes).toBeLessThan(3_100_000);
  });

  it('stays in the store, and the reason is told, where the runtime goes past the mirror', async () => {
    registry.addImage('lab/app', 'v1', await buildImage({ layers: [{ bytes: 100_000, seed: 1 }] }));
    await start(cri.socket, [`reg.example=${registry.url}`]);
    cri.mirror = undefined;
    expect(await pull()).toMatchObject({ type: 'error', code: 'RUNTIME_NOT_CONFIGURED' });
    expect(cri.images.size).toBe(0);
  });
});

describe('the mirror', () => {
  it('answers a self-test itself: 404, and no registry is asked', async () => {
    await start('none');
    const answer = await fetch(`${cri.mirror}/v2/self-test/manifests/x?ns=tidepool.invalid`);
    expect(answer.status).toBe(404);
    expect(await answer.text()).toContain('self-test');
  });
});

describe('GrpcConnection', () => {
  it('asks the double, and ends calls at their deadline and when they are called off', async () => {
    const connection = new GrpcConnection(cri.socket);
    try {
      expect(await connection.version()).toEqual({ name: 'containerd', version: 'v2.2.4' });
      expect(await connection.imageStatus('docker.io/library/none:1')).toBeUndefined();
      const id = await connection.pullImage('docker.io/library/a:1');
      expect(await connection.imageStatus('docker.io/library/a:1')).toMatchObject({ id });
      expect(await connection.listImages()).toHaveLength(1);
      cri.silent = true;
      await expect(connection.version({ timeoutMs: 50 })).rejects.toMatchObject({ code: 'TIMEOUT' });
      const off = new AbortController();
      const call = connection.pullImage('docker.io/library/a:1', { signal: off.signal });
      off.abort(new Error('enough'));
      await expect(call).rejects.toThrow('enough');
    } finally {
      connection.close();
    }
  });

  it('tells apart a runtime that is gone from one that fails', async () => {
    const connection = new GrpcConnection(cri.socket);
    cri.failure = { code: 12, details: 'unknown service runtime.v1.ImageService' };
    await expect(connection.pullImage('a:1')).rejects.toMatchObject({ code: 'RUNTIME_NOT_CONFIGURED' });
    cri.failure = { code: 5, details: 'not found' };
    await expect(connection.pullImage('a:1')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    cri.failure = { code: 2, details: 'no space left on device' };
    await expect(connection.pullImage('a:1')).rejects.toThrow('no space left on device');
    connection.close();
    await cri.stop();
    const gone = new GrpcConnection(cri.socket);
    await expect(gone.version({ timeoutMs: 30_000 })).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
    gone.close();
  });
});
