import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { AgentIdentity } from '../../../../edge/identity/agent-identity.ts';
import { TrustGossip } from '../../../../edge/peers/trust-gossip.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { readCertificate } from '../../../../shared/trust/certificate.ts';
import { signMessage } from '../../../../shared/trust/envelope.ts';
import { topics } from '../../../../shared/wire/topics.ts';
import { EnrolmentHub } from '../../../support/enrolment-hub.ts';
import { TestAuthority } from '../../../support/trust.ts';

const POOL = parsePoolName('shop-1');
let directory: string;
let authority: TestAuthority;
let hub: EnrolmentHub;
let identity: AgentIdentity;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'gossip-'));
  authority = await TestAuthority.make();
  hub = new EnrolmentHub(authority);
  await hub.start();
  identity = new AgentIdentity(
    { log: silentLogger() },
    {
      node: parseNodeName('n1'),
      directory,
      graceMs: 0,
      enrolUrl: hub.url,
      credential: { kind: 'token', token: hub.token },
    },
  );
  await identity.enrol(new AbortController().signal);
});
afterEach(async () => {
  await hub.stop();
  rmSync(directory, { recursive: true, force: true });
});

function gossip(signed: Uint8Array | undefined): TrustGossip {
  return new TrustGossip({
    members: { live: () => [{ node: parseNodeName('n2'), address: '127.0.0.1:1' }] },
    client: { trust: async () => signed },
    take: (bytes) => identity.takeSigned(bytes),
    clock: systemClock,
    log: silentLogger(),
    random: () => 0.5,
  });
}

it('a neighbour carries what the hub has signed for this pool, and cannot make it up', async () => {
  const thief = await authority.node('n3', POOL);
  const raw = readCertificate(thief.current().cert).certificate.raw;
  const body = Buffer.from(
    JSON.stringify({ epoch: 1, version: 7, roots: [authority.root.cert], revoked: [thief.keyId] }),
  );
  const hubs = (await authority.hub()).current();
  const forged = signMessage(topics.trust(POOL), body, thief.current());
  const foreign = signMessage(topics.trust(parsePoolName('shop-2')), body, hubs);
  for (const signed of [undefined, forged, foreign, body, Buffer.from('x\n')]) {
    await gossip(signed).ask();
    expect(identity.judge(raw)).toMatchObject({ node: 'n3' });
  }
  const good = signMessage(topics.trust(POOL), body, hubs);
  await gossip(good).ask();
  expect(() => identity.judge(raw)).toThrow(/revoked/);
  // And it carries it on.
  expect(Buffer.from(identity.signedTrust() ?? []).equals(good)).toBe(true);
});
