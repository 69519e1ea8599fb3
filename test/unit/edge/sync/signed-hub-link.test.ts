import type { MqttClient } from 'mqtt';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedBroker } from '../../../../cloud/broker/embedded-broker.ts';
import { Link } from '../../../../cloud/broker/link.ts';
import { HubLink } from '../../../../edge/sync/hub-link.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { openMessage, signMessage } from '../../../../shared/trust/envelope.ts';
import { encode } from '../../../../shared/wire/messages/codec.ts';
import { MAX_MESSAGE_BYTES, topics } from '../../../../shared/wire/topics.ts';
import { connectAs } from '../../../support/broker-policy.ts';
import { eventually } from '../../../support/hub-fixture.ts';
import { MemoryDocuments } from '../../../support/memory-documents.ts';
import { TestAuthority, type TestIdentity } from '../../../support/trust.ts';

const node = parseNodeName('n1');
const pool = parsePoolName('p');
const tuningOf = (epoch: number, version: number, hash: string) => ({ epoch, version, hash, settings: {} });

let authority: TestAuthority;
let hub: TestIdentity;
let n1: TestIdentity;
let broker: EmbeddedBroker;
/** Can put anything on any topic, as a broker that was taken over can. */
let evil: MqttClient;
const closing: (() => Promise<unknown> | unknown)[] = [];

beforeAll(async () => {
  authority = await TestAuthority.make();
  n1 = await authority.node('n1', 'p');
});
beforeEach(async () => {
  hub = await authority.hub();
  broker = new EmbeddedBroker({ log: silentLogger(), identity: hub }, { host: '127.0.0.1', port: 0 });
  await broker.start();
  evil = await connectAs(hub, Number(broker.address.split(':').at(-1)), { clientId: 'evil' });
  closing.push(
    () => broker.stop(),
    () => evil.end(true),
  );
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function openLink(documents = new MemoryDocuments(), urls = [broker.url]): HubLink {
  const link = new HubLink(
    { documents, clock: systemClock, log: silentLogger(), identity: n1, random: () => 0.5 },
    {
      urls,
      node,
      pool,
      bootId: 'boot',
      address: '10.0.0.1:6181',
      version: '1',
      platform: 'linux/amd64',
      spreadMs: 5,
      reconnect: { baseMs: 20, maxMs: 50 },
    },
  );
  closing.push(() => link.stop());
  return link;
}
async function openHub(epoch: number, leads: () => boolean = () => true): Promise<Link> {
  const link = new Link(
    { clock: systemClock, log: silentLogger(), identity: hub },
    { url: broker.url, epoch, leads, sweepQuietMs: 20 },
    {
      connected: () => undefined,
      disconnected: () => undefined,
      message: () => undefined,
      retained: () => undefined,
    },
  );
  closing.push(() => link.stop());
  await link.start();
  expect(await link.ready(5_000)).toBe(true);
  return link;
}
const put = (topic: string, payload: Buffer): Promise<unknown> =>
  evil.publishAsync(topic, payload, { qos: 1, retain: true });
function hashesOf(link: HubLink): string[] {
  const hashes: string[] = [];
  link.onTuning(({ hash }) => hashes.push(hash));
  return hashes;
}

describe('what the hub says, signed', () => {
  it('reaches its pool, retained or live, and is there after a restart without any hub', async () => {
    const center = await openHub(3);
    await center.publish(topics.tuning(pool), encode(tuningOf(3, 1, 'a')), { retain: true });
    const documents = new MemoryDocuments();
    const link = openLink(documents);
    const hashes = hashesOf(link);
    await link.start();
    await eventually(
      () => hashes.join(),
      (all) => all === 'a',
    );
    await center.publish(topics.tuning(pool), encode(tuningOf(3, 2, 'b')), { retain: true });
    await eventually(
      () => hashes.join(),
      (all) => all === 'a,b',
    );
    expect(link.badMessages).toBe(0);
    await link.stop();
    const alone = hashesOf(openLink(documents, ['mqtts://127.0.0.1:1']));
    expect(alone).toEqual(['b']);
  });

  it('everything else is refused and counted, and the last good stays', async () => {
    const center = await openHub(3);
    const documents = new MemoryDocuments();
    const link = openLink(documents);
    const hashes = hashesOf(link);
    await link.start();
    await center.publish(topics.tuning(pool), encode(tuningOf(3, 1, 'good')), { retain: true });
    await eventually(
      () => hashes.join(),
      (all) => all === 'good',
    );
    const body = encode(tuningOf(9, 9, 'forged'));
    const topic = topics.tuning(pool);
    const other = await (await TestAuthority.make('test authority')).hub();
    const signed = signMessage(topic, body, hub.current());
    const forged: Buffer[] = [
      body,
      Buffer.from('{}\n'),
      Buffer.concat([signed.subarray(0, -1), Buffer.from(' ')]),
      signMessage(topic, body, other.current()),
      signMessage(topic, body, n1.current()),
      signMessage(topic, body, (await authority.node('n2', 'p')).current()),
      // What another pool was told, and what this one was told on another topic.
      signMessage(topics.tuning(parsePoolName('q')), body, hub.current()),
      signMessage(topics.hubState, body, hub.current()),
      Buffer.concat([signed, Buffer.alloc(MAX_MESSAGE_BYTES)]),
    ];
    for (const payload of forged) await put(topic, payload);
    await eventually(
      () => link.badMessages,
      (count) => count === forged.length,
    );
    expect(hashes).toEqual(['good']);
    expect(documents.get('sync/epoch')).toBe(3);
    // Poison that is retained meets the next start too.
    await link.stop();
    const again = openLink(documents);
    const seen = hashesOf(again);
    await again.start();
    await eventually(
      () => again.badMessages,
      (count) => count >= 1,
    );
    expect(seen).toEqual(['good']);
  });

  it('a leader that was paused and wakes up with an old epoch is refused', async () => {
    const old = await openHub(3);
    const link = openLink();
    const hashes = hashesOf(link);
    await link.start();
    const next = await openHub(4);
    await next.publish(topics.tuning(pool), encode(tuningOf(4, 1, 'new')), { retain: true });
    await eventually(
      () => hashes.join(),
      (all) => all === 'new',
    );
    await old.publish(topics.tuning(pool), encode(tuningOf(3, 99, 'old')), { retain: true });
    await eventually(
      () => link.badMessages,
      (count) => count === 1,
    );
    expect(hashes).toEqual(['new']);
  });

  it('what was said earlier and is played again changes nothing', async () => {
    const link = openLink();
    const jobs: string[] = [];
    link.onPrefetch((all) =>
      jobs.push(all.map(({ id, suspend }) => `${id}${suspend ? ' suspended' : ''}`).join()),
    );
    await link.start();
    const job = (version: number, suspend: boolean): Buffer =>
      encode({ epoch: 1, version, id: 'j', generation: 1, suspend, images: [{ image: 'a' }] });
    const index = (version: number, ids: string[]): Buffer => encode({ epoch: 1, version, ids });
    const sign = (topic: string, body: Buffer): Promise<unknown> =>
      put(topic, signMessage(topic, body, hub.current()));
    const topic = topics.prefetch(pool, 'j');
    await sign(topic, job(1, false));
    await eventually(
      () => jobs.length,
      (count) => count === 1,
    );
    await sign(topic, job(2, true));
    await sign(topics.prefetchIndex(pool), index(2, ['j']));
    await sign(topic, job(1, false));
    await sign(topics.prefetchIndex(pool), index(1, []));
    // Nobody signs that a topic was cleared: the list does.
    await put(topic, Buffer.alloc(0));
    await sign(topics.tuning(pool), encode(tuningOf(1, 1, 'end')));
    await new Promise<void>((resolve) => link.onTuning(() => resolve()));
    expect(jobs).toEqual(['j', 'j suspended']);
    await sign(topics.prefetchIndex(pool), index(3, []));
    await eventually(
      () => jobs.length,
      (count) => count === 3,
    );
    expect(jobs.at(-1)).toBe('');
  });

  it('tells whom to trust with the message as it was signed, and that a renewal is wanted', async () => {
    const center = await openHub(3);
    const link = openLink();
    const told: { version: number; signed: Uint8Array }[] = [];
    let renewals = 0;
    link.onTrust(({ version }, signed) => told.push({ version, signed }));
    link.onRenew(() => renewals++);
    await link.start();
    const revoked = ['ab'.repeat(32)];
    const message = { epoch: 3, version: 7, roots: [authority.root.cert], revoked };
    await center.publish(topics.trust(pool), encode(message), { retain: true });
    await eventually(
      () => told.length,
      (count) => count === 1,
    );
    const body = openMessage(topics.trust(pool), told[0]?.signed ?? Buffer.alloc(0), (der) => n1.judge(der));
    expect(JSON.parse(Buffer.from(body).toString())).toEqual(message);
    const command = { id: '1', epoch: 3, expiresAt: Date.now() + 60_000, command: { kind: 'renew' } };
    await center.publish(topics.command(node), encode(command));
    await eventually(
      () => renewals,
      (count) => count === 1,
    );
  });

  it('the hub signs its own state, its will too, and all of it anew by a new certificate', async () => {
    const states: { state: string; by: string }[] = [];
    evil.on('message', (topic, payload) => {
      const { by } = JSON.parse(payload.subarray(0, payload.indexOf('\n')).toString()) as { by: string };
      const body = openMessage(topic, payload, (der) => n1.judge(der));
      states.push({ state: JSON.parse(Buffer.from(body).toString()).state, by });
    });
    await evil.subscribeAsync(topics.hubState, { qos: 1 });
    const own = await authority.hub();
    let connects = 0;
    const link = new Link(
      { clock: systemClock, log: silentLogger(), identity: own },
      { url: broker.url, epoch: 5, sweepQuietMs: 20 },
      {
        connected: () => connects++,
        disconnected: () => undefined,
        message: () => undefined,
        retained: () => undefined,
      },
    );
    closing.push(() => link.stop());
    await link.start();
    await eventually(
      () => states.length,
      (count) => count === 1,
    );
    own.replace((await authority.hub()).current());
    await eventually(
      () => states.length,
      (count) => count === 2,
    );
    expect(connects).toBe(2);
    expect(states[0]?.by).not.toBe(states[1]?.by);
    await broker.stop();
    expect(states.map(({ state }) => state)).toEqual(['online', 'online']);
  });

  it('the limit of a message is the body’s, and the envelope has room of its own', async () => {
    const center = await openHub(3);
    const link = openLink();
    const hashes = hashesOf(link);
    await link.start();
    const fill = MAX_MESSAGE_BYTES - encode(tuningOf(3, 1, '')).length;
    await center.publish(topics.tuning(pool), encode(tuningOf(3, 1, 'x'.repeat(fill))), { retain: true });
    await eventually(
      () => hashes.length,
      (count) => count === 1,
    );
    await expect(
      center.publish(topics.tuning(pool), encode(tuningOf(3, 2, 'x'.repeat(fill + 1))), { retain: true }),
    ).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('a hub that dies says so by a will that agents can check', async () => {
    const states: string[] = [];
    evil.on('message', (topic, payload) => {
      const body = openMessage(topic, payload, (der) => n1.judge(der));
      states.push(JSON.parse(Buffer.from(body).toString()).state);
    });
    await evil.subscribeAsync(topics.hubState, { qos: 1 });
    const dying = await authority.hub();
    const link = new Link(
      { clock: systemClock, log: silentLogger(), identity: dying },
      { url: broker.url, epoch: 5, leads: () => true, sweepQuietMs: 20 },
      {
        connected: () => undefined,
        disconnected: () => undefined,
        message: () => undefined,
        retained: () => undefined,
      },
    );
    closing.push(() => link.stop());
    await link.start();
    await eventually(
      () => states.join(),
      (all) => all === 'online',
    );
    hub.revoke(dying.keyId);
    await eventually(
      () => states.join(),
      (all) => all === 'online,offline',
    );
  });
});
