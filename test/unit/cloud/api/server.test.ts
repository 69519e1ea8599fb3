import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ApiError, PrefetchView } from '../../../../shared/wire/api.ts';
import { type HubFixture, startTestHub } from '../../../support/hub-fixture.ts';

let hub: HubFixture;
beforeAll(async () => {
  hub = await startTestHub({
    files: {
      'all.yaml': [
        'apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {apps.openyurt.io/nodepool: alpha}}',
        'apiVersion: tidepool.dev/v1alpha1\nkind: ImagePrefetch\nmetadata: {name: fixed}\nspec: {images: [a.test/b:1]}',
      ].join('\n---\n'),
    },
  });
});
afterAll(() => hub.close());

async function call(
  method: string,
  route: string,
  body?: string,
): Promise<{ status: number; json: unknown }> {
  const answer = await fetch(`${hub.api}${route}`, {
    method,
    ...(body === undefined ? {} : { body, headers: { 'content-type': 'application/json' } }),
  });
  const text = await answer.text();
  return { status: answer.status, json: text === '' ? undefined : JSON.parse(text) };
}
const failure = async (method: string, route: string, body?: string): Promise<string> => {
  const { status, json } = await call(method, route, body);
  const { error } = json as ApiError;
  return `${status} ${error.code} ${error.message}`;
};
const job = (more: object = {}): string =>
  JSON.stringify({ id: 'job', images: [{ image: 'r.test/a:1' }], pools: ['alpha'], ...more });

describe('the API', () => {
  it('shows pools, nodes and prefetches', async () => {
    expect((await call('GET', '/v1/pools')).json).toEqual([
      {
        pool: 'alpha',
        nodes: 1,
        online: 0,
        tuned: 0,
        tuningHash: expect.any(String),
        wanBytes: 0,
        peerBytes: 0,
      },
    ]);
    expect((await call('GET', '/v1/nodes?pool=alpha')).json).toMatchObject([
      { node: 'n1', online: false, lastSeen: null },
    ]);
    expect((await call('GET', '/v1/nodes?pool=other')).json).toEqual([]);
    expect((await call('GET', '/v1/prefetches')).json).toMatchObject([
      { id: 'fixed', desired: 1, offline: 1 },
    ]);
  });

  it('creates a job once, refuses another under its name, and takes it back', async () => {
    expect((await call('POST', '/v1/prefetches', job())).status).toBe(201);
    expect((await call('POST', '/v1/prefetches', job())).status).toBe(200);
    expect(await failure('POST', '/v1/prefetches', job({ pools: ['beta'] }))).toMatch(
      /^409 CONFLICT prefetch job exists/,
    );
    expect((await call('GET', '/v1/prefetches/job')).json).toMatchObject({
      id: 'job',
      nodes: [{ node: 'n1', state: 'waiting' }],
    });
    expect((await call('DELETE', '/v1/prefetches/job')).status).toBe(204);
    expect(await failure('GET', '/v1/prefetches/job')).toMatch(/^404 NOT_FOUND/);
  });

  it('makes an id from the image where none is given', async () => {
    const { json } = await call(
      'POST',
      '/v1/prefetches',
      job({ id: undefined, images: [{ image: 'r.test/Team/x' }] }),
    );
    expect((json as ApiError).error.code).toBe('INVALID_ARGUMENT');
    const made = await call(
      'POST',
      '/v1/prefetches',
      job({ id: undefined, images: [{ image: 'r.test/team/web_app:2.1' }] }),
    );
    expect((made.json as PrefetchView).id).toMatch(/^web-app-2-1-[0-9a-f]{8}$/);
    await call('DELETE', `/v1/prefetches/${(made.json as PrefetchView).id}`);
  });

  it('leaves jobs of documents to the documents', async () => {
    expect(await failure('DELETE', '/v1/prefetches/fixed')).toMatch(
      /^409 CONFLICT prefetch fixed stands in all.yaml:\d+; take it out there/,
    );
    expect(await failure('POST', '/v1/prefetches', job({ id: 'fixed' }))).toMatch(/^409 CONFLICT/);
  });

  it('answers bad requests with a code and words', async () => {
    expect(await failure('POST', '/v1/prefetches', '{')).toMatch(/^400 INVALID_ARGUMENT/);
    expect(await failure('POST', '/v1/prefetches', '{"images":[]}')).toMatch(/^400 INVALID_ARGUMENT images/);
    expect(await failure('POST', '/v1/prefetches', job({ pool: 'alpha' }))).toMatch(
      /^400 INVALID_ARGUMENT .*pool/,
    );
    expect(await failure('POST', '/v1/prefetches', job({ nodes: ['N 1'] }))).toMatch(
      /^400 INVALID_ARGUMENT .*not a node name/,
    );
    expect(await failure('POST', '/v1/prefetches', job({ id: 'x'.repeat(300_000) }))).toMatch(
      /^413 INVALID_ARGUMENT/,
    );
    expect(await failure('GET', '/v2/')).toMatch(/^404 NOT_FOUND/);
    expect(await failure('DELETE', '/v1/prefetches/%2e%2e%2fx')).toMatch(/^404 NOT_FOUND/);
  });

  it('is healthy, ready, and measured', async () => {
    expect((await call('GET', '/healthz')).status).toBe(200);
    expect((await call('GET', '/readyz')).status).toBe(200);
    const metrics = await (await fetch(`${hub.api}/metrics`)).text();
    expect(metrics).toMatch(/^tidepool_hub_nodes{state="offline"} 1$/m);
    expect(metrics).toMatch(/^tidepool_hub_prefetch_nodes{state="offline"} 1$/m);
    expect(metrics).toMatch(/^tidepool_hub_broker_connected 1$/m);
  });
});
