import { beforeAll, describe, expect, it } from 'vitest';
import { readCertificate, readRoots } from '../../../../shared/trust/certificate.ts';
import { judge } from '../../../../shared/trust/judge.ts';
import { KnownCertificates } from '../../../../shared/trust/known-certificates.ts';
import type { KeyId, TrustView } from '../../../../shared/trust/types.ts';
import { DAY_MS, TestAuthority } from '../../../support/trust.ts';

const NOW = Date.parse('2026-06-01T00:00:00Z');

describe('KnownCertificates', () => {
  let ours: TestAuthority;
  let theirs: TestAuthority;
  const view = (changes: Partial<TrustView> = {}): TrustView => ({
    roots: readRoots(ours.root.cert),
    revoked: new Set(),
    now: NOW,
    graceMs: 0,
    ...changes,
  });
  const certOf = async (node: string, of = ours): Promise<Buffer> =>
    readCertificate((await of.node(node, 'shop', { issuedAt: NOW, lifetimeMs: DAY_MS })).current().cert)
      .certificate.raw;

  beforeAll(async () => {
    ours = await TestAuthority.make('tidepool', NOW - DAY_MS);
    theirs = await TestAuthority.make('tidepool', NOW - DAY_MS);
  });

  it('reads a certificate that is shown again no second time', async () => {
    const known = new KnownCertificates();
    const cert = await certOf('node-1');
    judge(cert, view(), known);
    const { read } = known.verify(Buffer.from(cert), view().roots);
    expect(known.read(cert)).toBe(read);
    expect(known.size).toBe(1);
    expect(judge(cert, view(), known)).toEqual(judge(cert, view()));
  });

  it('changes no verdict: what is known is refused when it is revoked, has ended, or its root is gone', async () => {
    const known = new KnownCertificates();
    const cert = await certOf('node-1');
    const { keyId } = judge(cert, view(), known);
    const refusals = [
      [view({ revoked: new Set<KeyId>([keyId]) }), /revoked/],
      [view({ now: NOW + 2 * DAY_MS }), /it ended/],
      [view({ roots: readRoots(theirs.root.cert) }), /no authority/],
    ] as const;
    for (const [changed, why] of refusals) {
      expect(judge(cert, view(), known)).toMatchObject({ node: 'node-1' });
      expect(() => judge(cert, changed, known)).toThrow(why);
    }
  });

  it('keeps nothing of a stranger', async () => {
    const known = new KnownCertificates();
    const strange = await certOf('node-1', theirs);
    expect(() => judge(strange, view(), known)).toThrow(/no authority/);
    const damaged = Buffer.from(await certOf('node-2'));
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 1) ^ 1, damaged.length - 1);
    expect(() => judge(damaged, view(), known)).toThrow(/no authority/);
    expect(known.size).toBe(0);
  });

  it('forgets the one that was shown longest ago', async () => {
    const known = new KnownCertificates({ max: 2 });
    const certs = await Promise.all(['node-1', 'node-2', 'node-3'].map((node) => certOf(node)));
    const [first, second, third] = certs.map((cert) => () => judge(cert, view(), known));
    first?.();
    const { read } = known.verify(certs[0] ?? '', view().roots);
    second?.();
    first?.();
    third?.();
    expect(known.size).toBe(2);
    expect(known.read(certs[0] ?? '')).toBe(read);
  });
});
