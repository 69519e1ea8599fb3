import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Digest } from '../../../../shared/ids.ts';
import { ask } from '../../../support/http-client.ts';
import { type MirrorFixture, patternBytes, startMirror, until } from '../../../support/mirror-fixture.ts';

const SIZE = 200_000;
const blob = patternBytes(SIZE);
let fixture: MirrorFixture;
let digest: Digest;
let empty: Digest;

beforeAll(async () => {
  fixture = await startMirror();
  digest = fixture.content.addBlob(blob);
  empty = fixture.content.addBlob(new Uint8Array());
});
beforeEach(() => {
  fixture.content.reads.length = 0;
});
afterAll(async () => {
  await until(() => fixture.content.lent === 0, 'all is given back');
  expect(fixture.content.doubleReleases).toBe(0);
  await fixture.mirror.stop();
});

const get = (range: string, more: Record<string, string> = {}) =>
  ask(fixture.port, `/v2/app/blobs/${digest}`, { headers: { Range: range, ...more } });

/** The parts of a multipart/byteranges body, as a client reads them. */
function partsOf(type: string, body: Buffer): { range: string; bytes: Buffer }[] {
  const boundary = /^multipart\/byteranges; boundary=([0-9a-f]{32})$/.exec(type)?.[1];
  const text = body.toString('latin1');
  expect(text.startsWith(`--${boundary}\r\n`)).toBe(true);
  expect(text.endsWith(`\r\n--${boundary}--\r\n`)).toBe(true);
  const inner = text.slice(`--${boundary}\r\n`.length, -`\r\n--${boundary}--\r\n`.length);
  return inner.split(`\r\n--${boundary}\r\n`).map((part) => {
    const end = part.indexOf('\r\n\r\n');
    const [type, range, ...rest] = part.slice(0, end).split('\r\n');
    expect(type).toBe('Content-Type: application/octet-stream');
    expect(rest).toEqual([]);
    return {
      range: range?.replace(/^Content-Range: /, '') ?? '',
      bytes: Buffer.from(part.slice(end + 4), 'latin1'),
    };
  });
}

describe('one range', () => {
  it.each([
    ['bytes=0-1', 0, 2],
    ['bytes=0-0', 0, 1],
    ['bytes=65535-65537', 65535, 65538],
    ['bytes=1000-150999', 1000, 151_000],
    ['bytes=123456-', 123_456, SIZE],
    ['bytes=0-', 0, SIZE],
    ['bytes=-1', SIZE - 1, SIZE],
    ['bytes=-70000', SIZE - 70_000, SIZE],
    ['bytes=-9999999', 0, SIZE],
    [`bytes=${SIZE - 1}-99999999`, SIZE - 1, SIZE],
    ['bytes=5-9,999999-', 5, 10],
  ])('%s', async (range, start, end) => {
    const answer = await get(range);
    expect(answer.status).toBe(206);
    expect(answer.headers).toEqual({
      'Content-Type': 'application/octet-stream',
      'Content-Length': String(end - start),
      'Content-Range': `bytes ${start}-${end - 1}/${SIZE}`,
      'Accept-Ranges': 'bytes',
      'Docker-Content-Digest': digest,
      ETag: `"${digest}"`,
      Connection: 'close',
    });
    expect(answer.body.equals(blob.subarray(start, end))).toBe(true);
    expect(fixture.content.reads).toMatchObject([{ start, end, mode: 'range', ended: true }]);
  });

  it.each(['bytes=9-5', 'bytes=x', 'items=0-1', 'bytes=1'])('%s is ignored', async (range) => {
    const answer = await get(range);
    expect([answer.status, answer.body.equals(blob)]).toEqual([200, true]);
    expect(fixture.content.reads).toMatchObject([{ start: 0, end: SIZE, mode: 'whole' }]);
  });

  it.each([`bytes=${SIZE}-`, 'bytes=-0', 'bytes=999999-1000000,888888-'])('%s is 416', async (range) => {
    const answer = await get(range);
    expect(answer.status).toBe(416);
    expect(answer.headers['Content-Range']).toBe(`bytes */${SIZE}`);
    expect(JSON.parse(answer.body.toString()).errors[0].detail).toEqual({
      size: SIZE,
      reason: 'RANGE_NOT_SATISFIABLE',
    });
    expect(fixture.content.reads).toEqual([]);
  });

  it('means nothing for HEAD', async () => {
    const answer = await ask(fixture.port, `/v2/app/blobs/${digest}`, {
      method: 'HEAD',
      headers: { Range: 'bytes=0-1' },
    });
    expect([answer.status, answer.headers['Content-Length']]).toEqual([200, String(SIZE)]);
  });

  it('counts only while If-Range names the blob', async () => {
    expect((await get('bytes=0-1', { 'If-Range': `"${digest}"` })).status).toBe(206);
    expect((await get('bytes=0-1', { 'If-Range': '"other"' })).status).toBe(200);
    expect((await get('bytes=0-1', { 'If-Range': `W/"${digest}"` })).status).toBe(200);
    expect((await get('bytes=0-1', { 'If-Range': 'Wed, 21 Oct 2015 07:28:00 GMT' })).status).toBe(200);
  });

  it('of an empty blob is 416, the blob itself 200', async () => {
    const path = `/v2/app/blobs/${empty}`;
    const part = await ask(fixture.port, path, { headers: { Range: 'bytes=0-1' } });
    expect([part.status, part.headers['Content-Range']]).toEqual([416, 'bytes */0']);
    const whole = await ask(fixture.port, path);
    expect([whole.status, whole.headers['Content-Length'], whole.complete]).toEqual([200, '0', true]);
    expect(fixture.content.reads).toMatchObject([{ start: 0, end: 0, mode: 'whole' }]);
  });
});

describe('many ranges', () => {
  it('come as multipart/byteranges, in the order asked, overlaps too', async () => {
    const answer = await get('bytes=100000-199999,0-1,0-70000,-3,999999-');
    expect(answer.status).toBe(206);
    expect(answer.headers).toEqual({
      'Content-Type': answer.headers['Content-Type'],
      'Content-Length': String(answer.body.length),
      'Accept-Ranges': 'bytes',
      'Docker-Content-Digest': digest,
      ETag: `"${digest}"`,
      Connection: 'close',
    });
    const parts = partsOf(answer.headers['Content-Type'] ?? '', answer.body);
    expect(parts.map((part) => part.range)).toEqual([
      `bytes 100000-199999/${SIZE}`,
      `bytes 0-1/${SIZE}`,
      `bytes 0-70000/${SIZE}`,
      `bytes ${SIZE - 3}-${SIZE - 1}/${SIZE}`,
    ]);
    expect(parts[2]?.bytes.equals(blob.subarray(0, 70_001))).toBe(true);
    expect(fixture.content.reads.every((read) => read.mode === 'range' && read.ended)).toBe(true);
  });

  it('beyond the bound are 400, on which stargz-snapshotter asks for single ones', async () => {
    const many = Array.from({ length: 257 }, (_, index) => `${index}-${index}`).join(',');
    expect((await get(`bytes=${many}`)).status).toBe(400);
    const most = Array.from({ length: 256 }, (_, index) => `${index * 2}-${index * 2}`).join(',');
    const answer = await get(`bytes=${most}`);
    expect(answer.status).toBe(206);
    expect(partsOf(answer.headers['Content-Type'] ?? '', answer.body)).toHaveLength(256);
  });

  it('always have the length announced and the bytes named', async () => {
    const range = fc
      .tuple(fc.nat(SIZE - 1), fc.nat(80_000))
      .map(([start, more]) => ({ start, end: Math.min(SIZE, start + more + 1) }));
    await fc.assert(
      fc.asyncProperty(fc.array(range, { minLength: 2, maxLength: 6 }), async (ranges) => {
        const answer = await get(`bytes=${ranges.map(({ start, end }) => `${start}-${end - 1}`).join(',')}`);
        expect(answer.complete).toBe(true);
        expect(String(answer.body.length)).toBe(answer.headers['Content-Length']);
        const parts = partsOf(answer.headers['Content-Type'] ?? '', answer.body);
        expect(parts.length).toBe(ranges.length);
        ranges.forEach(({ start, end }, index) => {
          expect(parts[index]?.bytes.equals(blob.subarray(start, end))).toBe(true);
        });
      }),
      { seed: 42, numRuns: 40 },
    );
  });
});
