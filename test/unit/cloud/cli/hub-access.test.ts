import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createServer as createSecure } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../../../../cloud/cli/program.ts';
import { serverTls } from '../../../../shared/trust/tls.ts';
import { type ApiFixture, startApi } from '../../../support/api-fixture.ts';
import { TestAuthority } from '../../../support/trust.ts';

let f: ApiFixture;
let hub: string;
beforeAll(async () => {
  f = await startApi();
  hub = `https://${f.api.address}`;
  await mkdir(path.join(f.data, 'trust'));
  await writeFile(path.join(f.data, 'trust', 'ca.pem'), f.authority.root.cert);
});
afterAll(() => f.close());

async function cli(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await runCli(args, '9.9.9', {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (err += text) },
    signal: new AbortController().signal,
  });
  return { code, out, err };
}

/** Whether anything of a request arrived. */
async function trap(
  server: ReturnType<typeof createServer>,
): Promise<{ url: string; heard: string[]; close(): void }> {
  const heard: string[] = [];
  server.on('request', (request, response) => {
    heard.push(JSON.stringify(request.headers));
    response.end('[]');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `127.0.0.1:${(server.address() as AddressInfo).port}`, heard, close: () => server.close() };
}

describe('commands on the hub’s machine', () => {
  it('work without a word about trust: token and authority lie in its data', async () => {
    expect(await cli('pools', '--hub', hub, '--data', f.data)).toMatchObject({ code: 0, err: '' });
    const made = await cli(
      'api-token',
      'create',
      '--name',
      'ci',
      '--role',
      'view',
      '--ttl',
      '1h',
      '--hub',
      hub,
      '--data',
      f.data,
    );
    expect(made).toMatchObject({ code: 0, err: '', out: expect.stringMatching(/^tpa1\.\S+\n$/) });
    const token = made.out.trim();
    const list = await cli('api-token', 'list', '--hub', hub, '--data', f.data);
    expect(list.out).toMatch(/^local-admin +admin .*never$/m);
    expect(list.out).toMatch(/^ci +view /m);
    expect(list.out).not.toContain(token.split('.')[2]);
    const audit = await cli('audit', '--since', '1h', '--hub', hub, '--data', f.data);
    expect(audit.out).toMatch(
      /token:local-admin +127\.0\.0\.1 +POST \/v1\/api-tokens +\S+ name=ci role=view +done \(201\)/,
    );
    const denied = await cli('audit', '--hub', hub, '--data', f.data, '--token', token);
    expect(denied).toMatchObject({
      code: 1,
      err: expect.stringMatching(/ci has the role view, and this needs admin/),
    });
    expect((await cli('api-token', 'delete', 'ci', '--hub', hub, '--data', f.data)).code).toBe(0);
    expect((await cli('pools', '--hub', hub, '--data', f.data, '--token', token)).code).toBe(1);
  });
});

describe('commands from elsewhere', () => {
  it('know the hub by its authority’s file or hash, and bring a token by file', async () => {
    const root = await mkdtemp(path.join(tmpdir(), 'tidepool-cli-'));
    const [ca, token] = [path.join(root, 'ca.pem'), path.join(root, 'token')];
    await writeFile(ca, f.authority.root.cert);
    await writeFile(token, `${await f.token('view')}\n`);
    expect((await cli('pools', '--hub', hub, '--ca', ca, '--token-file', token)).code).toBe(0);
    expect(
      (await cli('pools', '--hub', hub, '--ca-hash', f.authority.keyId, '--token-file', token)).code,
    ).toBe(0);
    const none = await cli('pools', '--hub', hub, '--ca', ca, '--data', f.data);
    expect(none).toMatchObject({ code: 1, err: expect.stringMatching(/needs a token/) });
    await rm(root, { recursive: true });
  });

  it('tell nothing to a hub of another authority, nor to a node', async () => {
    const other = await TestAuthority.make('another');
    const imposters = [await other.hub(), await f.authority.node('n1', 'alpha')];
    for (const imposter of imposters) {
      const { url, heard, close } = await trap(createSecure({ ...serverTls(imposter), requestCert: false }));
      for (const how of [
        ['--data', f.data],
        ['--ca-hash', f.authority.keyId, '--token', 'secret'],
      ]) {
        const { code, err } = await cli('pools', '--hub', `https://${url}`, ...how);
        expect(err).toMatch(/is not the hub that it should be/);
        expect(code).toBe(1);
      }
      expect(heard).toEqual([]);
      close();
    }
  });

  it('speak plainly only where that is said', async () => {
    const { url, heard, close } = await trap(createServer());
    const refused = await cli('pools', '--hub', `http://${url}`, '--token', 'secret');
    expect(refused).toMatchObject({ code: 2, err: expect.stringMatching(/plain address[\s\S]*--insecure/) });
    expect(heard).toEqual([]);
    expect((await cli('pools', '--hub', `http://${url}`, '--insecure', '--data', f.data)).code).toBe(0);
    expect(heard.join()).not.toContain('authorization');
    close();
  });

  it('never repeat a token that is none', async () => {
    const { code, err } = await cli('pools', '--hub', hub, '--data', f.data, '--token', 'two words');
    expect(code).toBe(2);
    expect(err).not.toContain('two words');
  });
});
