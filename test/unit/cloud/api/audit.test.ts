import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { AuditEntryView } from '../../../../shared/wire/api.ts';
import { type ApiFixture, startApi } from '../../../support/api-fixture.ts';

let open: ApiFixture | undefined;
afterEach(async () => {
  await open?.close();
  open = undefined;
});

describe('changes by way of the API', () => {
  it('are told with who, what, from where and how it ended, and without secrets', async () => {
    open = await startApi();
    const [admin, view] = [await open.token('admin'), await open.token('view')];
    await open.ask('DELETE', '/v1/prefetches/web', { token: admin });
    await open.ask('DELETE', '/v1/prefetches/other', { token: view });
    await open.ask('GET', '/v1/pools', { token: admin });
    await open.ask('POST', '/v1/prefetch-plans', { token: admin, body: {} });
    const body = { name: 'ci', role: 'operate' };
    const made = await open.ask('POST', '/v1/api-tokens', { token: admin, body });
    await open.ask('POST', '/v1/api-tokens', { token: admin, body });
    const told = (await open.ask('GET', '/v1/audit', { token: admin })).json as AuditEntryView[];
    expect(told.map(({ id: _id, at: _at, ...rest }) => rest)).toEqual([
      {
        who: 'token:t1',
        from: '127.0.0.1',
        action: 'DELETE /v1/prefetches/:id',
        object: '/v1/prefetches/web',
        outcome: 'done',
        status: 204,
      },
      {
        who: 'token:t1',
        from: '127.0.0.1',
        action: 'POST /v1/api-tokens',
        object: '/v1/api-tokens name=ci role=operate',
        outcome: 'done',
        status: 201,
      },
      {
        who: 'token:t1',
        from: '127.0.0.1',
        action: 'POST /v1/api-tokens',
        object: '/v1/api-tokens name=ci role=operate',
        outcome: 'refused',
        status: 409,
      },
    ]);
    const { token } = made.json as { token: string };
    const written = await readFile(path.join(open.data, 'audit.log'), 'utf8');
    for (const secret of [token, admin, view]) expect(written).not.toContain(secret.split('.')[2]);
  });

  it('are not made when they cannot be written down', async () => {
    const directory = await mkdtemp(path.join(tmpdir(), 'tidepool-no-file-'));
    open = await startApi({ auditFile: directory });
    const token = await open.token('admin');
    expect((await open.ask('DELETE', '/v1/prefetches/web', { token })).status).toBe(507);
    expect(open.removed).toEqual([]);
    expect((await open.ask('GET', '/v1/pools', { token })).status).toBe(200);
    await rm(directory, { recursive: true });
  });
});
