import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BlackHole } from '../../../support/black-hole.ts';
import {
  errorOf,
  LAYER_BYTES,
  type OriginFixture,
  originFixture,
  REGISTRY,
  REPOSITORY,
  readAll,
} from '../../../support/origin-fixture.ts';
import type { Fault } from '../../../support/registry/index.ts';
import { SkippingClock } from '../../../support/skipping-clock.ts';

const at = { registry: REGISTRY, repository: REPOSITORY };
const manifest = { ...at, reference: 'v1', method: 'GET' } as const;
const OTHER = `sha256:${'1'.repeat(64)}`;

describe('an origin that errs', () => {
  let fixture: OriginFixture;
  let clock: SkippingClock;
  beforeEach(async () => {
    fixture = await originFixture();
    clock = new SkippingClock();
  });
  afterEach(() => fixture.stop());

  const fault = (faults: Fault | readonly (Fault | undefined)[]): void => {
    let turn = 0;
    fixture.registry.options.fault = () => ('length' in faults ? faults[turn++] : faults);
  };
  const readBlob = async (range: { start: number; end?: number }, origin = fixture.origin({}, clock)) =>
    readAll(await origin.blob({ ...at, digest: fixture.layer, ...range }));

  it.each<[string, Fault, string]>([
    ['403', { status: 403 }, 'DENIED'],
    ['404', { status: 404 }, 'MANIFEST_UNKNOWN'],
    ['400', { status: 400 }, 'ORIGIN_ERROR'],
    ['401 without a challenge', { status: 401 }, 'UNAUTHORIZED'],
    ['500', { status: 500 }, 'ORIGIN_ERROR'],
    ['502', { status: 502 }, 'ORIGIN_ERROR'],
    ['503', { status: 503 }, 'ORIGIN_ERROR'],
    ['a cut connection', { reset: true }, 'ORIGIN_UNREACHABLE'],
    ['another manifest', { body: Buffer.from('{}'), contentDigest: OTHER }, 'ORIGIN_LIED'],
    ['another digest', { contentDigest: OTHER }, 'ORIGIN_LIED'],
    ['an encoded body', { headers: { 'Content-Encoding': 'gzip' } }, 'ORIGIN_LIED'],
    [
      'a login page',
      { body: Buffer.from('<html>'), contentDigest: null, headers: { 'Content-Type': 'text/html' } },
      'ORIGIN_LIED',
    ],
    ['half a body', { cutAfter: 50 }, 'ORIGIN_ERROR'],
    ['a redirect to nowhere', { status: 302 }, 'ORIGIN_ERROR'],
  ])('makes %s a clear error of a manifest by tag', async (_, kind, code) => {
    fault(kind);
    const error = await errorOf(fixture.origin({}, clock).manifest(manifest));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(/registry\.test|127\.0\.0\.1/);
  });

  it('finds out another manifest under a digest that was asked for', async () => {
    fault({ body: Buffer.from('{"schemaVersion":2}'), contentDigest: null });
    const ask = { ...at, reference: fixture.image.digest };
    const origin = fixture.origin({}, clock);
    expect((await errorOf(origin.manifest({ ...ask, method: 'GET' }))).code).toBe('ORIGIN_LIED');
    fault({ contentDigest: OTHER });
    expect((await errorOf(origin.manifest({ ...ask, method: 'HEAD' }))).code).toBe('ORIGIN_LIED');
  });

  it.each<[string, Fault, string]>([
    ['403', { status: 403 }, 'DENIED'],
    ['404', { status: 404 }, 'BLOB_UNKNOWN'],
    ['500', { status: 500 }, 'ORIGIN_ERROR'],
    ['no Content-Range', { status: 206, headers: { 'Content-Range': '' } }, 'ORIGIN_LIED'],
    ['another start', { contentRange: 'bytes 1001-1999/600000' }, 'ORIGIN_LIED'],
    ['a later start', { contentRange: 'bytes 1001-1999/600000', contentLength: 999 }, 'ORIGIN_LIED'],
    ['another end', { contentRange: 'bytes 1000-1998/600000' }, 'ORIGIN_LIED'],
    ['a size below the end', { contentRange: 'bytes 1000-1999/1500' }, 'ORIGIN_LIED'],
    ['a range that is none', { contentRange: 'bytes 1999-1000/600000' }, 'ORIGIN_LIED'],
    ['a length that does not fit the range', { contentLength: 1001 }, 'ORIGIN_LIED'],
    ['416 to a good range', { status: 416, contentRange: 'bytes */600000' }, 'ORIGIN_LIED'],
    ['another digest', { contentDigest: OTHER }, 'ORIGIN_LIED'],
    ['an encoded body', { headers: { 'Content-Encoding': 'gzip' } }, 'ORIGIN_LIED'],
    ['a web page', { status: 200, headers: { 'Content-Type': 'text/html; charset=utf-8' } }, 'ORIGIN_LIED'],
    ['a short body', { cutAfter: 500 }, 'ORIGIN_ERROR'],
  ])('makes %s a clear error of a blob', async (_, kind, code) => {
    fault(kind);
    expect((await errorOf(readBlob({ start: 1000, end: 2000 }))).code).toBe(code);
  });

  it('yields what came of a short body, then says how much, and that trying again may help', async () => {
    fault({ cutAfter: 100_000 });
    const body = await fixture.origin().blob({ ...at, digest: fixture.layer, start: 0 });
    let length = 0;
    const call = (async () => {
      for await (const chunk of body.body) length += chunk.length;
    })();
    expect(await errorOf(call)).toMatchObject({ code: 'ORIGIN_ERROR', details: { retryable: true } });
    expect(length).toBe(100_000);
  });

  it('never yields more than was asked for, with a body of no stated length', async () => {
    const head =
      'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/100\r\nTransfer-Encoding: chunked\r\n\r\n';
    const raw = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => socket.write(`${head}8\r\n01234567\r\n8\r\n89abcdef\r\n0\r\n\r\n`));
    });
    await new Promise<void>((resolve) => raw.listen(0, '127.0.0.1', resolve));
    const address = raw.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    const origin = fixture.origin({ registries: { [REGISTRY]: { url: `http://127.0.0.1:${port}` } } });
    expect((await readBlob({ start: 0, end: 10 }, origin)).toString()).toBe('0123456789');
    await origin.stop();
    raw.close();
  });

  it('passes wrong bytes on as they are: their digest is for the reader to check', async () => {
    fault({ wrongBytes: true });
    expect((await readBlob({ start: 0 })).length).toBe(LAYER_BYTES);
  });

  it('asks again when told to, as often as three times, and waits as long as it is told', async () => {
    fault([{ status: 429, retryAfter: 2 }, { status: 503, retryAfter: 3 }, { status: 429 }]);
    expect((await readBlob({ start: 0, end: 10 })).length).toBe(10);
    expect(fixture.registry.requests).toHaveLength(4);
    const [first = 0, second = 0, third = 0] = clock.waits;
    expect(first).toBeGreaterThanOrEqual(2_000);
    expect(first).toBeLessThan(3_000);
    expect(second).toBeGreaterThanOrEqual(3_000);
    expect(third).toBeGreaterThan(0);
  });

  it.each([429, 503])(
    'gives up after three times (%i), and does not take it for an outage',
    async (status) => {
      fault({ status, retryAfter: 1 });
      const origin = fixture.origin({}, clock);
      const error = await errorOf(origin.manifest(manifest));
      expect(error).toMatchObject({ code: 'ORIGIN_ERROR', details: { status, retryable: true } });
      expect(fixture.registry.requests).toHaveLength(4);
      expect(origin.downSince(REGISTRY)).toBeUndefined();
    },
  );

  it('does not wait longer than ten seconds, nor ask sooner than it is told', async () => {
    fault({ status: 429, retryAfter: 60 });
    const error = await errorOf(fixture.origin({}, clock).manifest(manifest));
    expect(error.message).toContain('Retry-After');
    expect(fixture.registry.requests).toHaveLength(1);
    expect(clock.waits).toEqual([]);
  });

  it('never hands a 429 through to a runtime', async () => {
    fault({ status: 429, retryAfter: 60 });
    const call = fixture
      .origin({}, clock)
      .passThrough({ ...at, path: 'tags/list', query: '', method: 'GET' });
    expect((await errorOf(call)).code).toBe('ORIGIN_ERROR');
  });

  it('asks once again when a connection closes before an answer', async () => {
    fault([{ reset: true }]);
    expect((await fixture.origin().manifest(manifest)).digest).toBe(fixture.image.digest);
    expect(fixture.registry.requests).toHaveLength(2);
  });

  it('gives an answer that does not come up in time', async () => {
    fault({ hang: true });
    const origin = fixture.origin({ timeouts: { answerMs: 150 } });
    expect((await errorOf(origin.manifest(manifest))).code).toBe('ORIGIN_UNREACHABLE');
  });

  it('gives a body up that stalls while a reader waits', async () => {
    fault({ stallAfter: 100_000 });
    const origin = fixture.origin({ timeouts: { stallMs: 1_000 } });
    const error = await errorOf(readBlob({ start: 0 }, origin));
    expect(error).toMatchObject({ code: 'ORIGIN_UNREACHABLE', details: { received: 100_000 } });
  });

  it('does not take a slow reader for a stall', async () => {
    const origin = fixture.origin({ timeouts: { stallMs: 800 } });
    const body = await origin.blob({ ...at, digest: fixture.layer, start: 0 });
    const reader = body.body[Symbol.asyncIterator]();
    let length = 0;
    for (let slow = 0, next = await reader.next(); next.done !== true; next = await reader.next()) {
      length += next.value.length;
      if (slow++ < 2) await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
    expect(length).toBe(LAYER_BYTES);
  });

  it('gives a connection up with a body that is not wanted to its end', async () => {
    fault([{ stallAfter: 100_000 }]);
    const origin = fixture.origin({ connections: 1 });
    for await (const _ of (await origin.blob({ ...at, digest: fixture.layer, start: 0 })).body) break;
    expect((await readBlob({ start: 0 }, origin)).length).toBe(LAYER_BYTES);
  });

  it('does not count the wait for a connection as a missing answer', async () => {
    fault([{ stallAfter: 100_000 }]);
    const origin = fixture.origin({ connections: 1, timeouts: { answerMs: 1_000 } });
    const holding = await origin.blob({ ...at, digest: fixture.layer, start: 0 });
    const waiting = readBlob({ start: 0 }, origin);
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    for await (const _ of holding.body) break;
    expect((await waiting).length).toBe(LAYER_BYTES);
  });

  it('knows at once that an origin is down, says since when, and notices that it is back', async () => {
    const { registry } = fixture;
    const port = Number(new URL(registry.url).port);
    const origin = fixture.origin({ random: () => 0.999 }, clock);
    await origin.manifest(manifest);
    await registry.stop();
    const before = clock.now();
    expect((await errorOf(origin.manifest(manifest))).code).toBe('ORIGIN_UNREACHABLE');
    const since = origin.downSince(REGISTRY) ?? 0;
    expect(since).toBeGreaterThanOrEqual(before);
    const refused = await errorOf(origin.manifest(manifest));
    expect(refused).toMatchObject({ code: 'ORIGIN_UNREACHABLE', details: { since } });
    expect(refused.message).toContain(new Date(since).toISOString());
    await registry.start('127.0.0.1', port);
    // Still refused, though it is back: nobody has looked yet.
    expect((await errorOf(origin.manifest(manifest))).code).toBe('ORIGIN_UNREACHABLE');
    clock.advance(1_000);
    expect((await origin.manifest(manifest)).digest).toBe(fixture.image.digest);
    expect(origin.downSince(REGISTRY)).toBeUndefined();
  });

  it('takes silence for an outage, also where callers have less patience than an answer may take', async () => {
    const hole = new BlackHole();
    await hole.start();
    const registries = { [REGISTRY]: { url: `http://${hole.address}` } };
    const origin = fixture.origin({ registries, timeouts: { answerMs: 400 } });
    const impatient = (ms: number): Promise<unknown> =>
      origin
        .manifest({ ...manifest, method: 'HEAD', signal: AbortSignal.timeout(ms) })
        .catch(() => undefined);
    try {
      // A caller that leaves at once says nothing of the origin.
      for (let n = 0; n < 5; n++) await impatient(20);
      expect(origin.openBreakers()).toEqual([]);
      for (let n = 0; n < 3; n++) await impatient(250);
      expect(origin.openBreakers()).toMatchObject([
        { registry: REGISTRY, origin: `http://${hole.address}`, why: expect.stringContaining('no answer') },
      ]);
      expect(origin.downSince(REGISTRY)).toBeDefined();
    } finally {
      await hole.stop();
    }
  });

  it('takes a refusal for an answer: the origin is up', async () => {
    const origin = fixture.origin({}, clock);
    for (const status of [403, 404, 500, 403, 404, 500]) {
      fault({ status });
      await errorOf(origin.manifest(manifest));
      expect(origin.downSince(REGISTRY)).toBeUndefined();
    }
  });

  it('takes gateway errors for an outage once there were three in a row', async () => {
    const origin = fixture.origin({}, clock);
    fault({ status: 502 });
    for (let i = 0; i < 3; i++) expect((await errorOf(origin.manifest(manifest))).code).toBe('ORIGIN_ERROR');
    expect((await errorOf(origin.manifest(manifest))).code).toBe('ORIGIN_UNREACHABLE');
    expect(fixture.registry.requests).toHaveLength(3);
  });
});
