import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Agent, createAgent } from '../../edge/components.ts';
import { loadSettings, thisMachine } from '../../edge/config/load-settings.ts';
import type { RuntimeStatus } from '../../edge/ops/api.ts';
import { GrpcConnection } from '../../edge/runtime/cri/grpc-connection.ts';
import { silentLogger } from '../../shared/log.ts';
import { CriDouble } from '../support/cri-double.ts';

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

async function start(socket: string): Promise<void> {
  const settings = loadSettings(
    {
      node: 'n1',
      address: '127.0.0.1',
      data: join(directory, 'data'),
      mirror: '127.0.0.1:0',
      peerPort: '0',
      ops: '127.0.0.1:0',
      cri: socket,
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
  const answer = await fetch(`http://127.0.0.1:${agent?.addresses.ops.port}/v1/self-test`, { method: 'POST' });
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
    await expect(gone.version({ timeoutMs: 2_000 })).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
    gone.close();
  });
});
