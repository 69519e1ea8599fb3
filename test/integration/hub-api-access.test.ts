import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../../cloud/cli/program.ts';
import { parseJoinToken } from '../../shared/trust/join-token.ts';
import type { ApiTokenMade, AuditEntryView } from '../../shared/wire/api.ts';
import { type SecureHub, startSecureHub } from '../support/hub-trust.ts';

let hub: SecureHub;
beforeAll(async () => {
  hub = await startSecureHub();
});
afterAll(() => hub.close());

async function cli(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await runCli([...args, '--hub', hub.url, '--data', hub.fixture.data], '0', {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (err += text) },
    signal: new AbortController().signal,
  });
  return { code, out, err };
}

describe('a hub as it is by default', () => {
  it('takes commands on its own machine without a word about trust, before and after a restart', async () => {
    expect(await cli('pools')).toMatchObject({ code: 0, err: '' });
    const { out: token } = await cli('api-token', 'create', '--name', 'ci', '--role', 'view');
    await hub.fixture.restart();
    expect(await cli('pools')).toMatchObject({ code: 0, err: '' });
    expect((await cli('pools', '--token', token.trim())).code).toBe(0);
    expect((await cli('nodes', 'forget', 'n1', '--token', token.trim())).err).toMatch(/ci has the role view/);
  });

  it('tells in its audit log who let whom in and who took it back, without anything secret', async () => {
    const token = await hub.token('store-1');
    const { id, secret } = parseJoinToken(token);
    await hub.enrol('till-1', { token });
    await expect(hub.enrol('till-2', { token })).rejects.toMatchObject({ code: 'TOKEN_REFUSED' });
    expect(await cli('nodes', 'credentials', 'till-1')).toMatchObject({
      code: 0,
      out: 'it was given none\n',
    });
    expect((await cli('nodes', 'revoke', 'till-1')).err).toBe('');
    const entries = await hub.admin.audit();
    const told = entries.map(({ who, action, object, outcome }: AuditEntryView) => ({
      who,
      action,
      object,
      outcome,
    }));
    expect(told).toContainEqual({
      who: 'token:local-admin',
      action: 'POST /v1/tokens',
      object: `/v1/tokens pool=store-1 id=${id} uses=1`,
      outcome: 'done',
    });
    expect(told).toContainEqual({
      who: `join-token:${id}`,
      action: 'POST /v1/enroll',
      object: '/v1/enroll node=till-1 pool=store-1',
      outcome: 'done',
    });
    expect(told).toContainEqual(
      expect.objectContaining({ action: 'POST /v1/nodes/:node/revoke', outcome: 'done' }),
    );
    expect(told.filter(({ object }) => object.includes('till-2'))).toEqual([]);
    const { token: made } = await hub.admin.createApiToken({ name: 'x', role: 'view' });
    const text = JSON.stringify(await hub.admin.audit());
    for (const hidden of [secret, made.split('.')[2] ?? '?']) expect(text).not.toContain(hidden);
    expect((await cli('audit', '--since', '1h')).out).toMatch(
      /join-token:\w+ +127\.0\.0\.1 +POST \/v1\/enroll/,
    );
  });

  it('loses no change of many at once', async () => {
    const names = Array.from({ length: 20 }, (_each, index) => `many-${index}`);
    const made = await Promise.all(names.map((name) => hub.admin.createApiToken({ name, role: 'view' })));
    expect(new Set(made.map(({ token }: ApiTokenMade) => token)).size).toBe(20);
    const text = JSON.stringify(await hub.admin.audit());
    for (const name of names) expect(text).toContain(`name=${name} `);
  });
});
