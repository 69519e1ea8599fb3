import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { HubSettings } from '../../cloud/config/settings.ts';
import { HubLink } from '../../edge/sync/hub-link.ts';
import { systemClock } from '../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import type { ApiError, PrefetchView, RegistryHookAnswer } from '../../shared/wire/api.ts';
import type { PrefetchMessage } from '../../shared/wire/messages/prefetch.ts';
import { eventually, type HubFixture, startTestHub } from '../support/hub-fixture.ts';
import { MemoryDocuments } from '../support/memory-documents.ts';

const SECRET = 'a secret of some length';
const digestOf = (letter: string): string => `sha256:${letter.repeat(64)}`;
const INDEX = 'application/vnd.oci.image.index.v1+json';

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function hub(init: { hooks?: HubSettings['hooks']; files?: Record<string, string> } = {}) {
  const directory = await mkdtemp(path.join(tmpdir(), 'tidepool-hooks-'));
  cleanups.push(() => rm(directory, { recursive: true, force: true }));
  const secretFile = path.join(directory, 'secret');
  await writeFile(secretFile, `${SECRET}\n`);
  const rules = [
    { repository: 'team/*', tags: ['v*'], pools: [parsePoolName('alpha')], registry: 'registry.test:5000' },
  ];
  const fixture = await startTestHub({
    ...(init.files === undefined ? {} : { files: init.files }),
    // No registry answers here, and the digest is known anyway.
    settings: { pinTags: false, hooks: init.hooks ?? { registry: { secretFile, rules } } },
  });
  cleanups.push(() => fixture.close());
  return fixture;
}

async function agent(h: HubFixture, node: string, labels = 'alpha') {
  const seen: { jobs: readonly PrefetchMessage[] } = { jobs: [] };
  const link = new HubLink(
    { documents: new MemoryDocuments(), clock: systemClock, log: silentLogger() },
    {
      urls: [h.mqtt],
      node: parseNodeName(node),
      pool: parsePoolName(labels),
      bootId: randomUUID(),
      address: '127.0.0.1:6181',
      version: '0.1.0',
      platform: 'linux/amd64',
      spreadMs: 0,
      reconnect: { baseMs: 50, maxMs: 400 },
      reportIntervalMs: 20,
    },
  );
  link.onPrefetch((jobs) => {
    seen.jobs = jobs;
  });
  await link.start();
  cleanups.push(() => link.stop());
  return { link, seen };
}

async function send(
  h: HubFixture,
  body: unknown,
  headers: Record<string, string> = { authorization: `Bearer ${SECRET}` },
): Promise<{ status: number; json: RegistryHookAnswer & ApiError }> {
  const answer = await fetch(`${h.api}/v1/hooks/registry`, {
    method: 'POST',
    headers: { 'content-type': 'application/vnd.docker.distribution.events.v2+json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return { status: answer.status, json: (await answer.json()) as RegistryHookAnswer & ApiError };
}

const pushed = (tag: string | undefined, digest: string, mediaType = INDEX, more: object = {}) => ({
  id: randomUUID(),
  timestamp: '2026-01-01T00:00:00Z',
  action: 'push',
  target: { mediaType, digest, size: 1, repository: 'team/web', ...(tag === undefined ? {} : { tag }) },
  request: { host: 'registry.internal', method: 'PUT' },
  ...more,
});

describe('POST /v1/hooks/registry', () => {
  it('takes a push to the pools of the rule, and the next push of the tag takes its place', async () => {
    const h = await hub();
    const a = await agent(h, 'n1');
    await eventually(
      () => h.get<{ online: number }[]>('/v1/pools'),
      ([pool]) => pool?.online === 1,
    );
    const manifest = 'application/vnd.oci.image.manifest.v1+json';
    const first = await send(h, {
      events: [
        pushed(undefined, digestOf('1'), 'application/octet-stream'),
        pushed(undefined, digestOf('2'), manifest),
        pushed('v1', digestOf('3')),
        pushed('latest', digestOf('3')),
        { ...pushed('v1', digestOf('3')), action: 'pull' },
      ],
    });
    expect(first.status).toBe(202);
    const image = 'registry.test:5000/team/web:v1';
    expect(first.json.jobs).toEqual([
      { id: expect.stringMatching(/^push-team-web-v1-[0-9a-f]{10}$/), image, digest: digestOf('3') },
    ]);
    expect(first.json.ignored.map(({ reason }) => reason)).toEqual([
      'not an image manifest or index',
      'pushed without a tag',
      'not a push',
      'no rule of hooks.registry.rules fits it',
    ]);
    const [job] = await eventually(
      () => a.seen.jobs,
      (jobs) => jobs.length === 1,
    );
    expect(job?.images).toEqual([{ image, digest: digestOf('3') }]);

    // Delivered again, it is no other job.
    const again = await send(h, { events: [pushed('v1', digestOf('3'))] });
    expect(again.status).toBe(200);
    expect(again.json.ignored[0]?.reason).toMatch(/^known already, as prefetch push-team-web-v1-/);

    const next = { timestamp: '2026-01-01T00:01:00Z' };
    await send(h, { events: [pushed('v1', digestOf('4'), INDEX, next)] });
    const [second] = await eventually(
      () => a.seen.jobs,
      (jobs) => jobs[0]?.images[0]?.digest === digestOf('4'),
    );
    expect(second?.id).toBe(job?.id);
    expect(second?.generation).toBeGreaterThan(job?.generation ?? 0);
    const late = await send(h, { events: [pushed('v1', digestOf('3'))] });
    expect(late.json.ignored[0]?.reason).toMatch(/^older than what prefetch/);
    expect(await h.get<PrefetchView[]>('/v1/prefetches')).toHaveLength(1);
  });

  it('remembers over a restart what it was told', async () => {
    const h = await hub();
    expect((await send(h, { events: [pushed('v1', digestOf('3'))] })).status).toBe(202);
    // Within the time in which the tag may still change.
    await h.restart();
    const [job] = await eventually(
      () => h.get<PrefetchView[]>('/v1/prefetches'),
      (jobs) => jobs.length === 1,
    );
    expect(job?.images).toEqual([`registry.test:5000/team/web:v1@${digestOf('3')}`]);
    expect((await send(h, { events: [pushed('v1', digestOf('3'))] })).status).toBe(200);
  });

  it('takes what Harbor sends, in both of its formats', async () => {
    const h = await hub();
    const data = (tag: string, digest: string) => ({
      resources: [{ digest, tag, resource_url: `harbor.test/team/app:${tag}` }],
      repository: { name: 'app', namespace: 'team', repo_full_name: 'team/app', repo_type: 'private' },
    });
    const json = { authorization: SECRET, 'content-type': 'application/json' };
    const plain = await send(
      h,
      {
        type: 'PUSH_ARTIFACT',
        occur_at: 1_760_000_000,
        operator: 'x',
        event_data: data('v1', digestOf('5')),
      },
      json,
    );
    expect(plain.json.jobs.map(({ image }) => image)).toEqual(['registry.test:5000/team/app:v1']);
    const cloudEvent = await send(
      h,
      {
        specversion: '1.0',
        type: 'harbor.artifact.pushed',
        time: '2026-01-01T00:00:00Z',
        data: data('v2', digestOf('6')),
      },
      { ...json, 'content-type': 'application/cloudevents+json' },
    );
    expect(cloudEvent.json.jobs.map(({ image }) => image)).toEqual(['registry.test:5000/team/app:v2']);
    const deleted = await send(h, { type: 'DELETE_ARTIFACT', event_data: data('v1', digestOf('5')) }, json);
    expect(deleted).toMatchObject({ status: 200, json: { jobs: [], ignored: [{ reason: 'not a push' }] } });
  });

  it('lets in nobody without the secret, and says why', async () => {
    const h = await hub();
    const event = { events: [pushed('v1', digestOf('3'))] };
    for (const [headers, message] of [
      [{}, /without the secret/],
      [{ authorization: 'Bearer another secret, not that' }, /is not the secret/],
      [{ authorization: '' }, /secret/],
    ] as const) {
      const { status, json } = await send(h, event, headers);
      expect(status).toBe(401);
      expect(json.error.message).toMatch(message);
    }
    const closed = await hub({ hooks: { registry: { rules: [] } } });
    const { status, json } = await send(closed, event);
    expect(status).toBe(403);
    expect(json.error.message).toMatch(/set hooks.registry.secretFile/);
    expect(await h.get<PrefetchView[]>('/v1/prefetches')).toEqual([]);
  });

  it('refuses what is no notification, with words, and other types of bodies on other routes as before', async () => {
    const h = await hub();
    for (const [body, status, message] of [
      ['{', 400, /not JSON/],
      ['{}', 400, /neither a notification of a distribution registry nor one of Harbor/],
      [{ events: 'x' }, 400, /events/],
      [`{"events":[],"x":"${'x'.repeat(1024 * 1024)}"}`, 413, /too large/i],
    ] as const) {
      const answer = await send(h, body);
      expect(answer.status).toBe(status);
      expect(answer.json.error.message).toMatch(message);
    }
    const other = await fetch(`${h.api}/v1/prefetches`, {
      method: 'POST',
      headers: { 'content-type': 'application/cloudevents+json' },
      body: '{}',
    });
    expect(other.status).toBe(415);
    expect(((await other.json()) as ApiError).error.message).toMatch(/unsupported media type/i);
  });
});

describe('workloads that pools follow', () => {
  const tuning = (followWorkloads: boolean): string =>
    `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tidepool-tuning}\ndata:\n  prefetch: |\n    prefetch: [{name: all, pool: alpha, settings: {followWorkloads: ${followWorkloads}}}]\n`;
  const node = (name: string, pool: string): string =>
    `---\napiVersion: v1\nkind: Node\nmetadata: {name: ${name}, labels: {apps.openyurt.io/nodepool: ${pool}}}\n`;
  const deployment = (image: string): string =>
    `apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: web, namespace: shop}\nspec:\n  template:\n    spec:\n      containers: [{name: a, image: "${image}"}]\n`;
  const nodes = node('n1', 'alpha') + node('n2', 'beta');

  it('are fetched ahead: where pools follow, anew for each image, and no more when they are gone', async () => {
    const h = await hub({
      files: { 'nodes.yaml': nodes, 'tuning.yaml': tuning(false), 'web.yaml': deployment('r.test/web:1') },
    });
    const a = await agent(h, 'n1');
    const b = await agent(h, 'n2', 'beta');
    await eventually(
      () => h.get<{ online: number }[]>('/v1/pools'),
      (pools) => pools.length === 2 && pools.every(({ online }) => online === 1),
    );
    expect(await h.get<PrefetchView[]>('/v1/prefetches')).toEqual([]);
    await h.write('tuning.yaml', tuning(true));
    const [first] = await eventually(
      () => a.seen.jobs,
      (jobs) => jobs.length === 1,
    );
    expect(first?.images).toEqual([{ image: 'r.test/web:1' }]);
    await h.write('web.yaml', deployment('r.test/web:2'));
    const [second] = await eventually(
      () => a.seen.jobs,
      (jobs) => jobs.length === 1 && jobs[0]?.images[0]?.image === 'r.test/web:2',
    );
    expect(second?.id).not.toBe(first?.id);
    const refused = await fetch(`${h.api}/v1/prefetches/${second?.id}`, { method: 'DELETE' });
    expect(((await refused.json()) as ApiError).error.message).toMatch(
      /stands in web.yaml:1; take it out there/,
    );
    await h.write('web.yaml', '');
    await eventually(
      () => a.seen.jobs,
      (jobs) => jobs.length === 0,
    );
    expect(b.seen.jobs).toEqual([]);
  });
});
