import { stat } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeRequest } from '../../edge/identity/request.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { readCertificate, readRoots } from '../../shared/trust/certificate.ts';
import { parseJoinToken } from '../../shared/trust/join-token.ts';
import { judge } from '../../shared/trust/judge.ts';
import type { AuthorityView, JoinTokenView, NodeRevokedView, NodeView } from '../../shared/wire/api.ts';
import { eventually } from '../support/hub-fixture.ts';
import { enrolAt, renewAt, type SecureHub, startSecureHub, type TestNode } from '../support/hub-trust.ts';
import { DAY_MS } from '../support/trust.ts';

const refusedAs = (code: string) => expect.objectContaining({ code });

function principalOf({ issued }: TestNode) {
  const roots = readRoots(issued.roots);
  return judge(issued.certificate, {
    roots,
    revoked: new Set(issued.revoked),
    now: Date.now(),
    graceMs: 0,
  });
}

describe('a hub and the nodes that it lets in', () => {
  let hub: SecureHub;
  beforeAll(async () => {
    hub = await startSecureHub();
  });
  afterAll(() => hub.close());

  it('keeps its authority and its book from everybody else', async () => {
    const modeOf = async (...names: string[]): Promise<number> =>
      (await stat(path.join(hub.fixture.data, 'trust', ...names))).mode & 0o777;
    expect(await modeOf()).toBe(0o700);
    expect(await modeOf('ca.key')).toBe(0o600);
    await hub.token('p');
    expect(await modeOf('book.json')).toBe(0o600);
  });

  it('gives a node that has a token a certificate of the token’s pool, for 90 days', async () => {
    const token = await hub.token('store-1');
    const node = await hub.enrol('n1', { token });
    expect(node.issued.pool).toBe('store-1');
    const principal = principalOf(node);
    expect(principal).toMatchObject({ kind: 'node', node: 'n1', pool: 'store-1', lapsed: false });
    const left = principal.notAfter - Date.now();
    expect(left).toBeGreaterThan(89.9 * DAY_MS);
    expect(left).toBeLessThanOrEqual(90 * DAY_MS);
    const [root] = readRoots(node.issued.roots);
    expect(parseJoinToken(token).authority).toBe(root?.keyId);
  });

  it('counts an enrolled node as a member of its pool, with no document of it', async () => {
    await hub.enrol('member-1', { token: await hub.token('store-2') });
    const nodes = await eventually(
      () => hub.admin.nodes('store-2'),
      (found: readonly NodeView[]) => found.length > 0,
    );
    expect(nodes).toMatchObject([{ node: 'member-1', pool: 'store-2' }]);
  });

  it('takes a token once, and as often as its uses say', async () => {
    const once = await hub.token('p');
    await hub.enrol('once-1', { token: once });
    await expect(hub.enrol('once-2', { token: once })).rejects.toEqual(refusedAs('TOKEN_REFUSED'));
    const twice = await hub.token('p', { uses: 2 });
    await hub.enrol('twice-1', { token: twice });
    await hub.enrol('twice-2', { token: twice });
    await expect(hub.enrol('twice-3', { token: twice })).rejects.toEqual(refusedAs('TOKEN_REFUSED'));
    const { id } = parseJoinToken(twice);
    const list = await hub.admin.call<readonly JoinTokenView[]>('GET', '/v1/tokens');
    expect(list.find((each) => each.id === id)).toMatchObject({ uses: 2, used: 2, over: true, pool: 'p' });
    expect(JSON.stringify(list)).not.toContain(parseJoinToken(twice).secret);
  });

  it('takes a node that has lost the answer again, with the same key and the same token', async () => {
    const token = await hub.token('p');
    const key = await makeRequest('lost');
    const first = await hub.enrol('lost', { token, key });
    const again = await hub.enrol('lost', { token, key });
    expect(readCertificate(again.issued.certificate).keyId).toBe(
      readCertificate(first.issued.certificate).keyId,
    );
    await expect(hub.enrol('lost', { token, replace: true })).rejects.toEqual(refusedAs('TOKEN_REFUSED'));
    await expect(hub.enrol('lost-2', { token, key })).rejects.toEqual(refusedAs('TOKEN_REFUSED'));
  });

  it('answers the same for a wrong, an unknown, a deleted and an ended token', async () => {
    const good = await hub.token('p');
    const deleted = await hub.token('p');
    await hub.admin.call('DELETE', `/v1/tokens/${parseJoinToken(deleted).id}`);
    const ended = await hub.token('p', { ttlMs: 1 });
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { secret } = parseJoinToken(good);
    const wrong = good.replace(secret, `${secret.slice(0, -1)}${secret.endsWith('A') ? 'B' : 'A'}`);
    const messages = new Set<string>();
    for (const token of [wrong, deleted, ended, `${good}x`, 'nonsense']) {
      const error = await hub.enrol('nobody', { token }).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error).toEqual(refusedAs('TOKEN_REFUSED'));
      messages.add(error instanceof Error ? error.message : '');
    }
    expect(messages.size).toBe(1);
  });

  it('refuses names that no node has, and requests that prove no key', async () => {
    const token = await hub.token('p');
    const { request } = await makeRequest('x');
    for (const node of ['a/b', 'a+', '#', '..', 'A', '']) {
      await expect(enrolAt(hub.url, { node, request, token })).rejects.toEqual(refusedAs('INVALID_ARGUMENT'));
    }
    const broken = request.replace(/[A-Za-z]{4}(?=[A-Za-z0-9+/=\n]*-----END)/, 'AAAA');
    await expect(enrolAt(hub.url, { node: 'x', request: broken, token })).rejects.toEqual(
      refusedAs('INVALID_ARGUMENT'),
    );
    await hub.enrol('x', { token });
  });

  it('gives an existing name another key only with --replace and a token, and ends the keys before', async () => {
    const first = await hub.enrol('again', { token: await hub.token('p') });
    const token = await hub.token('p');
    await expect(hub.enrol('again', { token })).rejects.toEqual(refusedAs('CONFLICT'));
    await expect(hub.enrol('again', { replace: true })).rejects.toEqual(refusedAs('INVALID_ARGUMENT'));
    await expect(hub.enrol('again', { token: await hub.token('q'), replace: true })).rejects.toEqual(
      refusedAs('CONFLICT'),
    );
    const second = await hub.enrol('again', { token, replace: true });
    expect(second.issued.revoked).toContain(readCertificate(first.issued.certificate).keyId);
    expect(second.issued.trustVersion).toBeGreaterThan(first.issued.trustVersion);
    await expect(renewAt(hub.url, first)).rejects.toEqual(refusedAs('CERTIFICATE_REFUSED'));
    await renewAt(hub.url, second);
  });

  it('renews with a new key; the old one may still ask until the new one has been used', async () => {
    const first = await hub.enrol('renewing', { token: await hub.token('p') });
    await expect(renewAt(hub.url, first, first)).rejects.toEqual(refusedAs('INVALID_ARGUMENT'));
    await renewAt(hub.url, first);
    const third = await renewAt(hub.url, first);
    expect(principalOf(third)).toMatchObject({ node: 'renewing', pool: 'p' });
    await renewAt(hub.url, third);
    await expect(renewAt(hub.url, first)).rejects.toEqual(refusedAs('CERTIFICATE_REFUSED'));
  });

  it('revokes a node for good, over restarts too', async () => {
    const node = await hub.enrol('stolen', { token: await hub.token('p') });
    const view = await hub.admin.call<NodeRevokedView>('POST', '/v1/nodes/stolen/revoke');
    expect(view).toMatchObject({ node: 'stolen', keys: 1 });
    await expect(renewAt(hub.url, node)).rejects.toEqual(refusedAs('CERTIFICATE_REFUSED'));
    await hub.fixture.restart();
    await expect(renewAt(hub.url, node)).rejects.toEqual(refusedAs('CERTIFICATE_REFUSED'));
    const token = await hub.token('p');
    const { issued } = await hub.enrol('other', { token });
    expect(issued.revoked).toContain(readCertificate(node.issued.certificate).keyId);
    await expect(
      hub.enrol('stolen', { token: await hub.token('p'), replace: true, key: node }),
    ).rejects.toEqual(refusedAs('CERTIFICATE_REFUSED'));
  });

  it('moves a node by its next certificate; the old key is over then, and may ask for a lost answer', async () => {
    const before = await hub.enrol('moving', { token: await hub.token('from') });
    await hub.admin.call('POST', '/v1/nodes/moving/move', { pool: 'to' });
    const first = await renewAt(hub.url, before);
    expect(principalOf(first)).toMatchObject({ node: 'moving', pool: 'to' });
    expect(first.issued.revoked).toContain(readCertificate(before.issued.certificate).keyId);
    const second = await renewAt(hub.url, before);
    await renewAt(hub.url, second);
    await expect(renewAt(hub.url, before)).rejects.toEqual(refusedAs('CERTIFICATE_REFUSED'));
    const nodes = await hub.admin.nodes('to');
    expect(nodes).toMatchObject([{ node: parseNodeName('moving'), pool: parsePoolName('to') }]);
  });

  it('forgets a node with its certificates, and its name is free again', async () => {
    const before = await hub.enrol('gone', { token: await hub.token('p') });
    await hub.admin.forgetNode('gone');
    await expect(renewAt(hub.url, before)).rejects.toEqual(refusedAs('CERTIFICATE_REFUSED'));
    await hub.enrol('gone', { token: await hub.token('q') });
  });
});

describe('a rotation of the authority', () => {
  it('lets both roots count until the old one is dropped, and loses no node that renews meanwhile', async () => {
    const hub = await startSecureHub();
    try {
      const token = await hub.token('p', { uses: 2 });
      const old = await hub.enrol('old', { token });
      const [first] = readRoots(old.issued.roots);
      const rotated = await hub.admin.call<AuthorityView>('POST', '/v1/ca/rotate');
      expect(
        rotated.roots.map(({ id, issues, ofHub }) => ({ known: id === first?.keyId, issues, ofHub })),
      ).toEqual([
        { known: false, issues: true, ofHub: false },
        { known: true, issues: false, ofHub: true },
      ]);
      // The token of before the rotation still finds its hub, which shows the old root.
      const young = await hub.enrol('young', { token });
      expect(readRoots(young.issued.roots)).toHaveLength(2);
      expect(young.issued.trustVersion).toBeGreaterThan(old.issued.trustVersion);
      const drop = (): Promise<null> => hub.admin.call('DELETE', `/v1/ca/roots/${first?.keyId}`);
      await expect(drop()).rejects.toEqual(refusedAs('CONFLICT'));
      const renewed = await renewAt(hub.url, old);
      await renewAt(hub.url, renewed);
      await drop();
      await hub.fixture.restart();
      expect(readRoots((await renewAt(hub.url, young)).issued.roots)).toHaveLength(1);
      await expect(renewAt(hub.url, old)).rejects.toEqual(refusedAs('CERTIFICATE_REFUSED'));
    } finally {
      await hub.close();
    }
  });
});
