import { createPublicKey } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AgentIdentity, type AgentIdentityInit } from '../../../../edge/identity/agent-identity.ts';
import { HUB_TIMEOUT_MS, LOOK_MS } from '../../../../edge/identity/constants.ts';
import type { FileOps } from '../../../../edge/identity/private-file.ts';
import type { Clock } from '../../../../shared/clock.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { isTidepoolError } from '../../../../shared/errors.ts';
import { parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { keyIdOf, readCertificate } from '../../../../shared/trust/certificate.ts';
import { DyingFiles } from '../../../support/dying-files.ts';
import { EnrolmentHub } from '../../../support/enrolment-hub.ts';
import { DAY_MS, TestAuthority } from '../../../support/trust.ts';

let authority: TestAuthority;
let stranger: TestAuthority;
let hub: EnrolmentHub;
let directory: string;
const signal = new AbortController().signal;

beforeAll(async () => {
  authority = await TestAuthority.make();
  stranger = await TestAuthority.make();
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

interface Open extends Partial<AgentIdentityInit> {
  readonly clock?: Clock;
  readonly files?: FileOps;
}

function open({ clock = systemClock, files, ...init }: Open = {}): AgentIdentity {
  return new AgentIdentity(
    { clock, log: silentLogger(), random: () => 0.5, ...(files === undefined ? {} : { files }) },
    {
      node: parseNodeName('n1'),
      directory: join(directory, 'identity'),
      graceMs: 30 * DAY_MS,
      enrolUrl: hub.url,
      credential: { kind: 'token', token: hub.token },
      ...init,
    },
  );
}

async function codeOf(act: Promise<unknown>): Promise<string> {
  try {
    await act;
  } catch (error) {
    if (isTidepoolError(error)) return error.code;
    throw error;
  }
  return 'none';
}

const at = (now: number): Clock => ({ ...systemClock, now: () => now });

describe('enrolment', () => {
  it('gives the node a key of its own, a certificate, the roots and a pool, and keeps them from others', async () => {
    const identity = open();
    expect(identity.enrolled).toBe(false);
    expect(identity.current()).toEqual({ key: '', cert: '', ca: '' });
    await identity.enrol(signal);

    expect(identity.pool).toBe('shop-1');
    const { key, cert, ca } = identity.current();
    expect(key).toContain('PRIVATE KEY');
    expect(ca.trim()).toBe(authority.root.cert.trim());
    expect(identity.judge(readCertificate(cert).certificate.raw)).toMatchObject({
      node: 'n1',
      pool: 'shop-1',
    });

    const path = join(directory, 'identity');
    expect(statSync(path).mode & 0o777).toBe(0o700);
    expect(readdirSync(path).sort()).toEqual(['node.pem', 'time.json', 'trust.json']);
    for (const name of readdirSync(path)) expect(statSync(join(path, name)).mode & 0o777).toBe(0o600);
    // The key has not left the node.
    expect(JSON.stringify(hub.requests)).not.toContain('PRIVATE KEY');

    const again = open();
    expect(again.current()).toEqual(identity.current());
    expect(again.status()).toMatchObject({ state: 'good', pool: 'shop-1', trustVersion: 1 });
  });

  it('gives its token to nobody but the hub that the token names', async () => {
    for (const who of [await stranger.hub(), await authority.node('n2', 'shop-1')]) {
      await hub.stop();
      await hub.start(who);
      expect(await codeOf(open().enrol(signal))).toBe('CERTIFICATE_REFUSED');
    }
    // A forged root of the same name beside a leaf that the real one has signed.
    const real = await authority.hub();
    const forged = await stranger.hub();
    const { key, cert } = real.current();
    const [leaf] = cert.split(/(?<=-----END CERTIFICATE-----)/);
    const [, otherRoot] = forged.current().cert.split(/(?<=-----END CERTIFICATE-----)/);
    real.replace({ key, cert: `${leaf}${otherRoot}`, ca: real.current().ca });
    await hub.stop();
    await hub.start(real);
    expect(await codeOf(open().enrol(signal))).toBe('CERTIFICATE_REFUSED');
    expect(hub.requests).toEqual([]);
  });

  it('believes no certificate that is for another key, node or pool, or by another authority', async () => {
    const other = await authority.node('n1', 'shop-1');
    const foreign = await stranger.node('n1', 'shop-1');
    const twists: EnrolmentHub['twist'][] = [
      (answer) => ({ ...answer, certificate: other.current().cert }),
      (answer) => ({ ...answer, pool: 'shop-2' }),
      (answer) => ({ ...answer, certificate: foreign.current().cert }),
      (answer) => ({ ...answer, roots: stranger.root.cert }),
      (answer) => ({ ...answer, certificate: 'nonsense' }),
    ];
    for (const twist of twists) {
      hub.twist = twist;
      const identity = open();
      expect(await codeOf(identity.enrol(signal))).toBe('CERTIFICATE_REFUSED');
      expect(identity.enrolled).toBe(false);
      expect(open().enrolled).toBe(false);
    }
  });

  it('says what the hub refuses, and tells the hub what it is asked to', async () => {
    hub.refuse = 'CONFLICT';
    expect(await codeOf(open().enrol(signal))).toBe('CONFLICT');
    hub.refuse = undefined;
    const identity = open({ replace: true, platform: 'linux/arm64' });
    await identity.enrol(signal);
    expect(hub.requests.at(-1)?.body).toMatchObject({ node: 'n1', replace: true, platform: 'linux/arm64' });
  });

  it('takes token and authority from files, and reads them anew each time', async () => {
    const tokenFile = join(directory, 'token');
    const credential = { kind: 'token-file', file: tokenFile } as const;
    const identity = open({ credential });
    expect(await codeOf(identity.enrol(signal))).toBe('INVALID_CONFIG');
    writeFileSync(tokenFile, `${hub.token}\n`);
    await identity.enrol(signal);
    expect(identity.enrolled).toBe(true);
  });

  it('shows a ServiceAccount token to a hub of the authority in the file alone', async () => {
    const [tokenFile, caFile] = [join(directory, 'sa'), join(directory, 'ca.pem')];
    writeFileSync(tokenFile, 'account');
    writeFileSync(caFile, stranger.root.cert);
    const identity = open({ credential: { kind: 'service-account', tokenFile, caFile } });
    expect(await codeOf(identity.enrol(signal))).toBe('CERTIFICATE_REFUSED');
    expect(hub.requests).toEqual([]);
    writeFileSync(caFile, authority.root.cert);
    await identity.enrol(signal);
    expect(identity.enrolled).toBe(true);
  });

  it('asks again for the same key when the answer was lost', async () => {
    hub.deaf = true;
    expect(await codeOf(open().enrol(signal))).toBe('HUB_UNREACHABLE');
    hub.deaf = false;
    const identity = open();
    await identity.enrol(signal);
    const keys = hub.requests.map(({ body }) => String(body.request));
    expect(keys).toHaveLength(2);
    const spki = await Promise.all(keys.map(keyOfRequest));
    expect(spki[0]).toBe(spki[1]);
  });

  it('refuses to be another node than it is enrolled as', async () => {
    await open().enrol(signal);
    expect(() => open({ node: parseNodeName('n2') })).toThrow(/enrolled as node n1.*this is node n2/);
  });

  it('says which file is damaged', async () => {
    await open().enrol(signal);
    for (const name of ['node.pem', 'trust.json']) {
      const path = join(directory, 'identity', name);
      const text = readFileSync(path, 'utf8');
      writeFileSync(path, text.slice(0, text.length / 2));
      expect(() => open()).toThrow(new RegExp(`${name}.*enrol this node again`));
      writeFileSync(path, text);
    }
    expect(open().enrolled).toBe(true);
  });

  it('whatever ends the agent: the next start has all of it, or asks for the same key again', async () => {
    for (let operation = 1; ; operation++) {
      rmSync(join(directory, 'identity'), { recursive: true, force: true });
      hub.requests.length = 0;
      const files = new DyingFiles(operation);
      const outcome = await codeOf(
        (async () => open({ files: files.ops }).enrol(signal))().catch((error: unknown) => {
          if (files.dead) return;
          throw error;
        }),
      );
      expect(outcome).toBe('none');
      const restarted = open();
      if (!restarted.enrolled) await restarted.enrol(signal);
      expect(restarted.enrolled).toBe(true);
      const keys = new Set(
        await Promise.all(hub.requests.map(({ body }) => keyOfRequest(String(body.request)))),
      );
      expect(keys.size).toBe(1);
      if (!files.dead) break;
      expect(operation).toBeLessThan(200);
    }
  });
});

describe('renewal', () => {
  it('has a new key, proves who asks by the old certificate, and follows to another pool', async () => {
    const identity = open();
    await identity.enrol(signal);
    const before = identity.keyId;
    const old = readCertificate(identity.current().cert).certificate.raw;
    hub.pool = 'shop-2';
    hub.trustVersion = 2;
    let told = 0;
    identity.onChange(() => told++);
    identity.renewSoon('the hub says so');
    await identity.start();
    await until(() => identity.pool === 'shop-2');
    await identity.stop();
    expect(told).toBe(1);
    expect(identity.keyId).not.toBe(before);
    const asked = hub.requests.at(-1);
    expect(asked?.path).toBe('/v1/renew');
    expect(asked?.shown?.equals(old)).toBe(true);
    expect(open().keyId).toBe(identity.keyId);
  });

  it('that was asked for is asked for again until there is one', async () => {
    await open().enrol(signal);
    const clock = new SkippingRetries();
    const identity = open({ clock });
    const before = identity.keyId;
    await identity.start();
    hub.refuse = 'HUB_UNREACHABLE';
    identity.renewSoon('the hub says so');
    await until(() => hub.requests.length === 3);
    hub.refuse = undefined;
    await until(() => identity.keyId !== before);
    await identity.stop();
  });

  it('comes by itself at two thirds of the life', async () => {
    const issuedAt = Date.now();
    await open().enrol(signal);
    const life = 90 * DAY_MS;
    const early = open({ clock: at(issuedAt + life * 0.66) });
    await early.start();
    expect(early.status().renewAt).toBeGreaterThan(issuedAt + life * 0.66);
    await early.stop();
    expect(hub.requests).toHaveLength(1);
    const now = issuedAt + life * 0.72;
    hub.now = () => now;
    const due = open({ clock: at(now) });
    const before = due.keyId;
    await due.start();
    await until(() => due.keyId !== before);
    await due.stop();
    expect(due.status().notAfter).toBeGreaterThan(now + 89 * DAY_MS);
  });

  it('whatever ends the agent: the pair is the old one or the new one, and never a mix', async () => {
    for (let operation = 1; ; operation++) {
      rmSync(join(directory, 'identity'), { recursive: true, force: true });
      const first = open();
      await first.enrol(signal);
      const files = new DyingFiles(operation);
      try {
        const identity = open({ files: files.ops });
        identity.renewSoon('test');
        const before = identity.keyId;
        await identity.start();
        await until(() => identity.keyId !== before || files.dead);
        await identity.stop();
      } catch (error) {
        if (!files.dead) throw error;
      }
      const after = open();
      expect(after.status().state).toBe('good');
      const { key, cert } = after.current();
      expect(keyIdOf(createPublicKey(key))).toBe(readCertificate(cert).keyId);
      if (!files.dead) {
        expect(after.keyId).not.toBe(first.keyId);
        break;
      }
      expect(operation).toBeLessThan(200);
    }
  });

  it('outlives the end of its certificate within the grace, and heals when the hub is back', async () => {
    await open().enrol(signal);
    await hub.stop();
    const now = Date.now() + 100 * DAY_MS;
    const neighbour = await authority.node('n2', 'shop-1');
    const raw = readCertificate(neighbour.current().cert).certificate.raw;
    const identity = open({ clock: at(now) });
    expect(identity.judge(raw)).toMatchObject({ node: 'n2', lapsed: true });
    expect(identity.status()).toMatchObject({ state: 'lapsed', lapsedAdmitted: 1 });
    const before = identity.keyId;
    hub.now = () => now;
    await hub.start(await authority.hub({ issuedAt: now }));
    await identity.start();
    await until(() => identity.keyId !== before);
    await identity.stop();
    expect(identity.status()).toMatchObject({ state: 'good', clockAheadMs: 0 });
    // Past the grace nobody is taken any more.
    const late = open({ clock: at(now + 60 * DAY_MS) });
    expect(() => late.judge(raw)).toThrow(/the grace is over/);
  });
});

/** A clock on which back-offs of a minute are over at once; everything else takes its time. */
class SkippingRetries implements Clock {
  now = systemClock.now;
  mono = systemClock.mono;
  after(ms: number, fn: () => void): () => void {
    const isRetry = ms < LOOK_MS && ms !== HUB_TIMEOUT_MS;
    return systemClock.after(isRetry ? ms / 1_000 : ms, fn);
  }
}

async function keyOfRequest(pem: string): Promise<string> {
  const { loadX509 } = await import('../../../../shared/trust/x509.ts');
  const x509 = await loadX509();
  return Buffer.from(new x509.Pkcs10CertificateRequest(pem).publicKey.rawData).toString('hex');
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
