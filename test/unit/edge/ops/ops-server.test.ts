import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Agent, fetch, type RequestInit } from 'undici';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AgentStatus, HealthCheck, PullEvent } from '../../../../edge/ops/api.ts';
import { OpsServer } from '../../../../edge/ops/ops-server.ts';
import type { OpsSources } from '../../../../edge/ops/sources.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { formatImageRef } from '../../../../shared/image-ref.ts';
import { silentLogger } from '../../../../shared/log.ts';

const DIGEST = digestOf(Buffer.from('x'));
const COUNTS = { totalBytes: 100, doneBytes: 40, wanBytes: 30, peerBytes: 10, blobs: 2, blobsDone: 1 };

const STATUS: AgentStatus = {
  node: 'n1',
  pool: 'p',
  address: '10.0.0.7',
  version: '1.2.3',
  platform: 'linux/amd64',
  bootId: 'boot',
  startedAt: 0,
  mirror: '127.0.0.1:6180',
  peers: '10.0.0.7:6181',
  hub: null,
  tuningHash: null,
  members: [
    { node: 'n2', address: '10.0.0.8:6181', live: true, setAside: false, source: 'roster' },
    { node: 'n3', address: '10.0.0.9:6181', live: false, setAside: false, source: 'static' },
    { node: 'n4', address: '10.0.0.10:6181', live: true, setAside: true, source: 'learned' },
  ],
  registries: [{ registry: 'reg.example', url: 'https://reg.example', downSince: 5 }],
  runtime: {
    socket: '/run/cri.sock',
    present: true,
    runtime: 'containerd v2.2.4',
    mirror: 'yes',
    checkedAt: 5,
    reason: null,
    fix: null,
  },
  counters: {
    wanBytes: 1,
    peerBytes: 2,
    servedPeerBytes: 3,
    servedRuntimeBytes: 4,
    storedBytes: 5,
    blobs: 6,
    originPieces: 7,
    peerPieces: 8,
    hedges: 9,
    corruptPieces: 10,
    digestMismatches: 11,
    staleAnswers: 12,
  },
  transfers: [],
  prefetches: [],
};

type Pull = OpsSources['pull'];

class Fixture {
  checks: HealthCheck[] = [{ name: 'index', ok: true, detail: 'answers' }];
  ready: HealthCheck[] = [];
  status = STATUS;
  limits: number[] = [];
  selfTests = 0;
  pulls: Parameters<Pull>[0][] = [];
  onPull: (...args: Parameters<Pull>) => ReturnType<Pull> = async () => ({
    ...COUNTS,
    digest: DIGEST,
    manifests: [DIGEST],
  });
  accounts: unknown[] = [];
  staleSince: number | undefined;
  manifestError: TidepoolError | undefined;
  readonly directory = mkdtempSync(join(tmpdir(), 'tidepool-ops-'));
  readonly socket = join(this.directory, 'ops.sock');
  /** Of the agent's own user. */
  readonly admin = new Agent({ connect: { socketPath: this.socket } });
  readonly server = new OpsServer(
    {
      clock: systemClock,
      log: silentLogger(),
      sources: {
        health: () => this.checks,
        readiness: () => this.ready,
        status: () => this.status,
        selfTest: async () => {
          this.selfTests++;
          return this.status.runtime;
        },
        blobs: (limit) => {
          this.limits.push(limit);
          return { total: 0, blobs: [] };
        },
        pull: (...args) => {
          this.pulls.push(args[0]);
          return this.onPull(...args);
        },
        manifest: async ({ image, credentials }) => {
          this.accounts.push(credentials);
          if (this.manifestError !== undefined) throw this.manifestError;
          return {
            digest: DIGEST,
            mediaType: 'application/test+json',
            bytes: Buffer.from(formatImageRef(image)),
            ...(this.staleSince === undefined ? {} : { staleSince: this.staleSince }),
          };
        },
      },
    },
    { host: '127.0.0.1', port: 0, socket: this.socket },
  );

  get base(): string {
    return `http://127.0.0.1:${this.server.address().port}`;
  }

  get(path: string, headers: Record<string, string> = {}): ReturnType<typeof fetch> {
    return fetch(`${this.base}${path}`, { headers });
  }

  /** Over the socket. */
  ask(path: string, init: RequestInit = {}) {
    return fetch(`http://agent${path}`, { ...init, dispatcher: this.admin });
  }

  async stop(): Promise<void> {
    await this.admin.destroy();
    await this.server.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  post(
    body: string,
    headers: Record<string, string> = { 'content-type': 'application/json' },
  ): ReturnType<typeof fetch> {
    return this.ask('/v1/pull', { method: 'POST', body, headers });
  }

  async pull(body: unknown): Promise<PullEvent[]> {
    const response = await this.post(JSON.stringify(body));
    expect(response.headers.get('content-type')).toBe('application/x-ndjson');
    return (await response.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  }
}

let fixture: Fixture;
beforeEach(async () => {
  fixture = new Fixture();
  await fixture.server.start();
});
afterEach(() => fixture.stop());

describe('health', () => {
  it('says what was looked at', async () => {
    const answer = await fixture.get('/healthz');
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({ ok: true, checks: fixture.checks });
  });

  it('is 503 when a part does not answer; readiness has more to it', async () => {
    fixture.ready = [{ name: 'warm', ok: false, detail: 'not yet' }];
    expect((await fixture.get('/healthz')).status).toBe(200);
    expect((await fixture.get('/readyz')).status).toBe(503);
    fixture.checks = [{ name: 'index', ok: false, detail: 'the disk is gone' }];
    const answer = await fixture.get('/healthz');
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ ok: false, checks: [{ detail: 'the disk is gone' }] });
  });
});

describe('metrics', () => {
  const text = async (): Promise<string[]> => (await (await fixture.get('/metrics')).text()).split('\n');

  it('tells counters and states, without those of the process', async () => {
    const lines = await text();
    expect(lines).toEqual(
      expect.arrayContaining([
        'tidepool_wan_bytes_total 1',
        'tidepool_peer_bytes_total 2',
        'tidepool_served_peer_bytes_total 3',
        'tidepool_served_runtime_bytes_total 4',
        'tidepool_store_bytes 5',
        'tidepool_stale_answers_total 12',
        'tidepool_members{state="live"} 1',
        'tidepool_members{state="silent"} 1',
        'tidepool_members{state="set-aside"} 1',
        'tidepool_origin_up{registry="reg.example"} 0',
        'tidepool_agent_info{node="n1",pool="p",version="1.2.3"} 1',
        'tidepool_prefetch_jobs{state="active"} 0',
      ]),
    );
    expect(lines.filter((line) => /^(process|nodejs)_/.test(line))).toEqual([]);
    expect(lines.filter((line) => line.startsWith('tidepool_hub_connected'))).toEqual([]);
  });

  it('reads anew at each scrape, and counts nothing twice', async () => {
    await text();
    const link = { urls: ['mqtt://hub:1'], connected: true, since: 0, lastError: null };
    fixture.status = { ...STATUS, hub: link, registries: [], counters: { ...STATUS.counters, wanBytes: 50 } };
    const lines = await text();
    expect(lines).toContain('tidepool_wan_bytes_total 50');
    expect(lines).toContain('tidepool_hub_connected{urls="mqtt://hub:1"} 1');
    expect(lines.filter((line) => line.startsWith('tidepool_origin_up'))).toEqual([]);
  });
});

describe('status and blobs', () => {
  it('answers JSON', async () => {
    const answer = await fixture.get('/v1/status');
    expect(answer.headers.get('content-type')).toBe('application/json');
    expect(await answer.json()).toEqual(STATUS);
  });

  it('bounds the list', async () => {
    await fixture.get('/v1/blobs');
    await fixture.get('/v1/blobs?limit=7');
    expect(fixture.limits).toEqual([100, 7]);
    for (const limit of ['0', '1001', 'x', '1.5', '-1', '']) {
      expect((await fixture.get(`/v1/blobs?limit=${limit}`)).status).toBe(400);
    }
    expect(fixture.limits).toHaveLength(2);
  });

  it.each(['/', '/v1', '/v1/status/', '/metricsx', '//'])('knows nothing at %s', async (path) => {
    const answer = await fixture.get(path);
    expect(answer.status).toBe(404);
    expect(await answer.json()).toMatchObject({ error: { code: 'NOT_FOUND' } });
  });
});

describe('manifest', () => {
  it('is sent byte for byte, with digest and type', async () => {
    const answer = await fixture.ask('/v1/manifest?image=reg.example%2Fapp%3Av1', {
      headers: { authorization: `Basic ${Buffer.from('user:pass:word').toString('base64')}` },
    });
    expect(await answer.text()).toBe('reg.example/app:v1');
    expect(answer.headers.get('docker-content-digest')).toBe(DIGEST);
    expect(answer.headers.get('content-type')).toBe('application/test+json');
    expect(answer.headers.get('tidepool-stale-since')).toBeNull();
    expect(fixture.accounts).toEqual([{ username: 'user', password: 'pass:word' }]);
  });

  it('says when it comes from a record', async () => {
    fixture.staleSince = 1_000;
    const answer = await fixture.ask('/v1/manifest?image=app');
    expect(answer.headers.get('tidepool-stale-since')).toBe('1970-01-01T00:00:01.000Z');
  });

  it('passes on why there is none', async () => {
    fixture.manifestError = new TidepoolError('MANIFEST_UNKNOWN', 'no such tag', { details: { tag: 'v9' } });
    const answer = await fixture.ask('/v1/manifest?image=app:v9');
    expect(answer.status).toBe(404);
    expect(await answer.json()).toEqual({
      error: { code: 'MANIFEST_UNKNOWN', message: 'no such tag', details: { tag: 'v9' } },
    });
  });

  it('refuses what is no image, and no account', async () => {
    expect((await fixture.ask('/v1/manifest')).status).toBe(400);
    expect((await fixture.ask('/v1/manifest?image=A%20B')).status).toBe(400);
    const headers = { authorization: 'Bearer token' };
    expect((await fixture.ask('/v1/manifest?image=app', { headers })).status).toBe(400);
  });
});

describe('pull', () => {
  it('tells progress, then the end', async () => {
    fixture.onPull = async ({ onProgress }) => {
      onProgress(COUNTS);
      onProgress({ ...COUNTS, doneBytes: 41 });
      return { ...COUNTS, doneBytes: 100, digest: DIGEST, manifests: [], staleSince: 9 };
    };
    const body = { image: 'reg.example/app:v1', platforms: ['linux/arm64'], username: 'u', password: 'p' };
    const events = await fixture.pull(body);
    expect(events).toEqual([
      { type: 'progress', ...COUNTS },
      {
        type: 'done',
        image: 'reg.example/app:v1',
        digest: DIGEST,
        manifests: [],
        staleSince: 9,
        seconds: expect.any(Number),
        ...COUNTS,
        doneBytes: 100,
      },
    ]);
    expect(fixture.pulls[0]).toMatchObject({
      image: { registry: 'reg.example', repository: 'app', tag: 'v1' },
      platforms: ['linux/arm64'],
      credentials: { username: 'u', password: 'p' },
    });
  });

  it('tells a failure in its last line', async () => {
    fixture.onPull = async () => {
      throw new TidepoolError('UNAUTHORIZED', 'the registry wants an account');
    };
    expect(await fixture.pull({ image: 'app' })).toEqual([
      { type: 'error', code: 'UNAUTHORIZED', message: 'the registry wants an account' },
    ]);
  });

  it('ends with the client that asked', async () => {
    const aborted = new Promise<unknown>((resolve) => {
      fixture.onPull = (_, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            resolve(signal.reason);
            reject(signal.reason);
          });
        });
    });
    const client = httpRequest({
      socketPath: fixture.socket,
      path: '/v1/pull',
      method: 'POST',
      headers: { 'content-type': 'application/json' },
    });
    client.on('error', () => undefined);
    client.on('response', () => client.destroy());
    client.end(JSON.stringify({ image: 'app' }));
    expect(await aborted).toMatchObject({ code: 'ABORTED' });
  });

  it.each([
    ['no JSON', '{'],
    ['no image', '{}'],
    ['an unknown field', '{"image":"app","x":1}'],
    ['an image that is none', '{"image":"A B"}'],
    ['a platform that is none', '{"image":"app","platforms":["amd64"]}'],
    ['a list', '[]'],
    ['too much', JSON.stringify({ image: 'a'.repeat(70_000) })],
  ])('refuses %s', async (_, body) => {
    const answer = await fixture.post(body);
    expect(answer.status).toBe(400);
    expect(fixture.pulls).toEqual([]);
  });

  it('refuses what a page in a browser may send unasked', async () => {
    const answer = await fixture.post('{"image":"app"}', { 'content-type': 'text/plain' });
    expect(answer.status).toBe(400);
    expect(fixture.pulls).toEqual([]);
  });

  it('has a bound', async () => {
    const release: (() => void)[] = [];
    fixture.onPull = () =>
      new Promise((resolve) => release.push(() => resolve({ ...COUNTS, digest: DIGEST, manifests: [] })));
    const under = Array.from({ length: 8 }, () => fixture.pull({ image: 'app' }));
    await expect.poll(() => fixture.pulls.length).toBe(8);
    const refused = await fixture.post('{"image":"app"}');
    expect(refused.status).toBe(503);
    await refused.text();
    for (const end of release) end();
    expect((await Promise.all(under)).map((events) => events.at(-1)?.type)).toEqual(Array(8).fill('done'));
    fixture.onPull = async () => ({ ...COUNTS, digest: DIGEST, manifests: [] });
    expect((await fixture.pull({ image: 'app' })).at(-1)?.type).toBe('done');
  });
});

describe('the server', () => {
  it('stops in the middle of a pull, and says so', async () => {
    fixture.onPull = (_, signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    const pulling = fixture.pull({ image: 'app' });
    await expect.poll(() => fixture.pulls.length).toBe(1);
    await fixture.server.stop();
    expect(await pulling).toEqual([{ type: 'error', code: 'ABORTED', message: 'the agent is stopping' }]);
  });

  it('names the flag when its port is taken', async () => {
    const { port } = fixture.server.address();
    const second = new OpsServer(
      { clock: systemClock, log: silentLogger(), sources: new Proxy({} as OpsSources, {}) },
      { host: '127.0.0.1', port },
    );
    await expect(second.start()).rejects.toThrow(/cannot listen on 127\.0\.0\.1:\d+.*EADDRINUSE.*--ops/);
    await second.stop();
  });
});

describe('the socket', () => {
  const pull = {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"image":"app"}',
  };

  it('is open to its owner alone', () => {
    expect(statSync(fixture.socket).mode & 0o777).toBe(0o600);
  });

  it.each([
    ['/v1/pull', pull],
    ['/v1/manifest?image=app', {}],
  ])(
    'alone answers %s: the port, which is open to every user and pod of the node, refuses',
    async (path, init) => {
      const answer = await fetch(`${fixture.base}${path}`, init);
      expect(answer.status).toBe(403);
      expect(await answer.json()).toMatchObject({
        error: { code: 'DENIED', message: expect.stringContaining(fixture.socket) },
      });
      expect([fixture.pulls, fixture.accounts]).toEqual([[], []]);
      expect((await fixture.ask(path, init)).status).toBe(200);
    },
  );

  it('answers health and status too', async () => {
    expect((await fixture.ask('/healthz')).status).toBe(200);
    expect(await (await fixture.ask('/v1/status')).json()).toEqual(STATUS);
  });

  it('takes the place of one that a killed agent left, and of no living one', async () => {
    const other = (): OpsServer =>
      new OpsServer(
        { clock: systemClock, log: silentLogger(), sources: new Proxy({} as OpsSources, {}) },
        { host: '127.0.0.1', port: 0, socket: fixture.socket },
      );
    const second = other();
    await expect(second.start()).rejects.toThrow(/ops\.sock.*EADDRINUSE.*--data/);
    await second.stop();
    expect((await fixture.ask('/healthz')).status).toBe(200);
    await fixture.server.stop();
    writeFileSync(fixture.socket, '');
    const third = other();
    await third.start();
    await third.stop();
  });

  it('says which directory is too deep for it', async () => {
    const deep = new OpsServer(
      { clock: systemClock, log: silentLogger(), sources: new Proxy({} as OpsSources, {}) },
      { host: '127.0.0.1', port: 0, socket: `/${'x'.repeat(120)}/ops.sock` },
    );
    await expect(deep.start()).rejects.toThrow(/over 107 characters.*--data/);
    await deep.stop();
  });
});

describe('limits', () => {
  /** What comes back for raw bytes, until the connection ends. */
  const raw = (text: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(fixture.server.address().port, '127.0.0.1');
      let all = '';
      socket.on('data', (chunk) => {
        all += chunk;
      });
      socket.on('close', () => resolve(all));
      socket.on('error', reject);
      socket.write(text);
    });

  it.each([
    ['no HTTP', 'hello\r\n\r\n'],
    ['headers over 8 KiB', `GET /healthz HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(9_000)}\r\n\r\n`],
  ])('answers %s with 400 and the end', async (_, text) => {
    expect(await raw(text)).toMatch(/^HTTP\/1\.1 400 /);
    expect((await fixture.get('/healthz')).status).toBe(200);
  });
});
