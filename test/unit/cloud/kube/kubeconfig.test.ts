import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inClusterAccess } from '../../../../cloud/kube/access.ts';
import { kubeconfigAccess } from '../../../../cloud/kube/kubeconfig.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'tidepool-kubeconfig-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const write = async (name: string, text: string): Promise<string> => {
  const file = path.join(directory, name);
  await writeFile(file, text, { mode: 0o700 });
  return file;
};
const config = (user: unknown, cluster: object = {}, more: object = {}): string =>
  JSON.stringify({
    'current-context': 'here',
    clusters: [{ name: 'c', cluster: { server: 'https://api.test:6443/', ...cluster } }],
    contexts: [{ name: 'here', context: { cluster: 'c', user: 'u' } }],
    users: [{ name: 'u', user }],
    ...more,
  });
const load = async (text: string) =>
  kubeconfigAccess(new ManualClock(), await write('config', text), process.env);

describe('kubeconfigAccess', () => {
  it('reads server, authority and token', async () => {
    const data = Buffer.from('CA').toString('base64');
    const access = await load(
      config({ token: 't' }, { 'certificate-authority-data': data, 'tls-server-name': 'n' }),
    );
    expect(access.server).toBe('https://api.test:6443');
    expect(await access.credentials()).toEqual({
      headers: { authorization: 'Bearer t' },
      tls: { ca: Buffer.from('CA'), servername: 'n' },
    });
  });

  it('finds files beside it, and reads a token file anew', async () => {
    await write('cert', 'CERT');
    await write('key', 'KEY');
    await write('token', 'one\n');
    const clock = new ManualClock();
    const user = { tokenFile: 'token', 'client-certificate': 'cert', 'client-key': 'key' };
    const file = await write('config', config(user, { 'insecure-skip-tls-verify': true }));
    const access = await kubeconfigAccess(clock, file);
    expect(await access.credentials()).toEqual({
      headers: { authorization: 'Bearer one' },
      tls: { cert: Buffer.from('CERT'), key: Buffer.from('KEY'), rejectUnauthorized: false },
    });
    await write('token', 'two');
    clock.advance(60_000);
    expect((await access.credentials()).headers).toEqual({ authorization: 'Bearer two' });
    // What is away for a moment does not log the hub out.
    await rm(path.join(directory, 'token'));
    clock.advance(60_000);
    expect((await access.credentials()).headers).toEqual({ authorization: 'Bearer two' });
  });

  it('logs in by password, on behalf of others, and by a plugin until its token ends', async () => {
    const basic = await load(config({ username: 'a', password: 'b', as: 'x', 'as-groups': ['g'] }));
    expect((await basic.credentials()).headers).toEqual({
      authorization: `Basic ${Buffer.from('a:b').toString('base64')}`,
      'impersonate-user': 'x',
      'impersonate-group': ['g'],
    });
    const ends = new Date(600_000).toISOString();
    await write(
      'plugin',
      `#!/bin/sh\necho run >> "$(dirname "$0")/runs"\nn=$(wc -l < "$(dirname "$0")/runs")\nprintf '{"status":{"token":"%s-%s","expirationTimestamp":"${ends}"}}' "$WHO" "$n"`,
    );
    const clock = new ManualClock();
    const exec = {
      apiVersion: 'client.authentication.k8s.io/v1',
      command: './plugin',
      env: [{ name: 'WHO', value: 'me' }],
    };
    const access = await kubeconfigAccess(clock, await write('config', config({ exec })), process.env);
    const token = async () => (await access.credentials()).headers.authorization;
    expect(await token()).toBe('Bearer me-1');
    clock.advance(300_000);
    expect(await token()).toBe('Bearer me-1');
    clock.advance(300_000);
    expect(await token()).toBe('Bearer me-2');
  });

  it.each([
    ['{', /is no YAML/],
    ['{}', /no current-context; choose one: kubectl config use-context/],
    [config({}, {}, { 'current-context': 'gone' }), /no context "gone"/],
    [config({}, {}, { clusters: [] }), /no cluster "c"/],
    [config({}, { server: 'api.test' }), /mistake at clusters\.0\.cluster\.server: expected https/],
    [config({ token: 7 }), /mistake in user "u" at token/],
    [config({}, { 'proxy-url': 'http://p' }), /proxy-url/],
    [config({ 'auth-provider': { name: 'gcp' } }), /auth-provider "gcp", which is no more/],
    [
      config({ exec: { apiVersion: 'v1', command: 'no-such-plugin' } }),
      /credential plugin no-such-plugin gives none/,
    ],
  ])('refuses %s in words', async (text, message) => {
    const refused = load(text);
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.toMatchObject({ code: 'INVALID_CONFIG' });
  });

  it('says which file is missing', async () => {
    await expect(kubeconfigAccess(new ManualClock(), '/no/such')).rejects.toThrow(
      /\/no\/such cannot be read/,
    );
  });
});

describe('inClusterAccess', () => {
  it('reads the service account, its token anew each minute', async () => {
    await write('token', 'first');
    await write('ca.crt', 'CA');
    const clock = new ManualClock();
    const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '6443' };
    const access = await inClusterAccess(clock, env, directory);
    expect(access.server).toBe('https://[fd00::1]:6443');
    expect(await access.credentials()).toEqual({
      headers: { authorization: 'Bearer first' },
      tls: { ca: 'CA' },
    });
    await write('token', 'second');
    expect((await access.credentials()).headers.authorization).toBe('Bearer first');
    clock.advance(61_000);
    expect((await access.credentials()).headers.authorization).toBe('Bearer second');
  });

  it('outside of a pod it says what to use instead', async () => {
    await expect(inClusterAccess(new ManualClock(), {})).rejects.toThrow(/--kubeconfig FILE/);
    const env = { KUBERNETES_SERVICE_HOST: '10.0.0.1' };
    await expect(inClusterAccess(new ManualClock(), env, '/no/such')).rejects.toThrow(
      /automountServiceAccountToken/,
    );
  });
});
