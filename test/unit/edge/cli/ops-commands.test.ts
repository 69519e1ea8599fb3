import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AgentStatus } from '../../../../edge/ops/api.ts';
import { CliCapture, cli } from '../../../support/cli-capture.ts';
import { FakeOps, jsonAnswer } from '../../../support/fake-ops.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let server: FakeOps;
let ops: string;
let data: string;

beforeEach(async () => {
  server = new FakeOps();
  await server.start();
  ops = `--ops=${server.address}`;
  data = `--data=${server.data}`;
});
afterEach(() => server.stop());

const DIGEST = `sha256:${'ab'.repeat(32)}`;
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
    server.answer = (response) => void response.writeHead(200, headers).end(bytes);
    const io = new CliCapture();
    const { code } = await io.run('get-manifest', 'reg.example:5000/a/b:1', '--raw', '--user=me:pw', data);
    expect(code).toBe(0);
    expect(io.stdout.equals(bytes)).toBe(true);
    expect(server.asked).toEqual([
      {
        route: 'GET /v1/manifest?image=reg.example%3A5000%2Fa%2Fb%3A1',
        authorization: `Basic ${Buffer.from('me:pw').toString('base64')}`,
        body: '',
      },
    ]);
  });

  it('is a table for people, and JSON for scripts', async () => {
    server.answer = (response) =>
      void response
        .writeHead(200, { ...headers, 'tidepool-stale-since': '2026-01-02T00:00:00.000Z' })
        .end(bytes);
    const { stdout } = await cli(['get-manifest', 'busybox', data]);
    expect(stdout).toContain('image   docker.io/library/busybox:latest\n');
    expect(stdout).toMatch(/as of {3}2026-01-02T00:00:00.000Z: the registry could not be asked/);
    expect(stdout).toMatch(new RegExp(`config  ${DIGEST}  1\\.5 kB`));
    expect(stdout).toMatch(new RegExp(`layer   ${DIGEST}  2\\.0 MB`));
    const asJson = await cli(['get-manifest', 'busybox', '--json', data]);
    expect(JSON.parse(asJson.stdout)).toEqual({
      image: 'docker.io/library/busybox:latest',
      digest: DIGEST,
      mediaType: manifest.mediaType,
      staleSince: '2026-01-02T00:00:00.000Z',
      manifest,
    });
  });

  it('ends with 1 and the reason', async () => {
    server.answer = jsonAnswer(404, {
      error: { code: 'MANIFEST_UNKNOWN', message: 'docker.io has no such tag' },
    });
    expect(await cli(['get-manifest', 'busybox:none', data])).toEqual({
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
    hub: {
      urls: ['mqtt://hub:6183'],
      connected: false,
      since: 1_000_000,
      lastError: 'ECONNREFUSED',
      state: { kind: 'offline', since: 1_060_000, why: 'ECONNREFUSED', retryAt: 1_102_000, attempts: 2 },
    },
    breakers: [
      {
        ...{ registry: 'docker.io', origin: 'https://registry-1.docker.io', since: 1_030_000 },
        ...{ why: 'connect timed out', probeAt: 1_095_000 },
      },
      { registry: 'x.io', origin: 'https://cdn.x.io', since: 1_089_000, why: 'ECONNRESET', probeAt: null },
    ],
    events: { waiting: 3, lost: 1, noted: { 'tag-stale': 4 } },
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
    server.answer = jsonAnswer(200, status);
    const { code, stdout } = await cli(['status', '--json', ops]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual(status);
  });

  it('tells people what they look for first', async () => {
    server.answer = jsonAnswer(200, status);
    const clock = new ManualClock();
    clock.advance(1_090_000);
    const { code, stdout } = await cli(['status', ops], { clock });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^node +n1, pool site, 10\.0\.0\.7$/m);
    expect(stdout).toMatch(/^agent +0\.1\.0, linux\/amd64, up 1m 30s$/m);
    expect(stdout).toMatch(/^hub +offline for 30s \(mqtt:\/\/hub:6183\): ECONNREFUSED; next try in 12s$/m);
    expect(stdout).toMatch(/^to tell the hub +3 events; there was no room for 1 more$/m);
    expect(stdout).toMatch(/^docker.io +https.+no answer for 1m.*: connect timed out +next try in 5s$/m);
    expect(stdout).toMatch(/^x.io +https:\/\/cdn.x.io +no answer for 1s.*: ECONNRESET +trying now$/m);
    expect(stdout).toMatch(/^stored +5\.5 MB in 3 blobs$/m);
    expect(stdout).toMatch(/^over the WAN +1\.5 MB$/m);
    expect(stdout).not.toContain('ghcr.io');
    expect(stdout).toContain('neighbours: 2 of 3 live');
    expect(stdout).toMatch(/n3 +10\.0\.0\.9:6181 +set aside +flag/);
    expect(stdout).toMatch(/n4 +10\.0\.0\.10:6181 +silent +hub/);
  });

  it('finds the agent by its settings file', async () => {
    server.answer = jsonAnswer(200, status);
    const files = { '/etc/tp.yaml': `ops: ${ops.replace('--ops=', '')}\n` };
    expect((await cli(['status', '--config', '/etc/tp.yaml'], { files })).code).toBe(0);
    const environment = { TIDEPOOL_CONFIG: '/etc/tp.yaml' };
    expect((await cli(['status'], { files, environment })).code).toBe(0);
  });

  it('ends with 1 where no agent is', async () => {
    await server.stop();
    const { code, stderr } = await cli(['status', ops]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: no agent answers at http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED/);
  });
});
