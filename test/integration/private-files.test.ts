import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createAgent } from '../../edge/components.ts';
import { loadSettings, thisMachine } from '../../edge/config/load-settings.ts';
import { silentLogger } from '../../shared/log.ts';
import { adminFetch } from '../support/admin-fetch.ts';
import { buildImage, SampleRegistry } from '../support/registry/index.ts';

/** Paths of files under a directory that others than its owner may do anything with. */
function openToOthers(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => (statSync(path).mode & 0o077) !== 0);
}

it('an agent keeps its data from other users of the node, and its hub’s account out of its status', async () => {
  const data = mkdtempSync(join(tmpdir(), 'private-'));
  // As Kubernetes makes a hostPath, and with the umask of a careless shell.
  chmodSync(data, 0o755);
  const umask = process.umask(0);
  const registry = new SampleRegistry();
  await registry.start();
  const image = await buildImage({ layers: [{ bytes: 300_000, seed: 1 }] });
  registry.addImage('lab/app', 'v1', image);
  const settings = loadSettings(
    {
      node: 'n1',
      address: '127.0.0.1',
      data,
      mirror: '127.0.0.1:0',
      peerPort: '0',
      ops: '127.0.0.1:0',
      cri: 'none',
      hub: ['mqtt://me:hunter2@127.0.0.1:1'],
      registry: [`reg.example=${registry.url}`],
      insecure: true,
    },
    undefined,
    { ...thisMachine, environment: {} },
  );
  const agent = createAgent(settings, { log: silentLogger() });
  try {
    await agent.start();
    const pulled = await adminFetch(data, '/v1/pull', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ image: 'reg.example/lab/app:v1' }),
    });
    expect(await pulled.text()).toContain('"type":"done"');
    expect(statSync(data).mode & 0o777).toBe(0o700);
    expect(openToOthers(data)).toEqual([]);
    const status = await (await adminFetch(data, '/v1/status')).text();
    expect(status).toContain('mqtt://[secret]@127.0.0.1:1');
    expect(status).not.toContain('hunter2');
  } finally {
    process.umask(umask);
    await agent.stop();
    await registry.stop();
    rmSync(data, { recursive: true, force: true });
  }
});
