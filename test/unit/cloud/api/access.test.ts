import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { connect } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { listedAccess, ROUTES } from '../../../../cloud/api/route-access.ts';
import type { TrustParts } from '../../../../cloud/api/trust-routes.ts';
import { callerName } from '../../../../cloud/trust/access.ts';
import { HandedCredentials } from '../../../../cloud/trust/handed-credentials.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { clientTls } from '../../../../shared/trust/tls.ts';
import type { ApiError } from '../../../../shared/wire/api.ts';
import { type ApiFixture, startApi } from '../../../support/api-fixture.ts';
import { eventually } from '../../../support/hub-fixture.ts';

let open: ApiFixture | undefined;
afterEach(async () => {
  await open?.close();
  open = undefined;
});
const start = async (init: Parameters<typeof startApi>[0] = {}): Promise<ApiFixture> => {
  open = await startApi(init);
  return open;
};
const codeOf = ({ json }: { json: unknown }): string => (json as ApiError).error.code;

describe('the table of routes', () => {
  it('names every route that there is', async () => {
    // Everything that a hub may have, so that every route is there; none of it is asked here.
    const trust = {} as unknown as TrustParts;
    const handed = new HandedCredentials({ clock: systemClock }, { file: '/dev/null/none' });
    const { api } = await start({ components: { trust, handed } });
    expect(api.routes).toContain('POST /v1/nodes/:node/revoke');
    expect(api.routes).toContain('POST /v1/node/credentials');
    const unlisted = api.routes.filter((route) => {
      const [method = '', url = ''] = route.split(' ');
      return listedAccess(method, url) === undefined;
    });
    expect(unlisted).toEqual([]);
    expect(Object.keys(ROUTES).filter((route) => !api.routes.includes(route))).toEqual([]);
  });

  it('lets nobody change anything without the audit log', () => {
    const silent = ['POST /v1/prefetch-plans', 'POST /v1/tuning-checks'];
    const changing = Object.keys(ROUTES).filter((route) => !route.startsWith('GET '));
    expect(changing.filter((route) => ROUTES[route]?.audit === undefined)).toEqual(silent);
  });
});

describe('the API over TLS', () => {
  it('answers nobody but for its health, and says what is missing', async () => {
    const f = await start();
    expect((await f.ask('GET', '/healthz')).status).toBe(200);
    expect((await f.ask('GET', '/readyz')).status).toBe(200);
    for (const route of ['GET /v1/pools', 'GET /metrics', 'DELETE /v1/prefetches/x', 'GET /v1/audit']) {
      const [method = '', url = ''] = route.split(' ');
      const answer = await f.ask(method, url);
      expect([answer.status, codeOf(answer)]).toEqual([401, 'UNAUTHORIZED']);
      expect(answer.headers['www-authenticate']).toMatch(/^Bearer/);
    }
    expect(f.removed).toEqual([]);
  });

  it('does not speak plainly, nor TLS of before 1.3', async () => {
    const { api } = await start();
    await expect(fetch(`http://${api.address}/healthz`)).rejects.toThrow();
    const [host = '', port = ''] = api.address.split(':');
    const error = await new Promise<Error>((resolve, reject) => {
      const socket = connect({ host, port: Number(port), maxVersion: 'TLSv1.2', rejectUnauthorized: false });
      socket.on('error', resolve);
      socket.on('secureConnect', () => reject(new Error('it shook hands')));
    });
    expect(String(error)).toMatch(/version|protocol/i);
  });

  it('gives each role what it may, and no more', async () => {
    const f = await start();
    const [view, operate, admin] = [await f.token('view'), await f.token('operate'), await f.token('admin')];
    const status = async (route: string): Promise<number[]> => {
      const [method = '', url = ''] = route.split(' ');
      const body = method === 'POST' ? {} : undefined;
      const answers = [];
      for (const token of [view, operate, admin])
        answers.push((await f.ask(method, url, { token, body })).status);
      return answers;
    };
    expect(await status('GET /v1/pools')).toEqual([200, 200, 200]);
    expect(await status('GET /metrics')).toEqual([200, 200, 200]);
    expect(await status('DELETE /v1/prefetches/x')).toEqual([403, 204, 204]);
    expect(await status('POST /v1/prefetches')).toEqual([403, 400, 400]);
    expect(await status('POST /v1/tuning-checks')).toEqual([403, 400, 400]);
    expect(await status('DELETE /v1/nodes/n1')).toEqual([403, 403, 404]);
    expect(await status('GET /v1/api-tokens')).toEqual([403, 403, 200]);
    expect(await status('POST /v1/api-tokens')).toEqual([403, 403, 400]);
    expect(await status('GET /v1/audit')).toEqual([403, 403, 200]);
    expect(await status('GET /nowhere')).toEqual([404, 404, 404]);
  });

  it('takes no token that is another’s, over or taken back', async () => {
    const f = await start();
    const token = await f.token('admin');
    const [version, id, secret = ''] = token.split('.');
    for (const bad of [
      `${version}.${id}.${secret.slice(0, -1)}${secret.endsWith('A') ? 'B' : 'A'}`,
      `${version}.${'a'.repeat(12)}.${secret}`,
      'x',
    ]) {
      expect((await f.ask('GET', '/v1/pools', { token: bad })).status).toBe(401);
    }
    const brief = await f.tokens.create({ name: 'brief', role: 'view', ttlMs: 1 });
    await eventually(
      async () => (await f.ask('GET', '/v1/pools', { token: brief.token })).status,
      (s) => s === 401,
    );
    expect((await f.ask('DELETE', '/v1/api-tokens/t1', { token })).status).toBe(204);
    expect((await f.ask('GET', '/v1/pools', { token })).status).toBe(401);
  });

  it('opens no route of people to a node', async () => {
    const f = await start();
    const node = await f.authority.node('n1', 'alpha');
    expect((await f.ask('GET', '/v1/pools', { as: node })).status).toBe(403);
  });

  it('opens metrics to all where the settings say so', async () => {
    const f = await start({ openMetrics: true });
    expect((await f.ask('GET', '/metrics')).status).toBe(200);
    expect((await f.ask('GET', '/v1/pools')).status).toBe(401);
  });

  it('ends the connection of a node that is revoked, and leaves others alone', async () => {
    const f = await start();
    const [bad, good] = [await f.authority.node('n1', 'alpha'), await f.authority.node('n2', 'alpha')];
    const [host = '', port = ''] = f.api.address.split(':');
    const dial = (as: typeof bad) =>
      new Promise<ReturnType<typeof connect>>((resolve, reject) => {
        const socket = connect({ host, port: Number(port), ...clientTls(as) });
        socket.on('error', reject);
        // An answer shows that the certificate has been judged.
        socket.once('data', () => resolve(socket));
        socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n');
      });
    const [stolen, fine] = [await dial(bad), await dial(good)];
    const closed = new Promise<void>((resolve) => stolen.once('close', () => resolve()));
    f.hub.revoke(bad.keyId);
    await closed;
    expect(fine.destroyed).toBe(false);
    fine.destroy();
  });

  it('shows its new certificate to whoever comes after the change', async () => {
    const f = await start();
    const [host = '', port = ''] = f.api.address.split(':');
    const serial = () =>
      new Promise<string>((resolve, reject) => {
        const socket = connect({ host, port: Number(port), rejectUnauthorized: false }, () => {
          resolve(socket.getPeerX509Certificate()?.serialNumber ?? '');
          socket.destroy();
        });
        socket.on('error', reject);
      });
    const before = await serial();
    const next = await f.authority.hub();
    f.hub.replace(next.current());
    expect(await serial()).not.toBe(before);
  });

  it('slows down whoever tries tokens, not who has one', async () => {
    const f = await start();
    const token = await f.token('view');
    const statuses: number[] = [];
    for (let i = 0; i < 25; i++) statuses.push((await f.ask('GET', '/v1/pools', { token: `x${i}` })).status);
    expect(statuses.slice(0, 20)).toEqual(Array<number>(20).fill(401));
    expect(statuses.at(-1)).toBe(429);
    const refused = await f.ask('GET', '/v1/pools', { token: 'x' });
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect((await f.ask('GET', '/v1/pools', { token })).status).toBe(200);
  });

  it('gives each node its share, and takes none from others', async () => {
    const f = await start({
      components: { handed: new HandedCredentials({ clock: systemClock }, { file: '/dev/null/none' }) },
    });
    const [busy, quiet] = [await f.authority.node('n1', 'alpha'), await f.authority.node('n2', 'alpha')];
    const status = async (as: typeof busy) =>
      (await f.ask('POST', '/v1/node/credentials', { as, body: {} })).status;
    const statuses: number[] = [];
    for (let i = 0; i < 80 && statuses.at(-1) !== 429; i++) statuses.push(await status(busy));
    expect(statuses.length).toBeGreaterThan(60);
    expect(statuses.at(-1)).toBe(429);
    expect(await status(quiet)).toBe(400);
  });

  it('reads no body of somebody who may not, and no large header of anybody', async () => {
    const f = await start();
    const body = JSON.stringify({ id: 'x'.repeat(300_000) });
    expect((await f.ask('POST', '/v1/prefetches', { body })).status).toBe(401);
    expect((await f.ask('POST', '/v1/prefetches', { body, token: await f.token('operate') })).status).toBe(
      413,
    );
    expect((await f.ask('GET', '/healthz', { headers: { x: 'y'.repeat(20_000) } })).status).toBe(431);
  });

  it('asks the cluster about tokens that are not its own, and about those alone', async () => {
    const asked: string[] = [];
    const f = await start({
      components: {
        outside: {
          identify: async (token, role) => {
            asked.push(`${token} ${role}`);
            return token === 'sa'
              ? { name: 'system:serviceaccount:a:b', allowed: role !== 'admin' }
              : undefined;
          },
        },
      },
    });
    const status = async (method: string, url: string, token: string) =>
      (await f.ask(method, url, { token })).status;
    expect(await status('GET', '/v1/pools', 'sa')).toBe(200);
    expect(await status('DELETE', '/v1/prefetches/x', 'sa')).toBe(204);
    expect(await status('GET', '/v1/audit', 'sa')).toBe(403);
    expect(await status('GET', '/v1/pools', 'nobody')).toBe(401);
    expect(asked).toEqual(['sa view', 'sa operate', 'sa admin', 'nobody view']);
    expect(await status('GET', '/v1/pools', await f.token('view'))).toBe(200);
    expect(await status('GET', '/v1/pools', 'tpa1.aaaaaaaaaaaa.b')).toBe(401);
    expect(asked).toHaveLength(4);
    expect((await f.audit.read()).map(({ who }) => who)).toEqual(['kubernetes:system:serviceaccount:a:b']);
  });
});

describe('the first start', () => {
  it('leaves an admin token that only the owner may read, and the hub keeps no secret', async () => {
    const f = await start();
    const file = path.join(f.data, 'admin-token');
    const token = (await readFile(file, 'utf8')).trim();
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await f.ask('GET', '/v1/audit', { token })).status).toBe(200);
    const kept = await readFile(path.join(f.data, 'api-tokens.json'), 'utf8');
    expect(kept).not.toContain(token.split('.')[2]);
    expect((await stat(path.join(f.data, 'api-tokens.json'))).mode & 0o777).toBe(0o600);
  });
});

it('names callers so that none is taken for another', () => {
  expect(callerName({ kind: 'token', name: 'a', role: 'view' })).toBe('token:a');
  expect(callerName({ kind: 'kubernetes', name: 'a', role: 'view' })).toBe('kubernetes:a');
});
