/** Rows of the threat table, against a real hub: what somebody tries, and that it does not work. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCli } from '../../cloud/cli/program.ts';
import { issueNode } from '../../cloud/trust/issue.ts';
import { makeRequest } from '../../edge/identity/request.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { readCertificate, readRoots } from '../../shared/trust/certificate.ts';
import type { AuthorityView } from '../../shared/wire/api.ts';
import { connectAs } from '../support/broker-policy.ts';
import { CliCapture } from '../support/cli-capture.ts';
import { eventually } from '../support/hub-fixture.ts';
import { renewAt, type SecureHub, startSecureHub, type TestNode } from '../support/hub-trust.ts';
import { TestAuthority, TestIdentity } from '../support/trust.ts';

let hub: SecureHub;
let directory: string;
const closing: (() => unknown)[] = [];
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'trust-threats-'));
  hub = await startSecureHub();
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await hub.close();
  await rm(directory, { recursive: true, force: true });
});

/** As typed on the hub's machine. */
async function cli(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await runCli([...args, '--data', hub.fixture.data], '9.9.9', {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (err += text) },
    signal: new AbortController().signal,
  });
  return { code, out, err };
}

const at = (...args: string[]): ReturnType<typeof cli> => cli(...args, '--hub', hub.url);

/** As lists show it. */
function idOf(token: string): string {
  return token.split('.')[1] ?? '';
}

async function join(node: string, pool = 'shop-1'): Promise<TestNode> {
  const { code, out, err } = await at('token', 'create', '--pool', pool);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return await hub.enrol(node, { token: out.trim() });
}

function identityOf(node: TestNode): TestIdentity {
  return new TestIdentity({ key: node.key, cert: node.issued.certificate, ca: node.issued.roots });
}

/** A connection to the broker, as whoever has this certificate; rejects when it is not let in. */
async function meet(node: TestNode, name: string): Promise<{ readonly gone: Promise<void> }> {
  const port = Number(hub.fixture.hub.mqtt.split(':').at(-1));
  const client = await connectAs(identityOf(node), port, { clientId: name });
  closing.push(() => client.end(true));
  return { gone: new Promise((resolve) => client.once('close', () => resolve())) };
}

/** A connection to the API, or to a neighbour, that is kept open. */
async function knock(
  node: TestNode,
  address = hub.fixture.hub.api,
): Promise<{ readonly gone: Promise<void> }> {
  const [host, port] = address.split(':');
  const socket: TLSSocket = connect({
    host: host ?? '',
    port: Number(port),
    key: node.key,
    cert: node.issued.certificate,
    rejectUnauthorized: false,
  });
  closing.push(() => socket.destroy());
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => socket.once('secureConnect', () => resolve()));
  const answered = new Promise<void>((resolve) => socket.once('data', () => resolve()));
  socket.write('GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n');
  await answered;
  return { gone: new Promise((resolve) => socket.once('close', () => resolve())) };
}

describe('a join token', () => {
  it('that was stolen after its use lets nobody in, and neither does one that is over', async () => {
    const token = (await at('token', 'create', '--pool', 'shop-1')).out.trim();
    await hub.enrol('n1', { token });
    await expect(hub.enrol('thief', { token })).rejects.toMatchObject({ code: 'TOKEN_REFUSED' });
    const short = (await at('token', 'create', '--pool', 'shop-1', '--ttl', '1s')).out.trim();
    await eventually(
      async () => (await at('token', 'list')).out,
      (text) => text.split('\n').some((line) => line.startsWith(idOf(short)) && line.includes('(over)')),
    );
    await expect(hub.enrol('n2', { token: short })).rejects.toMatchObject({ code: 'TOKEN_REFUSED' });
    expect((await at('nodes', 'revoke', 'n2')).err).toMatch(/no node "n2" is enrolled/);
  });

  it('does not take the name of a node that is there, unless that is said', async () => {
    const first = await join('n1');
    await expect(join('n1')).rejects.toMatchObject({ code: 'CONFLICT' });
    await meet(first, 'n1');
    const token = (await at('token', 'create', '--pool', 'shop-1')).out.trim();
    const second = await hub.enrol('n1', { token, replace: true });
    await meet(second, 'n1');
    await expect(meet(first, 'n1')).rejects.toThrow();
  });

  it('is not for who may only look', async () => {
    const made = await at('api-token', 'create', '--name', 'looker', '--role', 'view');
    const denied = await at('token', 'create', '--pool', 'shop-1', '--token', made.out.trim());
    expect(denied).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringMatching(/looker has the role view/),
    });
    const read = await at('nodes', '--token', made.out.trim());
    expect(read.code).toBe(0);
  });
});

describe('a node', () => {
  it('that is relabelled stays in its pool until somebody moves it, whose name is written down', async () => {
    const node = await join('n1');
    const label = 'labels: { apps.openyurt.io/nodepool: shop-2 }';
    await hub.fixture.write(
      'nodes.yaml',
      `apiVersion: v1
kind: Node
metadata: { name: n1, ${label} }
---
apiVersion: v1
kind: Node
metadata: { name: marker, ${label} }
`,
    );
    await eventually(
      () => hub.admin.nodes(),
      (found) => found.some(({ node: name }) => name === 'marker'),
    );
    const poolOf = async (name: string): Promise<unknown> =>
      (await hub.admin.nodes()).find((each) => each.node === name)?.pool;
    expect(await poolOf('n1')).toBe('shop-1');
    expect(readCertificate((await renewAt(hub.url, node)).issued.certificate).subject).toMatchObject({
      pool: 'shop-1',
    });
    const moved = await at('nodes', 'move', 'n1', '--pool', 'shop-2');
    expect(moved).toMatchObject({ code: 0, err: '' });
    await eventually(
      () => poolOf('n1'),
      (pool) => pool === 'shop-2',
    );
    const { issued } = await renewAt(hub.url, node);
    expect(readCertificate(issued.certificate).subject).toMatchObject({ pool: 'shop-2' });
    const audit = await at('audit', '--since', '1h');
    expect(audit.out).toMatch(
      /token:local-admin +127\.0\.0\.1 +POST \S+move +\/v1\/nodes\/n1\/move pool=shop-2 node=n1 +done/,
    );
  });

  it('that is revoked loses its connections to API and broker, and gets no other certificate', async () => {
    const node = await join('n1');
    const [api, broker] = [await knock(node), await meet(node, 'n1')];
    const other = await join('n2');
    const staying = await meet(other, 'n2');
    expect((await at('nodes', 'revoke', 'n1')).out).toMatch(/node n1: 1 key is revoked/);
    await Promise.all([api.gone, broker.gone]);
    await expect(meet(node, 'n1')).rejects.toThrow();
    await expect(renewAt(hub.url, node)).rejects.toMatchObject({ code: 'CERTIFICATE_REFUSED' });
    expect(await Promise.race([staying.gone, Promise.resolve('stays')])).toBe('stays');
    // What its pool is told.
    expect((await renewAt(hub.url, other)).issued.revoked).toContain(
      readCertificate(node.issued.certificate).keyId,
    );
  });

  it('that is revoked is no neighbour any more, for those who were connected with it', async () => {
    const network = `127.${10 + (process.pid % 200)}.${1 + Math.floor(Math.random() * 250)}`;
    const start = async (n: number): Promise<CliCapture> => {
      const agent = new CliCapture();
      const address = `${network}.${n}`;
      const ended = agent.run(
        'run',
        `--node=n${n}`,
        `--address=${address}`,
        `--data=${path.join(directory, `n${n}`)}`,
        `--mirror=${address}:0`,
        '--peer-port=16183',
        `--ops=${address}:0`,
        '--cri=none',
        `--hub=mqtts://${hub.fixture.hub.mqtt}`,
        `--enroll-url=${hub.url}`,
        `--join=${(await at('token', 'create', '--pool', 'shop-1')).out.trim()}`,
      );
      closing.push(() => {
        agent.stop();
        return ended;
      });
      return agent;
    };
    const agent = await start(1);
    await agent.shows('"agent is up"');
    const [stolen, other] = [await join('n2'), await join('n3')];
    const neighbour = await knock(stolen, `${network}.1:16183`);
    const staying = await knock(other, `${network}.1:16183`);
    expect((await at('nodes', 'revoke', 'n2')).code).toBe(0);
    await neighbour.gone;
    expect(await Promise.race([staying.gone, Promise.resolve('stays')])).toBe('stays');
  }, 60_000);

  it.each([
    ['within the grace gets another', 10, true],
    ['beyond the grace gets none', 40, false],
  ])('whose certificate has ended and is %s', async (_name, daysAgo, good) => {
    const node = await join('n1');
    const DAY_MS = 86_400_000;
    const [root] = readRoots(node.issued.roots);
    if (root === undefined) throw new Error('no root');
    const pair = {
      cert: root.pem,
      key: await readFile(path.join(hub.fixture.data, 'trust', 'ca.key'), 'utf8'),
    };
    // As the hub itself would have made it for the same key long ago.
    const named = { node: parseNodeName('n1'), pool: parsePoolName('shop-1') };
    const certificate = await issueNode(pair, node.request, named, {
      now: Date.now() - (daysAgo + 90) * DAY_MS,
      lifetimeMs: 90 * DAY_MS,
    });
    const old = { ...node, issued: { ...node.issued, certificate } };
    await expect(meet(old, 'n1')).rejects.toThrow();
    if (good) await meet(await renewAt(hub.url, old), 'n1');
    else await expect(renewAt(hub.url, old)).rejects.toMatchObject({ code: 'CERTIFICATE_REFUSED' });
  });
});

describe('an authority', () => {
  it('is replaced: nodes renew under the new root, and what the old one signed is worth nothing after', async () => {
    const before = await join('n1');
    const [old] = (await hub.admin.call<AuthorityView>('GET', '/v1/ca')).roots;
    if (old === undefined) throw new Error('no root');
    expect((await at('ca', 'rotate')).code).toBe(0);
    await meet(before, 'n1');
    expect(await at('ca', 'drop', old.id)).toMatchObject({ code: 1, err: expect.stringMatching(/--force/) });
    const after = await renewAt(hub.url, before);
    await meet(after, 'n1');
    await eventually(
      () => at('ca', 'drop', old.id),
      ({ code }) => code === 0,
    );
    await expect(meet(before, 'n1')).rejects.toThrow();
    await expect(renewAt(hub.url, before)).rejects.toMatchObject({ code: 'CERTIFICATE_REFUSED' });
    await meet(after, 'n1');
  });

  it('of somebody else is taken from its files, and another of the same name counts nothing', async () => {
    const site = await TestAuthority.make('site');
    const forged = await TestAuthority.make('site');
    const caCert = path.join(directory, 'tls.crt');
    const caKey = path.join(directory, 'tls.key');
    await writeFile(caCert, site.root.cert);
    await writeFile(caKey, site.root.key);
    await hub.close();
    hub = await startSecureHub({ trust: { caCert, caKey } });
    const node = await join('n1');
    expect(readRoots(node.issued.roots).map(({ keyId }) => keyId)).toEqual([site.keyId]);
    await meet(node, 'n1');
    const { key, request } = await makeRequest('n1');
    const named = { node: parseNodeName('n1'), pool: parsePoolName('shop-1') };
    const certificate = await issueNode(forged.root, request, named, {
      now: Date.now(),
      lifetimeMs: 86_400_000,
    });
    const liar = { key, request, issued: { ...node.issued, certificate } };
    await expect(meet(liar, 'n1')).rejects.toThrow();
    await expect(renewAt(hub.url, liar)).rejects.toMatchObject({ code: 'CERTIFICATE_REFUSED' });
  });
});

describe('a hub that is lost', () => {
  it('comes back from its backup: those let in before still are, and who was revoked is not', async () => {
    const [good, stolen] = [await join('n1'), await join('n2')];
    await meet(good, 'n1');
    await at('nodes', 'revoke', 'n2');
    const looker = (await at('api-token', 'create', '--name', 'looker', '--role', 'view')).out.trim();
    const unused = (await at('token', 'create', '--pool', 'shop-1')).out.trim();
    const file = path.join(directory, 'backup.json');
    const saved = await cli('backup', '-o', file);
    expect(saved).toMatchObject({ code: 0, out: expect.stringMatching(/the authority's key, and the book/) });
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await hub.close();

    const data = path.join(directory, 'restored');
    const part = path.join(directory, 'part.json');
    await writeFile(part, (await readFile(file, 'utf8')).slice(0, -100));
    const refused = await runRestore(part, data);
    expect(refused).toMatchObject({ code: 2, err: expect.stringMatching(/not all of it is there/) });
    expect(await runRestore(file, data)).toMatchObject({ code: 0, err: '' });
    expect((await stat(path.join(data, 'trust', 'ca.key'))).mode & 0o777).toBe(0o600);
    hub = await startSecureHub({ data });
    await meet(good, 'n1');
    await meet(await renewAt(hub.url, good), 'n1');
    await expect(meet(stolen, 'n2')).rejects.toThrow();
    await expect(renewAt(hub.url, stolen)).rejects.toMatchObject({ code: 'CERTIFICATE_REFUSED' });
    // People's tokens, and what lets nodes in.
    expect((await at('nodes', '--token', looker)).code).toBe(0);
    await meet(await hub.enrol('n3', { token: unused }), 'n3');
  });
});

async function runRestore(file: string, data: string): Promise<{ code: number; err: string }> {
  let err = '';
  const code = await runCli(['restore', file, '--data', data], '9.9.9', {
    stdout: { write: () => true },
    stderr: { write: (text) => (err += text) },
    signal: new AbortController().signal,
  });
  return { code, err };
}
