import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RegistryClient } from '../../../../cloud/registry/registry-client.ts';
import { RegistryMap } from '../../../../cloud/registry/registry-map.ts';
import { type Digest, digestOf } from '../../../../shared/ids.ts';
import { parseImageRef } from '../../../../shared/image-ref.ts';
import { buildImage, type SampleImage, SampleRegistry } from '../../../support/registry/index.ts';
import { SkippingClock } from '../../../support/skipping-clock.ts';

const account = { username: 'u', password: 'p' };
const { signal } = new AbortController();
let registry: SampleRegistry;
let client: RegistryClient;
let image: SampleImage;

beforeEach(async () => {
  registry = new SampleRegistry();
  image = await buildImage({ layers: [{ bytes: 1_000, seed: 1 }] });
  registry.addImage('lab/app', 'v1', image);
  await registry.start();
  client = new RegistryClient(
    { map: new RegistryMap({ 'reg.test': { url: registry.url } }) },
    { timeoutMs: 2_000 },
  );
});
afterEach(async () => {
  await client.close();
  await registry.stop();
});

const ask = (reference = 'reg.test/lab/app:v1', as = undefined as typeof account | undefined) =>
  client.digest(parseImageRef(reference), as, signal);

describe('RegistryClient', () => {
  it('knows a tag by one HEAD, and the bytes where a registry leaves the digest out', async () => {
    expect(await ask()).toBe(image.digest);
    expect(registry.requests.map(({ method }) => method)).toEqual(['HEAD']);
    registry.options.fault = () => ({ contentDigest: null });
    expect(await ask()).toBe(image.digest);
    const { bytes } = await client.manifest(
      { ...parseImageRef('reg.test/lab/app:v1'), digest: image.digest },
      undefined,
      signal,
    );
    expect(digestOf(bytes)).toBe(image.digest);
  });

  it.each(['basic', 'bearer'] as const)(
    'uses an account by %s, and says what is missing without',
    async (kind) => {
      registry.options.auth = { kind, ...account };
      expect(await ask(undefined, account)).toBe(image.digest);
      await expect(ask()).rejects.toMatchObject({
        code: 'UNAUTHORIZED',
        message: /asks for an account|job has none/,
      });
      await expect(ask(undefined, { ...account, password: 'x' })).rejects.toMatchObject({
        code: 'UNAUTHORIZED',
      });
    },
  );

  it('takes an anonymous token where that is enough', async () => {
    registry.options.auth = { kind: 'bearer', ...account, anonymousPull: true };
    expect(await ask()).toBe(image.digest);
  });

  it('tells what is not there from what does not answer', async () => {
    await expect(ask('reg.test/lab/app:v9')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    await expect(ask('127.0.0.1:1/lab/app:v1')).rejects.toMatchObject({
      code: 'ORIGIN_UNREACHABLE',
      message: expect.stringMatching(/ECONNREFUSED/),
    });
    registry.options.fault = () => ({ status: 500 });
    await expect(ask()).rejects.toMatchObject({ code: 'ORIGIN_ERROR' });
    registry.options.fault = () => ({ hang: true });
    await expect(ask()).rejects.toMatchObject({
      code: 'ORIGIN_UNREACHABLE',
      message: expect.stringMatching(/in time/),
    });
  });

  it('refuses bytes that are not what was asked for', async () => {
    registry.options.fault = ({ method }) => (method === 'GET' ? { wrongBytes: true } : undefined);
    const ref = { ...parseImageRef('reg.test/lab/app:v1'), digest: image.digest };
    await expect(client.manifest(ref, undefined, signal)).rejects.toMatchObject({ code: 'ORIGIN_LIED' });
  });

  describe('reads a blob', () => {
    const clock = new SkippingClock();
    const bytes = 300_000;
    let big: SampleImage;
    let layer: Digest;
    beforeEach(async () => {
      big = await buildImage({ layers: [{ bytes, seed: 2 }] });
      registry.addImage('lab/big', 'v1', big);
      layer = big.blobs.find(({ size }) => size >= bytes)?.digest ?? big.digest;
      await client.close();
      client = new RegistryClient(
        { map: new RegistryMap({ 'reg.test': { url: registry.url } }), clock },
        { timeoutMs: 2_000 },
      );
    });
    const read = async (): Promise<Digest> => {
      const parts: Uint8Array[] = [];
      for await (const part of client.blob(parseImageRef('reg.test/lab/big:v1'), layer, undefined, signal)) {
        parts.push(part);
      }
      return digestOf(Buffer.concat(parts));
    };
    const blobs = () => registry.requests.filter(({ kind }) => kind === 'blob');

    it('on from where the connection broke', async () => {
      let left = 4;
      registry.options.fault = ({ kind }) =>
        kind === 'blob' && left-- > 0 ? { cutAfter: 70_000 } : undefined;
      expect(await read()).toBe(layer);
      expect(blobs()).toHaveLength(5);
      expect(blobs().reduce((sum, each) => sum + each.bytes, 0)).toBeLessThan(bytes * 1.5);
    });

    it('anew where the registry knows no ranges, and gives each byte once', async () => {
      registry.options.ranges = false;
      let left = 2;
      registry.options.fault = ({ kind }) =>
        kind === 'blob' && left-- > 0 ? { cutAfter: 70_000 } : undefined;
      expect(await read()).toBe(layer);
      expect(blobs()).toHaveLength(3);
    });

    it('a bounded number of times, and fails at once where nothing came at all', async () => {
      let cut = 70_000;
      registry.options.fault = ({ kind }) => {
        const fault = kind === 'blob' ? { cutAfter: cut } : undefined;
        if (kind === 'blob') cut = 0;
        return fault;
      };
      await expect(read()).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
      expect(blobs()).toHaveLength(6);
      await expect(read()).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
      expect(blobs()).toHaveLength(7);
    });

    it('and asks no second time for what is refused', async () => {
      registry.options.fault = ({ kind }) => (kind === 'blob' ? { status: 403 } : undefined);
      await expect(read()).rejects.toMatchObject({ code: 'DENIED' });
      expect(blobs()).toHaveLength(1);
    });
  });
});
