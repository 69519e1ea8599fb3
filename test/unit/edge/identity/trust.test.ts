import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AgentIdentity } from '../../../../edge/identity/agent-identity.ts';
import { TrustedTime } from '../../../../edge/identity/trusted-time.ts';
import { type Clock, systemClock } from '../../../../shared/clock.ts';
import { isTidepoolError, type TidepoolError } from '../../../../shared/errors.ts';
import { parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { readCertificate } from '../../../../shared/trust/certificate.ts';
import type { KeyId } from '../../../../shared/trust/types.ts';
import { EnrolmentHub } from '../../../support/enrolment-hub.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { DAY_MS, TestAuthority, type TestIdentity } from '../../../support/trust.ts';

const YEAR_MS = 365 * DAY_MS;
const signal = new AbortController().signal;

let authority: TestAuthority;
let successor: TestAuthority;
let hub: EnrolmentHub;
let directory: string;
beforeAll(async () => {
  authority = await TestAuthority.make();
  successor = await TestAuthority.make('successor');
});
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'identity-'));
  hub = new EnrolmentHub(authority);
  await hub.start();
});
afterEach(async () => {
  await hub.stop();
  rmSync(directory, { recursive: true, force: true });
});

function open(clock: Clock = systemClock, onRefused?: (error: TidepoolError) => void): AgentIdentity {
  return new AgentIdentity(
    { clock, log: silentLogger(), random: () => 0.5, ...(onRefused === undefined ? {} : { onRefused }) },
    {
      node: parseNodeName('n1'),
      directory: join(directory, 'identity'),
      graceMs: 30 * DAY_MS,
      enrolUrl: hub.url,
      credential: { kind: 'token', token: hub.token },
    },
  );
}

const at = (now: number): Clock => ({ ...systemClock, now: () => now });
const rawOf = (who: TestIdentity): Buffer => readCertificate(who.current().cert).certificate.raw;

describe('what the hub says of whom to trust', () => {
  it('shuts a key out for ever, told by an older message too, over restarts', async () => {
    const identity = open();
    await identity.enrol(signal);
    const [one, two] = [await authority.node('n2', 'shop-1'), await authority.node('n3', 'shop-1')];
    const roots = [authority.root.cert];
    let told = 0;
    identity.onChange(() => told++);
    expect(
      identity.setTrust({ epoch: 1, version: 5, roots, revoked: [one.keyId] }, Buffer.from('five')),
    ).toBe(true);
    expect(() => identity.judge(rawOf(one))).toThrow(/revoked/);
    expect(identity.judge(rawOf(two))).toMatchObject({ node: 'n3' });
    // An older one cannot take a revocation back, nor the roots; what it revokes counts.
    const older = { epoch: 1, version: 4, roots: [successor.root.cert], revoked: [two.keyId] };
    expect(identity.setTrust(older, Buffer.from('four'))).toBe(true);
    expect(identity.setTrust({ ...older, revoked: [] })).toBe(false);
    expect(told).toBe(2);
    for (const each of [identity, open()]) {
      for (const who of [one, two]) expect(() => each.judge(rawOf(who))).toThrow(/revoked/);
      expect(each.status()).toMatchObject({
        state: 'good',
        trustVersion: 5,
        revoked: 2,
        roots: [authority.keyId],
      });
      expect(Buffer.from(each.signedTrust() ?? []).toString()).toBe('five');
    }
  });

  it('changes authorities with an overlap, and never leaves none', async () => {
    const identity = open();
    await identity.enrol(signal);
    const young = await successor.node('n2', 'shop-1');
    const both = [authority.root.cert, successor.root.cert];
    expect(() => identity.judge(rawOf(young))).toThrow(/no authority/);
    identity.setTrust({ epoch: 1, version: 2, roots: both, revoked: [] });
    expect(identity.judge(rawOf(young))).toMatchObject({ node: 'n2' });
    expect(identity.current().ca.match(/BEGIN/g)).toHaveLength(2);
    for (const roots of [[], ['nonsense']]) {
      expect(() => identity.setTrust({ epoch: 1, version: 3, roots, revoked: [] })).toThrow(/PEM/);
    }
    expect(open().judge(rawOf(young))).toMatchObject({ node: 'n2' });
  });

  it('makes it ask for a certificate by an authority that still counts', async () => {
    const identity = open();
    await identity.enrol(signal);
    await identity.start();
    const both = [authority.root.cert, successor.root.cert];
    identity.setTrust({ epoch: 1, version: 2, roots: both, revoked: [] });
    hub.authority = successor;
    hub.trustVersion = 3;
    hub.roots = both.join('\n');
    await hub.stop();
    await hub.start(await successor.hub());
    identity.setTrust({ epoch: 1, version: 3, roots: [successor.root.cert], revoked: [] });
    expect(identity.status().state).toBe('untrusted');
    await until(() => identity.status().state === 'good');
    await identity.stop();
  });

  it('its own revocation shows', async () => {
    const identity = open();
    await identity.enrol(signal);
    const revoked = [identity.keyId as KeyId];
    identity.setTrust({ epoch: 1, version: 2, roots: [authority.root.cert], revoked });
    expect(identity.status().state).toBe('revoked');
  });
});

describe('a clock that cannot be trusted', () => {
  it('that is years behind is met by what certificates prove, over restarts', async () => {
    await open().enrol(signal);
    const late = at(0);
    const identity = open(late);
    // Its own certificate was dated at enrolment, and the floor comes from there.
    expect(identity.trustedNow()).toBeGreaterThan(Date.now() - DAY_MS);
    const ended = await authority.node('n2', 'shop-1', {
      issuedAt: Date.now() - 60 * DAY_MS,
      lifetimeMs: DAY_MS,
    });
    expect(() => identity.judge(rawOf(ended))).toThrow(/the grace is over/);
    const newer = await authority.node('n3', 'shop-1', { issuedAt: Date.now() + 10 * DAY_MS });
    expect(identity.judge(rawOf(newer))).toMatchObject({ lapsed: false });
    expect(identity.trustedNow()).toBeGreaterThan(Date.now() + 9 * DAY_MS);
    await identity.stop();
    expect(open(late).trustedNow()).toBeGreaterThan(Date.now() + 9 * DAY_MS);
  });

  it('that is two years ahead is put right by the next certificate, also where all known ones seem to have ended', async () => {
    await open().enrol(signal);
    const ahead = at(Date.now() + 2 * YEAR_MS);
    const identity = open(ahead);
    expect(identity.status()).toMatchObject({ state: 'ended', clockAheadMs: 0 });
    const neighbour = await authority.node('n2', 'shop-1');
    expect(() => identity.judge(rawOf(neighbour))).toThrow(/the grace is over/);
    await identity.start();
    await until(() => identity.status().state === 'good');
    await identity.stop();
    expect(identity.status().clockAheadMs).toBeGreaterThan(2 * YEAR_MS - DAY_MS);
    for (const each of [identity, open(ahead)]) {
      expect(Math.abs(each.trustedNow() - Date.now())).toBeLessThan(DAY_MS);
      expect(each.judge(rawOf(neighbour))).toMatchObject({ node: 'n2', lapsed: false });
    }
    // The clock is put right: what was taken off it is not taken off twice.
    expect(Math.abs(open().trustedNow() - Date.now())).toBeLessThan(DAY_MS);
  });

  it('lets nobody pose as the hub with a certificate that has ended, whatever he answers', async () => {
    await open().enrol(signal);
    const now = Date.now() + 200 * DAY_MS;
    // A stolen old key of a hub; with it a certificate can be shown, and none can be signed.
    hub.authority = await TestAuthority.make();
    hub.now = () => now;
    hub.roots = `${authority.root.cert}\n${hub.authority.root.cert}`;
    hub.trustVersion = 9;
    await hub.stop();
    await hub.start(await authority.hub({ lifetimeMs: DAY_MS }));
    const identity = open(at(now));
    const before = identity.keyId;
    await identity.start();
    await until(() => identity.status().lastError !== null);
    await identity.stop();
    expect(identity.status().lastError).toContain('no authority that is trusted');
    expect(identity.keyId).toBe(before);
    expect(identity.status().roots).toEqual([authority.keyId]);
  });

  it('is asked: the time is never before what was proved, and a wrong lead is forgotten', () => {
    let system = 1_000 * DAY_MS;
    const time = new TrustedTime({ now: () => system }, { floor: 0, aheadMs: 0 });
    expect(time.proves(1_001 * DAY_MS)).toBe(true);
    expect(time.proves(1_000 * DAY_MS)).toBe(false);
    expect(time.now()).toBe(1_001 * DAY_MS);
    system = 3_000 * DAY_MS;
    time.isAbout(1_002 * DAY_MS);
    expect(time.now()).toBe(1_002 * DAY_MS);
    system += DAY_MS;
    expect(time.now()).toBe(1_003 * DAY_MS);
    system = 1_004 * DAY_MS;
    expect(time.now()).toBe(1_004 * DAY_MS);
    expect(time.aheadMs).toBe(0);
  });
});

describe('the hub that refuses', () => {
  it('ends the attempts of a node with a token, and is told once', async () => {
    hub.refuse = 'TOKEN_REFUSED';
    let end: (error: TidepoolError) => void = () => undefined;
    const refused = new Promise<TidepoolError>((resolve) => {
      end = resolve;
    });
    const identity = open(systemClock, (error) => end(error));
    await identity.start();
    expect(isTidepoolError(await refused, 'TOKEN_REFUSED')).toBe(true);
    await identity.stop();
    expect(hub.requests).toHaveLength(1);
  });

  it('or that cannot be reached is asked again, later and later', async () => {
    const clock = new ManualClock();
    hub.refuse = 'HUB_UNREACHABLE';
    const identity = open(clock);
    await identity.start();
    // Waits of 1, 2, 4 and 8 s lie between the first five.
    await until(() => {
      clock.advance(250);
      return hub.requests.length >= 5;
    });
    expect(clock.now()).toBeGreaterThanOrEqual(15_000);
    expect(identity.status().lastError).toContain('HUB_UNREACHABLE');
    hub.refuse = undefined;
    await until(() => {
      clock.advance(250);
      return identity.enrolled;
    });
    await identity.stop();
  });

  it('a refusal makes the next request one for another key', async () => {
    hub.refuse = 'CERTIFICATE_REFUSED';
    const identity = open();
    await expect(identity.enrol(signal)).rejects.toThrow(/CERTIFICATE_REFUSED/);
    hub.refuse = undefined;
    await identity.enrol(signal);
    expect(hub.requests[0]?.body.request).not.toBe(hub.requests[1]?.body.request);
  });
});

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
