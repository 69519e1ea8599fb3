import { beforeAll, describe, expect, it } from 'vitest';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { nodeUri, readCertificate, readRoot, readRoots } from '../../../../shared/trust/certificate.ts';
import { judge } from '../../../../shared/trust/judge.ts';
import type { KeyId, TrustView } from '../../../../shared/trust/types.ts';
import { DAY_MS, TestAuthority } from '../../../support/trust.ts';

const NOW = Date.parse('2026-06-01T00:00:00Z');

describe('judge', () => {
  let authority: TestAuthority;
  let forged: TestAuthority;
  const view = (changes: Partial<TrustView> = {}): TrustView => ({
    roots: readRoots(authority.root.cert),
    revoked: new Set(),
    now: NOW,
    graceMs: 0,
    ...changes,
  });
  const certOf = async (of: TestAuthority, issuedAt = NOW, lifetimeMs = 90 * DAY_MS): Promise<string> =>
    (await of.node('node-1', 'shop', { issuedAt, lifetimeMs })).current().cert;

  beforeAll(async () => {
    authority = await TestAuthority.make('tidepool', NOW - DAY_MS);
    forged = await TestAuthority.make('tidepool', NOW - DAY_MS);
  });

  it('says which node of which pool it is', async () => {
    const cert = await certOf(authority);
    expect(judge(cert, view())).toMatchObject({ kind: 'node', node: 'node-1', pool: 'shop', lapsed: false });
    expect(readCertificate(cert).certificate.subjectAltName).toBe(
      `URI:${nodeUri(parsePoolName('shop'), parseNodeName('node-1'))}`,
    );
  });

  it('says the hub', async () => {
    const { cert } = (await authority.hub({ issuedAt: NOW })).current();
    expect(judge(cert, view())).toMatchObject({ kind: 'hub', lapsed: false });
  });

  it('refuses an authority of the same name, expired or not', async () => {
    await expect(async () => judge(await certOf(forged), view())).rejects.toThrow(/no authority/);
    const old = await certOf(forged, NOW - 100 * DAY_MS);
    expect(() => judge(old, view({ graceMs: 30 * DAY_MS }))).toThrow(/no authority/);
  });

  it('knows two roots while one replaces the other', async () => {
    const roots = [...readRoots(forged.root.cert), ...readRoots(authority.root.cert)];
    expect(judge(await certOf(authority), view({ roots })).kind).toBe('node');
    expect(judge(await certOf(forged), view({ roots })).kind).toBe('node');
  });

  it('refuses a revoked key', async () => {
    const cert = await certOf(authority);
    const revoked = new Set<KeyId>([readCertificate(cert).keyId]);
    expect(() => judge(cert, view({ revoked }))).toThrow(/revoked/);
  });

  it('takes a lapsed one inside the grace only, and says so', async () => {
    const cert = await certOf(authority, NOW - 100 * DAY_MS, 90 * DAY_MS);
    expect(() => judge(cert, view())).toThrow(/ended/);
    expect(judge(cert, view({ graceMs: 11 * DAY_MS })).lapsed).toBe(true);
    expect(() => judge(cert, view({ graceMs: 9 * DAY_MS }))).toThrow(/grace is over/);
  });

  it('takes one that begins ahead of a clock that is behind', async () => {
    expect(judge(await certOf(authority), view({ now: NOW - 400 * DAY_MS })).kind).toBe('node');
  });

  it('refuses a root, a stranger to the naming, and what is no certificate', async () => {
    expect(() => judge(authority.root.cert, view())).toThrow(/URI name/);
    expect(() => judge('rubbish', view())).toThrow(/cannot be read/);
    expect(() => judge(Buffer.alloc(10_000), view())).toThrow(/larger than/);
    expect(() => judge(Buffer.alloc(0), view())).toThrow(/cannot be read/);
  });

  it('reads roots alone as roots', async () => {
    const cert = await certOf(authority);
    expect(() => readRoot(cert)).toThrow(/authority/);
    expect(() => readRoots('nothing')).toThrow(/no PEM/);
    expect(readRoots(authority.root.cert + forged.root.cert)).toHaveLength(2);
  });
});
