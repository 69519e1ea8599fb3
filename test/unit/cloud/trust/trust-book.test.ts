import { X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Authority } from '../../../../cloud/trust/authority.ts';
import type { AuthorityContent } from '../../../../cloud/trust/types.ts';
import { makeRequest } from '../../../../edge/identity/request.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { readCertificate, readRoots } from '../../../../shared/trust/certificate.ts';
import { parseJoinToken } from '../../../../shared/trust/join-token.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { MemoryVault } from '../../../support/memory-vault.ts';
import { DAY_MS } from '../../../support/trust.ts';
import { startDesk } from '../../../support/trust-desk.ts';

const P = parsePoolName('p');
const Q = parsePoolName('q');
const node = parseNodeName;

describe('what pools are told', () => {
  it('never falls in version, names each revoked key, the pool’s own first, and survives a restart', async () => {
    const desk = await startDesk();
    const { book, clock, enrolment } = desk;
    const keys = new Map<string, string>();
    for (const [name, pool] of [
      ['a', P],
      ['b', Q],
    ] as const) {
      const { token } = await book.createToken({ pool, uses: 1, ttlMs: DAY_MS });
      const { request } = await makeRequest(name);
      const { certificate } = await enrolment.enrol({ node: node(name), request, token });
      keys.set(name, readCertificate(certificate).keyId);
    }
    let told = 0;
    book.onChange(() => told++);
    const before = book.trustOf(P).version;
    await book.revoke(node('a'));
    clock.advance(1);
    await book.revoke(node('b'));
    expect(told).toBe(2);
    const after = book.trustOf(P);
    expect(after.version).toBeGreaterThan(before);
    expect(after.revoked).toEqual([keys.get('a'), keys.get('b')]);
    expect(book.trustOf(Q).revoked).toEqual([keys.get('b'), keys.get('a')]);
    const { authorityVault, bookVault } = desk;
    const again = await startDesk({ clock, authorityVault, bookVault });
    expect(again.book.trustOf(P)).toEqual(after);
  });

  it('begins at the time in seconds where everything was lost, so that agents go on listening', async () => {
    const clock = new ManualClock();
    clock.advance(1_000_000_000);
    const { book } = await startDesk({ clock });
    expect(book.trustOf(P).version).toBeGreaterThanOrEqual(1_000_000);
  });

  it('changes with the roots', async () => {
    const desk = await startDesk();
    const { version } = desk.book.trustOf(P);
    await desk.authority.rotate();
    expect(desk.book.trustOf(P).roots).toHaveLength(2);
    expect(desk.book.trustOf(P).version).toBeGreaterThan(version);
  });
});

describe('the book of two hubs', () => {
  it('is never overwritten by the one that did not read it: nothing revoked comes back', async () => {
    const first = await startDesk();
    const { clock, authorityVault, bookVault } = first;
    const { token } = await first.book.createToken({ pool: P, uses: 2, ttlMs: DAY_MS });
    const second = await startDesk({ clock, authorityVault, bookVault });
    const a = await makeRequest('a');
    const { certificate } = await first.enrolment.enrol({ node: node('a'), request: a.request, token });
    await first.book.revoke(node('a'));
    const b = await makeRequest('b');
    const enrol = () => second.enrolment.enrol({ node: node('b'), request: b.request, token });
    await expect(enrol()).rejects.toMatchObject({ code: 'HUB_UNREACHABLE' });
    expect(() => second.identity.judge(new X509Certificate(certificate).raw)).toThrow(/revoked/);
    await enrol();
  });
});

describe('an authority', () => {
  const start = async (
    vault: MemoryVault<AuthorityContent>,
    clock = new ManualClock(),
  ): Promise<Authority> => {
    const authority = new Authority({ clock, log: silentLogger(), vault });
    await authority.start();
    return authority;
  };

  it('is one, however many hubs start at once', async () => {
    const vault = new MemoryVault<AuthorityContent>();
    const clock = new ManualClock();
    const hubs = await Promise.all(Array.from({ length: 4 }, () => start(vault, clock)));
    expect(new Set(hubs.map(({ issuer }) => issuer.keyId)).size).toBe(1);
  });

  it('is not replaced by another when it cannot be read', async () => {
    const vault = new MemoryVault<AuthorityContent>();
    await start(vault);
    const { version } = (await vault.read()) ?? { version: '' };
    await vault.write({ roots: vault.content?.roots ?? '', keys: 'nonsense' }, version);
    await expect(start(vault)).rejects.toMatchObject({ code: 'STORE_CORRUPT' });
  });

  it('keeps both roots while one replaces the other, and the hub shows the one that everybody knows', async () => {
    const desk = await startDesk();
    const first = desk.authority.issuer.keyId;
    const second = (await desk.authority.rotate()).keyId;
    await desk.identity.settled();
    expect(desk.authority.issuer.keyId).toBe(second);
    expect(readRoots(desk.identity.current().ca).map(({ keyId }) => keyId)).toEqual([second, first]);
    expect(rootShown(desk.identity.current().cert)).toBe(first);
    const { token } = await desk.book.createToken({ pool: P, uses: 1, ttlMs: DAY_MS });
    expect(parseJoinToken(token).authority).toBe(first);
    await desk.authority.drop(first);
    await desk.identity.settled();
    expect(rootShown(desk.identity.current().cert)).toBe(second);
    await expect(desk.authority.drop(second)).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('renews the hub’s own certificate when two thirds of its life are over', async () => {
    const desk = await startDesk();
    const before = desk.identity.current().cert;
    desk.clock.advance(59 * DAY_MS);
    await desk.identity.settled();
    expect(desk.identity.current().cert).toBe(before);
    let told = 0;
    desk.identity.onChange(() => told++);
    desk.clock.advance(2 * DAY_MS);
    await desk.identity.settled();
    expect(desk.identity.current().cert).not.toBe(before);
    expect(told).toBe(1);
    expect(desk.identity.judge(new X509Certificate(desk.identity.current().cert).raw).kind).toBe('hub');
  });
});

describe('join tokens', () => {
  it('are kept as hashes, and read back by their parts whatever their secret is', async () => {
    const desk = await startDesk();
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 100_000 }), async (uses) => {
        const { token, entry } = await desk.book.createToken({ pool: P, uses, ttlMs: 1_000 });
        const { id, secret } = parseJoinToken(token);
        expect(id).toBe(entry.id);
        expect(desk.bookVault.content).toContain(entry.hash);
        expect(desk.bookVault.content).not.toContain(secret);
        await desk.book.deleteToken(id);
      }),
      { seed: 7, numRuns: 50 },
    );
  });
});

function rootShown(chain: string): string {
  const [, root = ''] = chain.split(/(?<=-----END CERTIFICATE-----)\s*/);
  return readRoots(root)[0]?.keyId ?? '';
}
