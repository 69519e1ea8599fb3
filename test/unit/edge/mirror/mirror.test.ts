import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TidepoolError } from '../../../../shared/errors.ts';
import type { Digest } from '../../../../shared/ids.ts';
import { ask, askRaw } from '../../../support/http-client.ts';
import { type MirrorFixture, patternBytes, startMirror } from '../../../support/mirror-fixture.ts';

const INDEX = 'application/vnd.oci.image.index.v1+json';
const JSON_TYPE = 'application/json; charset=utf-8';
const API = { 'Docker-Distribution-API-Version': 'registry/2.0' };
const CLOSE = { Connection: 'close' };
const STALE_AT = Date.UTC(2026, 0, 2, 3, 4, 5);
const UNKNOWN = `sha256:${'0'.repeat(64)}`;

let fixture: MirrorFixture;
let manifest: Buffer;
let manifestDigest: Digest;
let blob: Buffer;
let blobDigest: Digest;

beforeEach(async () => {
  fixture = await startMirror();
  manifest = Buffer.from('{"schemaVersion":2}');
  manifestDigest = fixture.content.addManifest(manifest, INDEX, 'docker.io/library/busybox:1.36');
  fixture.content.addManifest(manifest, INDEX, 'docker.io/library/busybox:stale', STALE_AT);
  blob = patternBytes(150_000);
  blobDigest = fixture.content.addBlob(blob);
});

afterEach(async () => {
  await fixture.mirror.stop();
});

function errorBody(code: string, message: string, detail: Record<string, unknown>): string {
  return `${JSON.stringify({ errors: [{ code, message, detail }] })}\n`;
}

interface Row {
  readonly name: string;
  readonly path: () => string;
  readonly ask?: Record<string, string>;
  readonly prepare?: () => void;
  readonly status: number;
  readonly headers: () => Record<string, string>;
  readonly body: () => Buffer | string;
}

const stale = {
  Warning: '110 - "the origin cannot be asked; this is what the tag was at 2026-01-02T03:04:05.000Z"',
  'Tidepool-Stale-Since': '2026-01-02T03:04:05.000Z',
};
const manifestHeaders = (): Record<string, string> => ({
  'Content-Type': INDEX,
  'Content-Length': String(manifest.length),
  'Docker-Content-Digest': manifestDigest,
  ETag: `"${manifestDigest}"`,
});
const blobHeaders = (): Record<string, string> => ({
  'Content-Type': 'application/octet-stream',
  'Content-Length': String(blob.length),
  'Accept-Ranges': 'bytes',
  'Docker-Content-Digest': blobDigest,
  ETag: `"${blobDigest}"`,
});
const failing = (name: string, status: number, error: TidepoolError, oci: string, more = {}): Row => {
  const body = errorBody(oci, error.message, { ...error.details, reason: error.code });
  return {
    name,
    path: () => '/v2/library/busybox/manifests/1.36?ns=docker.io',
    prepare: () => {
      fixture.content.onAsk = () => Promise.reject(error);
    },
    status,
    headers: () => ({ 'Content-Type': JSON_TYPE, 'Content-Length': String(body.length), ...API, ...more }),
    body: () => body,
  };
};
const refused = (
  name: string,
  path: string,
  status: number,
  oci: string,
  message: string,
  reason: string,
): Row => {
  const body = errorBody(oci, message, { reason });
  return {
    name,
    path: () => path,
    status,
    headers: () => ({ 'Content-Type': JSON_TYPE, 'Content-Length': String(Buffer.byteLength(body)), ...API }),
    body: () => body,
  };
};

const ACCOUNT_WANTED = errorBody(
  'UNAUTHORIZED',
  'send the account that you have for this mirror, or an empty one; images that need none are for everybody',
  { reason: 'UNAUTHORIZED' },
);

const table: Row[] = [
  {
    name: 'the API itself',
    path: () => '/v2/',
    status: 200,
    headers: () => ({ 'Content-Type': JSON_TYPE, 'Content-Length': '2', ...API }),
    body: () => '{}',
  },
  {
    name: 'the API itself, to one that sends accounts only when it is asked for them',
    path: () => '/v2/',
    ask: { 'Docker-Distribution-API-Version': 'registry/2.0' },
    status: 401,
    headers: () => ({
      'Content-Type': JSON_TYPE,
      'Content-Length': String(Buffer.byteLength(ACCOUNT_WANTED)),
      'WWW-Authenticate': 'Basic realm="tidepool"',
      ...API,
    }),
    body: () => ACCOUNT_WANTED,
  },
  {
    name: 'the same, with the account of nobody',
    path: () => '/v2/',
    ask: { 'Docker-Distribution-API-Version': 'registry/2.0', Authorization: 'Basic Og==' },
    status: 200,
    headers: () => ({ 'Content-Type': JSON_TYPE, 'Content-Length': '2', ...API }),
    body: () => '{}',
  },
  {
    name: 'a manifest by tag',
    path: () => '/v2/library/busybox/manifests/1.36?ns=docker.io',
    status: 200,
    headers: manifestHeaders,
    body: () => manifest,
  },
  {
    name: 'a manifest by digest, path style',
    path: () => `/v2/docker.io/library/busybox/manifests/${manifestDigest}`,
    status: 200,
    headers: manifestHeaders,
    body: () => manifest,
  },
  {
    name: 'a manifest, whatever encodings the client takes',
    path: () => '/v2/library/busybox/manifests/1.36',
    ask: { 'Accept-Encoding': 'zstd;q=1.0, gzip;q=0.8, deflate;q=0.5', Range: 'bytes=0-1' },
    status: 200,
    headers: manifestHeaders,
    body: () => manifest,
  },
  {
    name: 'a stale tag',
    path: () => '/v2/library/busybox/manifests/stale',
    status: 200,
    headers: () => ({ ...manifestHeaders(), ...stale }),
    body: () => manifest,
  },
  {
    name: 'a manifest that the client has',
    path: () => '/v2/library/busybox/manifests/stale',
    ask: { 'If-None-Match': '*' },
    status: 304,
    headers: () => ({ 'Docker-Content-Digest': manifestDigest, ETag: `"${manifestDigest}"`, ...stale }),
    body: () => '',
  },
  {
    name: 'a blob',
    path: () => `/v2/library/busybox/blobs/${blobDigest}?ns=docker.io`,
    ask: { 'Accept-Encoding': 'gzip, zstd' },
    status: 200,
    headers: blobHeaders,
    body: () => blob,
  },
  {
    name: 'a blob that the client has',
    path: () => `/v2/library/busybox/blobs/${blobDigest}?ns=docker.io`,
    ask: { 'If-None-Match': '*' },
    status: 304,
    headers: () => ({ 'Docker-Content-Digest': blobDigest, ETag: `"${blobDigest}"` }),
    body: () => '',
  },
  {
    name: 'referrers, passed through with what the client needs of them',
    path: () => `/v2/quay.io/app/referrers/${blobDigest}?artifactType=x`,
    prepare: () => {
      fixture.content.passThroughAnswer = {
        status: 200,
        headers: {
          'content-type': INDEX,
          'oci-filters-applied': 'artifactType',
          'content-length': '12',
          'set-cookie': 'a=b',
          'transfer-encoding': 'chunked',
          link: `<https://cdn.example/v2/app/referrers/${blobDigest}?next=1>; rel="next"`,
        },
        body: Buffer.from('{"a":"bcde"}'),
      };
    },
    status: 200,
    headers: () => ({
      'Content-Type': INDEX,
      'OCI-Filters-Applied': 'artifactType',
      Link: `</v2/quay.io/app/referrers/${blobDigest}?next=1>; rel="next"`,
      'Content-Length': '12',
    }),
    body: () => '{"a":"bcde"}',
  },
  {
    name: 'tags, where the origin is busy: never 429',
    path: () => '/v2/app/tags/list?ns=quay.io',
    prepare: () => {
      const body = Buffer.from('{"errors":[]}');
      fixture.content.passThroughAnswer = { status: 429, headers: { 'Retry-After': '1' }, body };
    },
    status: 503,
    headers: () => ({ 'Content-Length': '13' }),
    body: () => '{"errors":[]}',
  },
  failing(
    'an origin that cannot be reached',
    502,
    new TidepoolError('ORIGIN_UNREACHABLE', 'docker.io unreachable since 03:04; no member holds it'),
    'UNAVAILABLE',
  ),
  failing(
    'what the origin refuses',
    401,
    new TidepoolError('UNAUTHORIZED', 'docker.io wants credentials'),
    'UNAUTHORIZED',
    { 'WWW-Authenticate': 'Basic realm="tidepool"' },
  ),
  failing('what is forbidden', 403, new TidepoolError('DENIED', 'docker.io said no'), 'DENIED'),
  failing('an abort inside', 503, new TidepoolError('ABORTED', 'was called off'), 'UNAVAILABLE'),
  failing('a full disk', 507, new TidepoolError('STORE_FULL', 'the disk is full'), 'UNAVAILABLE'),
  refused(
    'an unknown blob',
    `/v2/app/blobs/${UNKNOWN}`,
    404,
    'BLOB_UNKNOWN',
    `no member holds ${UNKNOWN}`,
    'BLOB_UNKNOWN',
  ),
  refused(
    'a malformed name',
    '/v2/App/manifests/x',
    400,
    'NAME_INVALID',
    'not a repository: "App"; expected lower-case letters, digits, and single . _ - between them, parted by /',
    'INVALID_REFERENCE',
  ),
  refused(
    'a malformed digest',
    '/v2/app/blobs/sha256:x',
    400,
    'DIGEST_INVALID',
    'not a digest: "sha256:x"; expected sha256: and 64 hex digits',
    'INVALID_DIGEST',
  ),
  refused(
    'what is no tag',
    '/v2/app/manifests/.INVALID_MANIFEST_NAME',
    404,
    'MANIFEST_UNKNOWN',
    'no manifest can be named ".INVALID_MANIFEST_NAME": it is not a tag',
    'MANIFEST_UNKNOWN',
  ),
  refused('another place', '/v1/x', 404, 'NAME_UNKNOWN', 'nothing is served at "/v1/x"', 'NOT_FOUND'),
];

describe('every header and body, for GET and HEAD', () => {
  it.each(table)('$name', async (row) => {
    row.prepare?.();
    for (const method of ['GET', 'HEAD']) {
      const answer = await ask(fixture.port, row.path(), {
        method,
        ...(row.ask ? { headers: row.ask } : {}),
      });
      expect({ ...answer, body: answer.body.toString('latin1') }).toEqual({
        status: row.status,
        headers: { ...row.headers(), ...CLOSE },
        body: method === 'HEAD' ? '' : Buffer.from(row.body()).toString('latin1'),
        complete: true,
      });
    }
    await expect.poll(() => fixture.content.lent).toBe(0);
  });

  it.each(['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])('%s is not possible', async (method) => {
    const answer = await ask(fixture.port, '/v2/app/blobs/uploads/', {
      method,
      headers: { 'Content-Length': '0' },
    });
    const body = errorBody('UNSUPPORTED', `${method} is not possible here: a mirror is for pulling alone`, {
      reason: 'METHOD_NOT_ALLOWED',
    });
    expect({ ...answer, body: answer.body.toString() }).toEqual({
      status: 405,
      headers: {
        'Content-Type': JSON_TYPE,
        'Content-Length': String(body.length),
        ...API,
        Allow: 'GET, HEAD',
        ...CLOSE,
      },
      body,
      complete: true,
    });
  });

  it('a malformed digest is told before the method (the conformance suite puts one)', async () => {
    const answer = await ask(fixture.port, '/v2/app/manifests/sha256:totallywrong', { method: 'PUT' });
    expect(answer.status).toBe(400);
  });

  it('keeps connections for longer than a minute', async () => {
    const text = await askRaw(
      fixture.port,
      'GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    );
    expect(text).toContain('Keep-Alive: timeout=75\r\n');
    expect(text.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
  });

  it('has no chunks for a client of HTTP/1.0 either, and needs no Host', async () => {
    const text = await askRaw(fixture.port, `GET /v2/app/blobs/${blobDigest} HTTP/1.0\r\n\r\n`);
    expect(text).toContain(`\r\nContent-Length: ${blob.length}\r\n`);
    expect(text.endsWith(`\r\n\r\n${blob.toString('latin1')}`)).toBe(true);
  });
});
