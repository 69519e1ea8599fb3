import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AgentStatus } from '../../../../edge/ops/api.ts';
import { CliCapture, cli } from '../../../support/cli-capture.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

interface Asked {
  readonly route: string;
  readonly authorization: string | undefined;
  readonly body: string;
}
type Answer = (response: ServerResponse) => void | Promise<void>;

let server: Server;
let ops: string;
let asked: Asked[];
let answer: Answer;

beforeEach(async () => {
  asked = [];
  server = createServer(async (request: IncomingMessage, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    asked.push({
      route: `${request.method} ${request.url}`,
      authorization: request.headers.authorization,
      body,
    });
    await answer(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  ops = `--ops=127.0.0.1:${address.port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

const json =
  (status: number, value: unknown): Answer =>
  (response) =>
    void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));

const DIGEST = `sha256:${'ab'.repeat(32)}`;
const COUNTS = {
  totalBytes: 200_000_000,
  wanBytes: 26_000_000,
  peerBytes: 78_000_000,
  blobs: 4,
  blobsDone: 2,
};
const progress = (doneBytes: number) => ({ type: 'progress', ...COUNTS, doneBytes });
const DONE = {
  type: 'done',
  image: 'docker.io/library/busybox:latest',
  digest: DIGEST,
  manifests: [DIGEST],
  seconds: 75,
  ...COUNTS,
  doneBytes: 200_000_000,
};
const ERROR = {
  type: 'error',
  code: 'ORIGIN_UNREACHABLE',
  message: 'docker.io has not answered since 10:00',
};
const events =
  (...list: unknown[]): Answer =>
  (response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.end(list.map((event) => `${JSON.stringify(event)}\n`).join(''));
  };

describe('pull', () => {
  it('asks for what was said, and tells the end', async () => {
    answer = events(progress(0), DONE);
    const args = ['--platform', 'linux/arm64', '--platform=linux/amd64', '--user', 'me:a:b'];
    const { code, stdout } = await cli(['pull', 'busybox', ops, ...args]);
    expect(code).toBe(0);
    expect(stdout).toBe(
      `docker.io/library/busybox:latest\n${DIGEST}\n200.0 MB in 1m 15s: 26.0 MB over the WAN, 78.0 MB from neighbours\n`,
    );
    expect(asked[0]?.route).toBe('POST /v1/pull');
    expect(JSON.parse(asked[0]?.body ?? '')).toEqual({
      image: 'busybox',
      platforms: ['linux/arm64', 'linux/amd64'],
      username: 'me',
      password: 'a:b',
    });
  });

  it('draws one bar on a terminal, no wider than that, and wipes it', async () => {
    answer = events(progress(0), progress(104_000_000), DONE);
    const { stdout, stderr } = await cli(['pull', 'busybox', ops], { columns: 60 });
    const drawn = stderr.split('\r').slice(1);
    expect(drawn).toHaveLength(3);
    expect(drawn[1]).toBe('[############------------]  52 %  104.0 MB of 200.0 MB, WAN\x1b[K');
    expect(drawn[2]).toBe('\x1b[K');
    expect(stderr).not.toContain('\n');
    expect(stdout).toContain(DIGEST);
  });

  it('writes a line a second where there is no terminal', async () => {
    const clock = new ManualClock();
    const io = new CliCapture({ clock });
    answer = async (response) => {
      const send = (event: unknown) => response.write(`${JSON.stringify(event)}\n`);
      send(progress(2_000_000));
      await io.shows('2.0 MB of');
      send(progress(3_000_000));
      clock.advance(999);
      send(progress(4_000_000));
      send(ERROR);
      response.end();
    };
    await io.run('pull', 'busybox', ops);
    expect(io.stderr.match(/MB of/g)).toHaveLength(1);

    const later = new CliCapture({ clock });
    answer = async (response) => {
      const send = (event: unknown) => response.write(`${JSON.stringify(event)}\n`);
      send(progress(2_000_000));
      await later.shows('2.0 MB of');
      clock.advance(1_000);
      send(progress(5_000_000));
      send(DONE);
      response.end();
    };
    await later.run('pull', 'busybox', ops);
    expect(later.stderr.match(/MB of/g)).toHaveLength(2);
    expect(later.stderr).toContain('5.0 MB of 200.0 MB');
  });

  it('says since when a tag is known that could not be asked for', async () => {
    answer = events({ ...DONE, staleSince: Date.UTC(2026, 0, 2) });
    expect((await cli(['pull', 'busybox', ops])).stdout).toContain('as of 2026-01-02T00:00:00.000Z');
  });

  it('passes every step on as JSON, and nothing else', async () => {
    answer = events(progress(0), ERROR);
    const { code, stdout, stderr } = await cli(['pull', 'busybox', '--json', ops]);
    expect(code).toBe(1);
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual([progress(0), ERROR]);
    expect(stderr).toBe('');
  });

  it('puts lines together that arrive in pieces', async () => {
    const text = `${JSON.stringify({ ...DONE, image: 'reg.example/ü:1' })}\n`;
    const bytes = Buffer.from(text);
    const inside = bytes.indexOf('ü') + 1;
    answer = async (response) => {
      response.write(bytes.subarray(0, inside));
      await new Promise((resolve) => setImmediate(resolve));
      response.end(bytes.subarray(inside));
    };
    expect((await cli(['pull', 'busybox', ops])).stdout).toContain('reg.example/ü:1');
  });

  it.each([
    [
      'the pull fails',
      events(progress(0), ERROR),
      'error: docker.io has not answered since 10:00 (ORIGIN_UNREACHABLE)\n',
    ],
    ['the agent ends the answer early', events(progress(0)), 'the agent went away before the end'],
    [
      'the connection breaks',
      (response: ServerResponse) => {
        response.write(`${JSON.stringify(progress(0))}\n`, () => response.destroy());
      },
      'the agent went away',
    ],
    [
      'there are too many',
      json(503, { error: { code: 'OVERLOADED', message: '8 pulls are under way' } }),
      '8 pulls are under way (OVERLOADED)',
    ],
    [
      'something else answers',
      (response: ServerResponse) => void response.writeHead(404).end('<html>'),
      'the agent answers 404: <html>',
    ],
  ] as [string, Answer, string][])('ends with 1 when %s', async (_, what, message) => {
    answer = what;
    const { code, stdout, stderr } = await cli(['pull', 'busybox', ops]);
    expect(stderr).toContain(message);
    expect(code).toBe(1);
    expect(stdout).toBe('');
  });

  it('ends with 1 when the person wants no more', async () => {
    const io = new CliCapture({ columns: 80 });
    const gone = new Promise<void>((resolve) => {
      answer = (response) => {
        response.once('close', () => resolve());
        response.write(`${JSON.stringify(progress(0))}\n`);
      };
    });
    const ended = io.run('pull', 'busybox', ops);
    await io.shows('0 %');
    io.stop();
    const { code, stderr } = await ended;
    expect(code).toBe(1);
    // The message stands on a line of its own, not behind the bar.
    expect(stderr).toMatch(/\n.*ended by SIGTERM/);
    await gone;
  });
});

describe('get-manifest', () => {
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: DIGEST, size: 1500 },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: DIGEST, size: 2_000_000 }],
  };
  const bytes = Buffer.from(JSON.stringify(manifest, null, 3));
  const headers = { 'content-type': manifest.mediaType, 'docker-content-digest': DIGEST };

  it('gives the bytes as they are with --raw', async () => {
    answer = (response) => void response.writeHead(200, headers).end(bytes);
    const io = new CliCapture();
    const { code } = await io.run('get-manifest', 'reg.example:5000/a/b:1', '--raw', '--user=me:pw', ops);
    expect(code).toBe(0);
    expect(io.stdout.equals(bytes)).toBe(true);
    expect(asked).toEqual([
      {
        route: 'GET /v1/manifest?image=reg.example%3A5000%2Fa%2Fb%3A1',
        authorization: `Basic ${Buffer.from('me:pw').toString('base64')}`,
        body: '',
      },
    ]);
  });

  it('is a table for people, and JSON for scripts', async () => {
    answer = (response) =>
      void response
        .writeHead(200, { ...headers, 'tidepool-stale-since': '2026-01-02T00:00:00.000Z' })
        .end(bytes);
    const { stdout } = await cli(['get-manifest', 'busybox', ops]);
    expect(stdout).toContain('image   docker.io/library/busybox:latest\n');
    expect(stdout).toMatch(/as of {3}2026-01-02T00:00:00.000Z: the registry could not be asked/);
    expect(stdout).toMatch(new RegExp(`config  ${DIGEST}  1\\.5 kB`));
    expect(stdout).toMatch(new RegExp(`layer   ${DIGEST}  2\\.0 MB`));
    const asJson = await cli(['get-manifest', 'busybox', '--json', ops]);
    expect(JSON.parse(asJson.stdout)).toEqual({
      image: 'docker.io/library/busybox:latest',
      digest: DIGEST,
      mediaType: manifest.mediaType,
      staleSince: '2026-01-02T00:00:00.000Z',
      manifest,
    });
  });

  it('ends with 1 and the reason', async () => {
    answer = json(404, { error: { code: 'MANIFEST_UNKNOWN', message: 'docker.io has no such tag' } });
    expect(await cli(['get-manifest', 'busybox:none', ops])).toEqual({
      code: 1,
      stdout: '',
      stderr: 'error: docker.io has no such tag (MANIFEST_UNKNOWN)\n',
    });
  });
});

describe('status', () => {
  const status: AgentStatus = {
    node: 'n1',
    pool: 'site',
    address: '10.0.0.7',
    version: '0.1.0',
    platform: 'linux/amd64',
    bootId: 'b',
    startedAt: 1_000_000,
    mirror: '127.0.0.1:6180',
    peers: '10.0.0.7:6181',
    hub: { urls: ['mqtt://hub:6183'], connected: false, since: 1_000_000, lastError: 'ECONNREFUSED' },
    tuningHash: null,
    members: [
      { node: 'n2', address: '10.0.0.8:6181', live: true, setAside: false, source: 'hub' },
      { node: 'n3', address: '10.0.0.9:6181', live: true, setAside: true, source: 'flag' },
      { node: 'n4', address: '10.0.0.10:6181', live: false, setAside: false, source: 'hub' },
    ],
    registries: [
      { registry: 'docker.io', url: 'https://registry-1.docker.io', downSince: 1_030_000 },
      { registry: 'ghcr.io', url: 'https://ghcr.io', downSince: null },
    ],
    counters: {
      wanBytes: 1_500_000,
      peerBytes: 2_500_000,
      servedPeerBytes: 3_500_000,
      servedRuntimeBytes: 4_500_000,
      storedBytes: 5_500_000,
      blobs: 3,
      originPieces: 0,
      peerPieces: 0,
      hedges: 0,
      corruptPieces: 0,
      digestMismatches: 0,
      staleAnswers: 0,
    },
    transfers: [],
    prefetches: [],
  };

  it('is JSON as the agent has it', async () => {
    answer = json(200, status);
    const { code, stdout } = await cli(['status', '--json', ops]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual(status);
  });

  it('tells people what they look for first', async () => {
    answer = json(200, status);
    const clock = new ManualClock();
    clock.advance(1_090_000);
    const { code, stdout } = await cli(['status', ops], { clock });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^node +n1, pool site, 10\.0\.0\.7$/m);
    expect(stdout).toMatch(/^agent +0\.1\.0, linux\/amd64, up 1m 30s$/m);
    expect(stdout).toMatch(/^hub +not connected for 1m 30s \(mqtt:\/\/hub:6183\): ECONNREFUSED$/m);
    expect(stdout).toMatch(/^stored +5\.5 MB in 3 blobs$/m);
    expect(stdout).toMatch(/^over the WAN +1\.5 MB$/m);
    expect(stdout).toMatch(/registries out of reach\n *docker\.io +no answer for 1m\n/);
    expect(stdout).not.toContain('ghcr.io');
    expect(stdout).toContain('neighbours: 2 of 3 live');
    expect(stdout).toMatch(/n3 +10\.0\.0\.9:6181 +set aside +flag/);
    expect(stdout).toMatch(/n4 +10\.0\.0\.10:6181 +silent +hub/);
  });

  it('finds the agent by its settings file', async () => {
    answer = json(200, status);
    const files = { '/etc/tp.yaml': `ops: ${ops.replace('--ops=', '')}\n` };
    expect((await cli(['status', '--config', '/etc/tp.yaml'], { files })).code).toBe(0);
    const environment = { TIDEPOOL_CONFIG: '/etc/tp.yaml' };
    expect((await cli(['status'], { files, environment })).code).toBe(0);
  });

  it('ends with 1 where no agent is', async () => {
    server.close();
    const { code, stderr } = await cli(['status', ops]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: no agent answers at http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED/);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
});
