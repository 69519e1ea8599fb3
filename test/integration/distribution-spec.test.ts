import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestOf } from '../../shared/ids.ts';
import { run } from '../lab/process.ts';
import { AgentPool, REPOSITORY } from '../support/agent-pool.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts';
import type { SampleImage } from '../support/registry/index.ts';

// What the distribution-spec (1.1, "Pull" and "Content Discovery") says a registry must do, asked of a mirror with a real
// registry behind it in each of the three ways that clients name one. Not OCI's own suite.
const missing = ['skopeo', 'docker-registry'].filter(
  (name) => spawnSync(name, ['--version']).error !== undefined,
);
if (missing.length > 0) console.info(`not installed, so the spec is not held: ${missing.join(', ')}`);

const NOWHERE = `sha256:${'0'.repeat(64)}`;
const CODES = /^(BLOB_UNKNOWN|MANIFEST_UNKNOWN|NAME_UNKNOWN|NAME_INVALID|DIGEST_INVALID|UNSUPPORTED|DENIED)$/;
const TAGS = ['v1', 'v2', 'v3'];

let directory: string;
let pool: AgentPool;
let origin: DockerRegistry;
let image: SampleImage;

beforeAll(async () => {
  if (missing.length > 0) return;
  directory = mkdtempSync(join(tmpdir(), 'spec-'));
  pool = new AgentPool();
  await pool.registry.start();
  origin = await startDockerRegistry(directory);
  image = await pool.image([{ bytes: 700_000, seed: 1 }]);
  for (const tag of TAGS) {
    const pushed = await run([
      'skopeo',
      '--insecure-policy',
      'copy',
      '--quiet',
      '--preserve-digests',
      '--src-tls-verify=false',
      '--dest-tls-verify=false',
      `docker://${new URL(pool.registry.url).host}/${REPOSITORY}:v1`,
      `docker://${origin.host}/${REPOSITORY}:${tag}`,
    ]);
    expect(pushed).toMatchObject({ code: 0 });
  }
  await pool.start(1, {
    yaml: `defaultRegistry: spec.example:5000\nregistries: {"spec.example:5000": "${origin.url}"}`,
  });
});
afterAll(async () => {
  if (missing.length > 0) return;
  await pool.close();
  await origin.stop();
  rmSync(directory, { recursive: true, force: true });
});

const STYLES = {
  'containerd (ns=)': (path: string) =>
    `/v2/${REPOSITORY}/${path}${path.includes('?') ? '&' : '?'}ns=spec.example:5000`,
  'path style': (path: string) => `/v2/spec.example:5000/${REPOSITORY}/${path}`,
  'path style without a colon': (path: string) => `/v2/spec.example_5000/${REPOSITORY}/${path}`,
  'default registry': (path: string) => `/v2/${REPOSITORY}/${path}`,
};

describe.skipIf(missing.length > 0).each(Object.entries(STYLES))('%s', (_, target) => {
  const ask = (path: string, method = 'GET'): Promise<Response> =>
    fetch(`http://${pool.mirrorAddress(1)}${target(path)}`, { method });

  /** GET and HEAD: same status, same headers, no body with HEAD. */
  async function both(path: string): Promise<{ status: number; headers: Headers; body: Buffer }> {
    const head = await ask(path, 'HEAD');
    expect((await head.arrayBuffer()).byteLength).toBe(0);
    const got = await ask(path);
    const body = Buffer.from(await got.arrayBuffer());
    expect(head.status).toBe(got.status);
    for (const name of ['content-length', 'content-type', 'docker-content-digest', 'etag']) {
      expect([name, head.headers.get(name)]).toEqual([name, got.headers.get(name)]);
    }
    expect(got.headers.get('content-length')).toBe(String(body.length));
    return { status: got.status, headers: got.headers, body };
  }

  it('is a registry of version 2', async () => {
    const answer = await fetch(`http://${pool.mirrorAddress(1)}/v2/`);
    expect(answer.status).toBe(200);
  });

  it('gives manifests by tag and by digest', async () => {
    for (const reference of ['v1', image.digest]) {
      const { status, headers, body } = await both(`manifests/${reference}`);
      expect([status, digestOf(body)]).toEqual([200, image.digest]);
      expect(headers.get('docker-content-digest')).toBe(image.digest);
      expect(headers.get('content-type')).toBe(image.mediaType);
    }
  });

  it('gives blobs, whole and in part', async () => {
    for (const { digest, size } of image.blobs) {
      const { status, headers, body } = await both(`blobs/${digest}`);
      expect([status, digestOf(body), body.length]).toEqual([200, digest, size]);
      expect(headers.get('docker-content-digest')).toBe(digest);
      const url = `http://${pool.mirrorAddress(1)}${target(`blobs/${digest}`)}`;
      const part = await fetch(url, { headers: { range: 'bytes=5-14' } });
      expect([part.status, part.headers.get('content-range')]).toEqual([206, `bytes 5-14/${size}`]);
      expect(Buffer.from(await part.arrayBuffer()).equals(body.subarray(5, 15))).toBe(true);
      const beyond = await fetch(url, { headers: { range: `bytes=${size}-` } });
      expect(beyond.status).toBe(416);
      await beyond.arrayBuffer();
    }
  });

  it.each([
    ['manifests/.INVALID_MANIFEST_NAME', 404],
    ['manifests/no-such-tag', 404],
    [`manifests/${NOWHERE}`, 404],
    [`blobs/${NOWHERE}`, 404],
    ['blobs/sha256:totallywrong', 400],
  ])('answers %s with %i and an error that a client can read', async (path, wanted) => {
    const { status, body } = await both(path);
    expect(status).toBe(wanted);
    const told = JSON.parse(body.toString()) as { errors: { code: string; message: string }[] };
    expect(told.errors.map(({ code }) => code).filter((code) => !CODES.test(code))).toEqual([]);
    expect(told.errors).toHaveLength(1);
  });

  it('lists tags, a page at a time where it is asked to', async () => {
    const tags = async (answer: Response): Promise<string[]> =>
      ((await answer.json()) as { tags: string[] }).tags.toSorted();
    expect(await tags(await ask('tags/list'))).toEqual(TAGS);
    const page = await ask('tags/list?n=2');
    const link = /^<([^>]+)>; rel="next"$/.exec(page.headers.get('link') ?? '');
    // Debian's docker-registry knows pages of its catalogue alone, and gives all.
    if (link === null) expect(await tags(page)).toEqual(TAGS);
    else {
      const next = await fetch(new URL(link[1] ?? '', `http://${pool.mirrorAddress(1)}`));
      expect([...(await tags(page)), ...(await tags(next))].toSorted()).toEqual(TAGS);
    }
  });

  it('has what the registry says of referrers: here that it does not know the question', async () => {
    const { status } = await both(`referrers/${image.digest}`);
    expect(status).toBe((await fetch(`${origin.url}/v2/${REPOSITORY}/referrers/${image.digest}`)).status);
  });

  it.each(['PUT', 'POST', 'DELETE', 'PATCH'])('refuses %s', async (method) => {
    const answer = await ask(`manifests/v1`, method);
    expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    await answer.arrayBuffer();
  });
});
