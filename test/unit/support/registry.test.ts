import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildImage, buildIndex, SampleRegistry } from '../../support/registry/index.ts';

const AMD64 = { os: 'linux', architecture: 'amd64' };
const ARM64 = { os: 'linux', architecture: 'arm64' };

describe('the sample registry', () => {
  let dir: string;
  let registry: SampleRegistry;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'tidepool-registry-'));
    registry = new SampleRegistry();
    await registry.start('127.0.0.1');
  });
  afterEach(async () => {
    await registry.stop();
    await rm(dir, { recursive: true, force: true });
  });

  const image = (seed: number, bytes = 1_000_000, platform = AMD64) =>
    buildImage({ layers: [{ bytes, seed }], platform, cacheDir: dir });

  it('builds the same image from the same seeds, and another from others', async () => {
    expect((await image(1)).digest).toBe((await image(1)).digest);
    expect((await image(1)).digest).not.toBe((await image(2)).digest);
  });

  it('makes layers that tar can read', async () => {
    registry.addImage('lib/a', 'v1', await image(1));
    const layer = (await image(1)).blobs[1];
    const response = await fetch(`${registry.url}/v2/lib/a/blobs/${layer?.digest}`);
    const bytes = Buffer.from(await response.arrayBuffer());
    expect(`sha256:${createHash('sha256').update(bytes).digest('hex')}`).toBe(layer?.digest);
    await writeFile(join(dir, 'layer.tar'), bytes);
    expect(execFileSync('tar', ['-tf', join(dir, 'layer.tar')], { encoding: 'utf8' })).toBe('sample-1.bin\n');
  });

  it('answers tags, digests, indexes, lists and referrers', async () => {
    const [amd, arm] = [await image(1, 3000), await image(2, 3000, ARM64)];
    const index = buildIndex([amd, arm]);
    registry.addImage('lib/a', 'v1', index);
    const signature = await buildImage({
      layers: [{ content: Buffer.from('signed') }],
      platform: AMD64,
      subject: index,
      artifactType: 'application/x.signature',
    });
    registry.addImage('lib/a', undefined, signature);
    const head = await fetch(`${registry.url}/v2/lib/a/manifests/v1`, { method: 'HEAD' });
    expect(head.headers.get('docker-content-digest')).toBe(index.digest);
    expect(head.headers.get('content-length')).toBe(String(index.size));
    expect(head.headers.get('content-type')).toBe(index.mediaType);
    const json = async (path: string) => (await fetch(`${registry.url}/v2/lib/a/${path}`)).json();
    expect(await json(`manifests/${arm.digest}`)).toMatchObject({ mediaType: arm.mediaType });
    expect(await json('tags/list')).toEqual({ name: 'lib/a', tags: ['v1'] });
    expect(await json(`referrers/${index.digest}`)).toMatchObject({
      manifests: [{ digest: signature.digest }],
    });
    expect((await fetch(`${registry.url}/v2/lib/a/manifests/v2`)).status).toBe(404);
    expect((await fetch(`${registry.url}/v2/lib/b/manifests/v1`)).status).toBe(404);
  });

  it('serves ranges exactly, counts by source pool, and ignores ranges when told to', async () => {
    const sample = await image(1);
    registry.addImage('lib/a', 'v1', sample);
    const layer = sample.blobs[1];
    const get = (range: string) =>
      fetch(`${registry.url}/v2/lib/a/blobs/${layer?.digest}`, { headers: { Range: range } });
    const part = await get('bytes=1000-1999');
    expect([part.status, part.headers.get('content-range')]).toEqual([206, 'bytes 1000-1999/1000000']);
    expect((await part.arrayBuffer()).byteLength).toBe(1000);
    expect(registry.bytesSent('0')).toBe(1000);
    expect((await get('bytes=1000000-')).status).toBe(416);
    expect((await (await get('bytes=-5')).arrayBuffer()).byteLength).toBe(5);
    registry.options.ranges = false;
    const whole = await get('bytes=1000-1999');
    expect([whole.status, (await whole.arrayBuffer()).byteLength]).toEqual([200, 1_000_000]);
  });

  it('holds the pace of a pool', async () => {
    const sample = await image(1, 300_000);
    registry.addImage('lib/a', 'v1', sample);
    registry.options.bytesPerSecond = 1_000_000;
    const started = performance.now();
    const read = async (): Promise<number> => {
      const response = await fetch(`${registry.url}/v2/lib/a/blobs/${sample.blobs[1]?.digest}`);
      return (await response.arrayBuffer()).byteLength;
    };
    expect(await Promise.all([read(), read()])).toEqual([300_000, 300_000]);
    // 600 kB at 1 MB/s, less the burst of a tenth of a second.
    expect(performance.now() - started).toBeGreaterThan(450);
  });
});
