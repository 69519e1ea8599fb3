import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TidepoolError } from '../../../../shared/errors.ts';
import type { Digest } from '../../../../shared/ids.ts';
import { ask } from '../../../support/http-client.ts';
import { type MirrorFixture, patternBytes, startMirror } from '../../../support/mirror-fixture.ts';

const UNKNOWN = `sha256:${'0'.repeat(64)}`;
const MANIFEST = Buffer.from('{"schemaVersion":2}');
const TYPE = 'application/vnd.oci.image.index.v1+json';

let fixture: MirrorFixture;
let blob: Buffer;
let blobDigest: Digest;

beforeEach(async () => {
  fixture = await startMirror();
  fixture.content.addManifest(MANIFEST, TYPE, 'docker.io/library/busybox:1.36');
  fixture.content.addManifest(MANIFEST, TYPE, 'docker.io/library/busybox:stale', Date.UTC(2026, 0, 2));
  blob = patternBytes(150_000);
  blobDigest = fixture.content.addBlob(blob);
});

afterEach(async () => {
  await fixture.mirror.stop();
});

describe('who is asked for what', () => {
  it.each([
    ['/v2/library/busybox/manifests/1.36?ns=quay.io', 'quay.io', 'library/busybox'],
    ['/v2/registry.example:5000/team/app/manifests/1.36', 'registry.example:5000', 'team/app'],
    ['/v2/localhost/app/manifests/1.36', 'localhost', 'app'],
    ['/v2/busybox/manifests/1.36', 'docker.io', 'busybox'],
  ])('%s', async (path, registry, repository) => {
    await ask(fixture.port, path);
    expect(fixture.content.requests[0]).toMatchObject({
      registry,
      repository,
      reference: '1.36',
      priority: 0,
    });
  });

  it('keeps the query of what it passes through, without ns', async () => {
    await ask(fixture.port, '/v2/app/tags/list?n=2&ns=quay.io&last=a%20b', { method: 'HEAD' });
    expect(fixture.content.passed).toEqual([{ path: 'tags/list', query: 'n=2&last=a%20b', method: 'HEAD' }]);
    expect(fixture.content.requests[0]).toMatchObject({ registry: 'quay.io', repository: 'app' });
  });

  it('leads the next page to itself, in the style of the request', async () => {
    const headers = { Link: '</v2/app/tags/list?n=2&last=b>; rel="next"' };
    fixture.content.passThroughAnswer = { status: 200, headers, body: Buffer.from('{}') };
    const link = async (path: string): Promise<unknown> => (await ask(fixture.port, path)).headers.Link;
    expect(await link('/v2/app/tags/list?n=2&ns=r.example:5000')).toBe(
      '</v2/app/tags/list?n=2&last=b&ns=r.example%3A5000>; rel="next"',
    );
    expect(await link('/v2/r.example/app/tags/list')).toBe(
      '</v2/r.example/app/tags/list?n=2&last=b>; rel="next"',
    );
    expect(await link('/v2/app/tags/list')).toBe('</v2/app/tags/list?n=2&last=b>; rel="next"');
  });

  it.each([
    [302, 502],
    [408, 502],
    [401, 401],
    [404, 404],
    [500, 500],
  ])('an origin that answers %i is passed on as %i', async (given, wanted) => {
    fixture.content.passThroughAnswer = { status: given, headers: {}, body: new Uint8Array() };
    const answer = await ask(fixture.port, '/v2/app/tags/list');
    expect(answer.status).toBe(wanted);
    expect(answer.headers['WWW-Authenticate']).toBe(wanted === 401 ? 'Basic realm="tidepool"' : undefined);
  });

  it('honours what nydusd says of its haste', async () => {
    await ask(fixture.port, `/v2/app/blobs/${blobDigest}`, { headers: { 'X-Dragonfly-Priority': '3' } });
    await ask(fixture.port, `/v2/app/blobs/${blobDigest}`, { headers: { 'X-Dragonfly-Priority': '6' } });
    expect(fixture.content.requests.map((request) => request.priority)).toEqual([1, 0]);
  });
});

describe('credentials', () => {
  const secret = `Basic ${Buffer.from('user:pass').toString('base64')}`;

  it('are asked for as Basic, then handed to the content of that request alone', async () => {
    fixture.content.onAsk = (request) => {
      if (request.credentials?.password !== 'pass') {
        throw new TidepoolError('UNAUTHORIZED', 'quay.io wants credentials');
      }
    };
    const path = `/v2/app/blobs/${blobDigest}?ns=quay.io`;
    const first = await ask(fixture.port, path);
    expect([first.status, first.headers['WWW-Authenticate']]).toEqual([401, 'Basic realm="tidepool"']);
    const second = await ask(fixture.port, path, { headers: { Authorization: secret } });
    expect(second.status).toBe(200);
    expect(second.body.equals(blob)).toBe(true);
    expect(fixture.content.credentials).toEqual({ username: 'user', password: 'pass' });
    const third = await ask(fixture.port, path);
    expect(third.status).toBe(401);
    expect(fixture.content.credentials).toBeUndefined();
  });

  it('that cannot be read are 401, before the content is asked', async () => {
    const answer = await ask(fixture.port, '/v2/app/manifests/x', { headers: { Authorization: 'Basic !' } });
    expect(answer.status).toBe(401);
    expect(fixture.content.requests).toEqual([]);
  });

  it('of another scheme count as none', async () => {
    const headers = { Authorization: 'Bearer abc' };
    expect((await ask(fixture.port, '/v2/library/busybox/manifests/1.36', { headers })).status).toBe(200);
    expect(fixture.content.credentials).toBeUndefined();
  });
});

describe('counters', () => {
  it('tell requests by kind and status, bytes and stale answers', async () => {
    await ask(fixture.port, '/v2/library/busybox/manifests/stale');
    await ask(fixture.port, `/v2/app/blobs/${blobDigest}`, { headers: { Range: 'bytes=0-9' } });
    const refused = await ask(fixture.port, `/v2/app/blobs/${UNKNOWN}`);
    // The server's end of an answer may come after the client's.
    await expect.poll(() => fixture.mirror.stats.snapshot().active).toBe(0);
    expect(fixture.mirror.stats.snapshot()).toEqual({
      requests: [
        { kind: 'manifest', status: 200, count: 1 },
        { kind: 'blob', status: 206, count: 1 },
        { kind: 'blob', status: 404, count: 1 },
      ],
      bytes: MANIFEST.length + 10 + refused.body.length,
      staleAnswers: 1,
      stalls: 0,
      active: 0,
    });
  });
});
