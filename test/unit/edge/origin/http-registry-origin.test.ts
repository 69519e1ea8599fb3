import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf, parseDigest } from '../../../../shared/ids.ts';
import {
  errorOf,
  LAYER_BYTES,
  type OriginFixture,
  originFixture,
  REGISTRY,
  REPOSITORY,
  readAll,
} from '../../../support/origin-fixture.ts';
import { buildImage } from '../../../support/registry/index.ts';

const NOWHERE = parseDigest(`sha256:${'0'.repeat(64)}`);
const at = { registry: REGISTRY, repository: REPOSITORY };

describe('HttpRegistryOrigin', () => {
  let fixture: OriginFixture;
  beforeEach(async () => {
    fixture = await originFixture();
  });
  afterEach(() => fixture.stop());

  it('reads manifests by tag and by digest, and their heads without the bytes', async () => {
    const origin = fixture.origin();
    const { image } = fixture;
    const [manifest] = image.manifests;
    for (const reference of ['v1', image.digest]) {
      const read = await origin.manifest({ ...at, reference, method: 'GET' });
      expect(read).toMatchObject({ digest: image.digest, mediaType: image.mediaType, size: image.size });
      expect(Buffer.from(read.bytes ?? [])).toEqual(manifest?.bytes);
      expect(Math.abs(read.at - Date.now())).toBeLessThan(5_000);
      const head = await origin.manifest({ ...at, reference, method: 'HEAD' });
      expect(head).toEqual({
        digest: image.digest,
        mediaType: image.mediaType,
        size: image.size,
        at: head.at,
      });
    }
    expect(fixture.registry.requests.map(({ method }) => method)).toEqual(['GET', 'HEAD', 'GET', 'HEAD']);
    for (const { headers } of fixture.registry.requests) {
      expect(headers.accept).toContain('application/vnd.oci.image.index.v1+json');
      expect(headers.accept).toContain('application/vnd.docker.distribution.manifest.list.v2+json');
      expect(headers['accept-encoding']).toBe('identity');
    }
  });

  it('reads the manifest itself where a HEAD does not name its digest', async () => {
    const { registry, image } = fixture;
    registry.options.fault = ({ method }) => (method === 'HEAD' ? { contentDigest: null } : undefined);
    const head = await fixture.origin().manifest({ ...at, reference: 'v1', method: 'HEAD' });
    expect(head.digest).toBe(image.digest);
    expect(head.bytes).toBeUndefined();
    expect(registry.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  });

  it('reads the manifest itself where HEAD is not served', async () => {
    fixture.registry.options.fault = ({ method }) => (method === 'HEAD' ? { status: 405 } : undefined);
    const head = await fixture.origin().manifest({ ...at, reference: 'v1', method: 'HEAD' });
    expect(head.digest).toBe(fixture.image.digest);
  });

  it.each([
    ['a tag', { reference: 'v9', repository: REPOSITORY }, 'MANIFEST_UNKNOWN'],
    ['a digest', { reference: NOWHERE, repository: REPOSITORY }, 'MANIFEST_UNKNOWN'],
    ['a repository', { reference: 'v1', repository: 'no/such' }, 'NAME_UNKNOWN'],
    ['what is no repository', { reference: 'v1', repository: '../etc' }, 'INVALID_REFERENCE'],
    ['what is no tag', { reference: 'v1/../x', repository: REPOSITORY }, 'INVALID_REFERENCE'],
  ])('says that %s is unknown', async (_, { reference, repository }, code) => {
    const call = fixture.origin().manifest({ registry: REGISTRY, repository, reference, method: 'GET' });
    expect((await errorOf(call)).code).toBe(code);
  });

  it('reads blobs whole and in parts', async () => {
    const origin = fixture.origin();
    const whole = await origin.blob({ ...at, digest: fixture.layer, start: 0 });
    expect(whole).toMatchObject({ ranged: true, start: 0, size: LAYER_BYTES });
    const bytes = await readAll(whole);
    expect(digestOf(bytes)).toBe(fixture.layer);
    for (const [start, end] of [
      [0, 1],
      [1000, 2000],
      [LAYER_BYTES - 10, LAYER_BYTES],
      [LAYER_BYTES - 10, LAYER_BYTES + 100],
      [300_000, undefined],
    ] as const) {
      const part = await origin.blob({
        ...at,
        digest: fixture.layer,
        start,
        ...(end === undefined ? {} : { end }),
      });
      expect(part).toMatchObject({ ranged: true, start, size: LAYER_BYTES });
      expect((await readAll(part)).equals(bytes.subarray(start, end))).toBe(true);
    }
  });

  it('says so when the origin ignores ranges, and yields the blob from its first byte', async () => {
    fixture.registry.options.ranges = false;
    const body = await fixture.origin().blob({ ...at, digest: fixture.layer, start: 1000, end: 2000 });
    expect(body).toMatchObject({ ranged: false, start: 0, size: LAYER_BYTES });
    expect(digestOf(await readAll(body))).toBe(fixture.layer);
  });

  it('tells the size of a blob, by HEAD or by a range of one byte', async () => {
    expect(await fixture.origin().blobSize({ ...at, digest: fixture.layer })).toBe(LAYER_BYTES);
    fixture.registry.options.fault = ({ method }) => (method === 'HEAD' ? { status: 405 } : undefined);
    expect(await fixture.origin().blobSize({ ...at, digest: fixture.layer })).toBe(LAYER_BYTES);
    fixture.registry.options.ranges = false;
    expect(await fixture.origin().blobSize({ ...at, digest: fixture.layer })).toBe(LAYER_BYTES);
  });

  it('reads an empty blob, of which no range can be satisfied', async () => {
    const empty = await buildImage({ layers: [{ content: Buffer.alloc(0) }] });
    fixture.registry.addImage(REPOSITORY, 'empty', empty);
    const digest = digestOf(Buffer.alloc(0));
    const body = await fixture.origin().blob({ ...at, digest, start: 0 });
    expect([body.size, (await readAll(body)).length]).toEqual([0, 0]);
    expect(await fixture.origin().blobSize({ ...at, digest })).toBe(0);
  });

  it('names the size when a range starts beyond the end, and refuses what is no range', async () => {
    const origin = fixture.origin();
    const beyond = await errorOf(origin.blob({ ...at, digest: fixture.layer, start: LAYER_BYTES }));
    expect(beyond).toMatchObject({ code: 'RANGE_NOT_SATISFIABLE', details: { size: LAYER_BYTES } });
    for (const range of [{ start: 5, end: 5 }, { start: -1 }, { start: 0.5 }, { start: Number.NaN }]) {
      const call = origin.blob({ ...at, digest: fixture.layer, ...range });
      expect((await errorOf(call)).code).toBe('INVALID_ARGUMENT');
    }
  });

  it('says that a blob is unknown', async () => {
    const origin = fixture.origin();
    expect((await errorOf(origin.blob({ ...at, digest: NOWHERE, start: 0 }))).code).toBe('BLOB_UNKNOWN');
    expect((await errorOf(origin.blobSize({ ...at, digest: NOWHERE }))).code).toBe('BLOB_UNKNOWN');
  });

  it('hands lists and referrers through without what concerns one hop only', async () => {
    const origin = fixture.origin();
    const tags = await origin.passThrough({ ...at, path: 'tags/list', query: 'n=10', method: 'GET' });
    expect(tags.status).toBe(200);
    expect(JSON.parse(Buffer.from(tags.body).toString())).toEqual({ name: REPOSITORY, tags: ['v1'] });
    expect(tags.headers['content-type']).toBe('application/json');
    for (const dropped of ['connection', 'keep-alive', 'content-length', 'transfer-encoding']) {
      expect(tags.headers[dropped]).toBeUndefined();
    }
    expect(fixture.registry.requests.at(-1)?.query.get('n')).toBe('10');
    const path = `referrers/${fixture.image.digest}`;
    expect((await origin.passThrough({ ...at, path, query: '', method: 'GET' })).status).toBe(200);
    const missing = { registry: REGISTRY, repository: 'no/such', path: 'tags/list', query: '' } as const;
    expect((await origin.passThrough({ ...missing, method: 'GET' })).status).toBe(404);
  });

  it.each(['../../token', 'tags/../x', '/tags', 'tags/list?x', 'tags/li st', 'a//b'])(
    'does not pass the path %j on',
    async (path) => {
      const call = fixture.origin().passThrough({ ...at, path, query: '', method: 'GET' });
      expect((await errorOf(call)).code).toBe('INVALID_ARGUMENT');
      expect(fixture.registry.requests).toHaveLength(0);
    },
  );

  it('refuses an answer over 4 MiB', async () => {
    fixture.registry.options.fault = () => ({ body: Buffer.alloc(4 * 1024 * 1024 + 1, 32) });
    const origin = fixture.origin();
    const tags = origin.passThrough({ ...at, path: 'tags/list', query: '', method: 'GET' });
    expect((await errorOf(tags)).code).toBe('ORIGIN_ERROR');
    const manifest = origin.manifest({ ...at, reference: 'v1', method: 'GET' });
    expect((await errorOf(manifest)).code).toBe('ORIGIN_ERROR');
  });

  it('dials from the local address it is given', async () => {
    const origin = fixture.origin({ localAddress: '127.0.3.9' });
    await readAll(await origin.blob({ ...at, digest: fixture.layer, start: 0 }));
    expect(fixture.registry.requests.map(({ address }) => address)).toEqual(['127.0.3.9']);
    expect(fixture.registry.bytesSent('3')).toBe(LAYER_BYTES);
  });

  it('holds back the sender while the reader is slow', async () => {
    const big = await buildImage({
      layers: [{ bytes: 40_000_000, seed: 1 }],
      cacheDir: fixture.cacheDir,
    });
    fixture.registry.addImage(REPOSITORY, 'big', big);
    const digest = big.blobs[1]?.digest ?? NOWHERE;
    const body = await fixture.origin().blob({ ...at, digest, start: 0 });
    const reader = body.body[Symbol.asyncIterator]();
    await reader.next();
    await new Promise((resolve) => setTimeout(resolve, 300));
    // What the two sockets and our queue hold, and far from all.
    expect(fixture.registry.bytesOf(digest)).toBeLessThan(20_000_000);
    let length = 0;
    for (let next = await reader.next(); next.done !== true; next = await reader.next()) {
      length += next.value.length;
    }
    expect(length).toBeGreaterThan(39_000_000);
  });

  it('frees the connection when a reader breaks out, and when its signal aborts', async () => {
    const origin = fixture.origin({ connections: 1 });
    for await (const _ of (await origin.blob({ ...at, digest: fixture.layer, start: 0 })).body) break;
    const controller = new AbortController();
    const aborted = await origin.blob({
      ...at,
      digest: fixture.layer,
      start: 0,
      signal: controller.signal,
    });
    controller.abort(new Error('enough'));
    await expect(readAll(aborted)).rejects.toThrow('enough');
    const last = await origin.blob({ ...at, digest: fixture.layer, start: 0 });
    expect((await readAll(last)).length).toBe(LAYER_BYTES);
    expect(origin.downSince(REGISTRY)).toBeUndefined();
  });

  it('leaves at once when the signal aborts before an answer', async () => {
    fixture.registry.options.fault = () => ({ hang: true });
    const controller = new AbortController();
    const origin = fixture.origin();
    const call = origin.manifest({ ...at, reference: 'v1', method: 'GET', signal: controller.signal });
    const failed = expect(call).rejects.toThrow('not any more');
    controller.abort(new Error('not any more'));
    await failed;
    expect(origin.downSince(REGISTRY)).toBeUndefined();
  });
});
