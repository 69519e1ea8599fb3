import { createServer, type Server, type Socket } from 'node:net';
import fc from 'fast-check';
import mqtt, { type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedBroker } from '../../../../cloud/broker/embedded-broker.ts';
import { HubLink, type HubLinkInit } from '../../../../edge/sync/hub-link.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { encode } from '../../../../shared/wire/messages/codec.ts';
import { eventually } from '../../../support/hub-fixture.ts';
import { MemoryDocuments } from '../../../support/memory-documents.ts';

let broker: EmbeddedBroker;
let hub: MqttClient;
/** What the hub hears, by the last part of the topic. */
let heard: { kind: string; message: Record<string, unknown> }[];
const links: HubLink[] = [];
const closing: (() => Promise<unknown> | unknown)[] = [];

beforeEach(async () => {
  broker = new EmbeddedBroker({ log: silentLogger() }, { host: '127.0.0.1', port: 0 });
  await broker.start();
  const { url, username, password } = broker.login;
  hub = await mqtt.connectAsync(url, { protocolVersion: 4, reconnectPeriod: 0, username, password });
  heard = [];
  hub.on('message', (topic, payload) => {
    const kind = topic.split('/').at(-1) ?? '';
    // What the tests themselves send as the hub may be rubbish.
    heard.push({ kind, message: kind === 'command' ? {} : JSON.parse(payload.toString()) });
  });
  await hub.subscribeAsync('tidepool/v1/nodes/+/+', { qos: 1 });
});
afterEach(async () => {
  for (const link of links.splice(0)) await link.stop();
  hub.end(true);
  await broker.stop();
  for (const close of closing.splice(0)) await close();
});

function open(init: Partial<HubLinkInit> = {}, documents = new MemoryDocuments()): HubLink {
  const link = new HubLink(
    { documents, clock: systemClock, log: silentLogger(), random: () => 0.5 },
    {
      urls: [`mqtt://${broker.address}`],
      node: parseNodeName('n1'),
      pool: parsePoolName('p'),
      bootId: 'boot',
      address: '10.0.0.1:6181',
      version: '1',
      platform: 'linux/amd64',
      spreadMs: 10,
      reconnect: { baseMs: 20, maxMs: 100 },
      reportIntervalMs: 10,
      ...init,
    },
  );
  links.push(link);
  return link;
}
const kinds = (): string => heard.map(({ kind }) => kind).join();
const say = (topic: string, message: unknown, retain = true): Promise<unknown> =>
  hub.publishAsync(`tidepool/v1/${topic}`, message === '' ? '' : encode(message), { qos: 1, retain });

describe('HubLink', () => {
  it('is born, reports, and takes leave', async () => {
    const link = open();
    link.report({ tuningHash: 'x' });
    await link.start();
    await eventually(kinds, (all) => all === 'birth,report');
    expect(heard[0]?.message).toMatchObject({
      node: 'n1',
      pool: 'p',
      bootId: 'boot',
      session: 1,
      address: '10.0.0.1:6181',
    });
    expect(heard[1]?.message).toMatchObject({ seq: 1, full: true, tuningHash: 'x' });
    expect(link.state()).toMatchObject({ connected: true, lastError: null });
    await link.stop();
    await eventually(kinds, (all) => all === 'birth,report,death');
    expect(link.state().connected).toBe(false);
  });

  it('comes back after a lost connection, under a new session number, with everything', async () => {
    const proxy = await startProxy(Number(broker.address.split(':')[1]));
    const link = open({ urls: [`mqtt://127.0.0.1:${proxy.port}`] });
    link.report({ tuningHash: 'x' });
    await link.start();
    await eventually(kinds, (all) => all === 'birth,report');
    heard = [];
    proxy.cut();
    await eventually(kinds, (all) => all.includes('birth') && all.includes('report'));
    const death = heard.find(({ kind }) => kind === 'death')?.message;
    const birth = heard.find(({ kind }) => kind === 'birth')?.message;
    expect(death).toEqual({ node: 'n1', bootId: 'boot', session: 1 });
    expect(birth).toMatchObject({ bootId: 'boot', session: 2 });
    expect(heard.find(({ kind }) => kind === 'report')?.message).toMatchObject({
      seq: 2,
      full: true,
      tuningHash: 'x',
    });
  });

  it('notices a connection that is dead and does not say so', async () => {
    const proxy = await startProxy(Number(broker.address.split(':')[1]));
    const link = open({
      urls: [`mqtt://127.0.0.1:${proxy.port}`],
      keepaliveSeconds: 1,
      reconnect: { baseMs: 600_000, maxMs: 600_000 },
    });
    await link.start();
    await eventually(kinds, (all) => all === 'birth,report');
    proxy.stall();
    const { lastError } = await eventually(
      () => link.state(),
      ({ connected }) => !connected,
    );
    expect(lastError).toMatch(/connection lost/);
  });

  it('tries the next address when one does not answer', async () => {
    const link = open({ urls: ['mqtt://127.0.0.1:1', `mqtt://${broker.address}`] });
    await link.start();
    await eventually(
      () => link.state().connected,
      (connected) => connected,
    );
  });

  it('answers a resync, and a hub that has just come up, with birth and full report', async () => {
    const link = open();
    await link.start();
    await eventually(kinds, (all) => all === 'birth,report');
    await say(
      'nodes/n1/command',
      { id: '1', epoch: 1, expiresAt: Date.now() + 60_000, command: { kind: 'resync' } },
      false,
    );
    await eventually(kinds, (all) => all === 'birth,report,command,birth,report');
    await say('hub/state', { state: 'online', epoch: 2, at: 0 });
    await eventually(kinds, (all) => all === 'birth,report,command,birth,report,birth,report');
    await say('hub/state', { state: 'offline', epoch: 2, at: 0 });
    await say('hub/state', { state: 'online', epoch: 2, at: 0 });
    await eventually(kinds, (all) => all.endsWith('birth,report,birth,report,birth,report'));
    expect(heard.filter(({ kind }) => kind === 'report').every(({ message }) => message.full === true)).toBe(
      true,
    );
  });

  it('is not born twice for a hub that was there before', async () => {
    await say('hub/state', { state: 'online', epoch: 3, at: 0 });
    const documents = new MemoryDocuments();
    documents.put('sync/epoch', 3);
    const link = open({}, documents);
    await link.start();
    await eventually(kinds, (all) => all === 'birth,report');
    // A round trip after it: nothing else came.
    await say('pools/p/tuning', { epoch: 3, version: 1, hash: 'h', settings: {} });
    const hash = await new Promise<string>((resolve) => link.onTuning((tuning) => resolve(tuning.hash)));
    expect(hash).toBe('h');
    expect(kinds()).toBe('birth,report');
  });

  it('counts rubbish and lives on, whatever comes on whatever topic of its own', async () => {
    const link = open();
    await link.start();
    await eventually(
      () => link.state().connected,
      (connected) => connected,
    );
    const topics = [
      'hub/state',
      'pools/p/tuning',
      'pools/p/roster/0',
      'pools/p/prefetch/j',
      'pools/p/prefetch-index',
      'nodes/n1/command',
    ];
    const field = fc.oneof(fc.integer(), fc.string(), fc.constant([]), fc.constant({}), fc.constant(null));
    const message = fc.record(
      {
        epoch: fc.oneof(fc.constant(0), field),
        version: field,
        state: field,
        hash: field,
        settings: field,
        nodes: field,
        ids: field,
        id: field,
        images: field,
        shard: field,
        shards: field,
        command: field,
      },
      { requiredKeys: [] },
    );
    const payloads = fc.sample(
      fc.oneof(
        fc.uint8Array({ minLength: 1, maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
        fc.json().map((text) => Buffer.from(text)),
        message.map((each) => Buffer.from(JSON.stringify(each))),
      ),
      { seed: 42, numRuns: 200 },
    );
    for (const [index, payload] of payloads.entries()) {
      await hub.publishAsync(`tidepool/v1/${topics[index % topics.length]}`, payload, { qos: 1 });
    }
    await say('pools/p/tuning', { epoch: 2 ** 40, version: 1, hash: 'good', settings: {} });
    const hash = await new Promise<string>((resolve) => {
      link.onTuning((tuning) => tuning.hash === 'good' && resolve(tuning.hash));
    });
    expect(hash).toBe('good');
    expect(link.badMessages).toBeGreaterThan(150);
  });

  it('an emptied topic takes back a job, and nothing else', async () => {
    const link = open();
    const jobs: number[] = [];
    const rosters: number[] = [];
    link.onPrefetch((all) => jobs.push(all.length));
    link.onRoster(({ nodes }) => rosters.push(nodes.length));
    await say('pools/p/roster/0', { epoch: 1, version: 1, shard: 0, shards: 1, nodes: [{ node: 'n1' }] });
    await say('pools/p/prefetch/j', { epoch: 1, id: 'j', generation: 1, images: [{ image: 'a' }] });
    await link.start();
    await eventually(
      () => jobs.length + rosters.length,
      (count) => count === 2,
    );
    await say('pools/p/roster/0', '');
    await say('pools/p/prefetch/j', '');
    await eventually(
      () => jobs.join(),
      (all) => all === '1,0',
    );
    expect(rosters).toEqual([1]);
    expect(link.badMessages).toBe(0);
  });

  it('without any hub it starts, takes reports, and stops', async () => {
    const link = open({ urls: [] });
    await link.start();
    link.report({ tuningHash: 'x' });
    expect(link.state()).toMatchObject({ connected: false, urls: [] });
    await link.stop();
  });

  it('refuses an address that is none when it is made', () => {
    expect(() => open({ urls: ['http://hub'] })).toThrow(/not a broker: "http:\/\/hub"; write it like mqtt:/);
  });

  it('gives up a broker that accepts and says nothing more', async () => {
    const held = new Set<Socket>();
    const server = createServer((socket) => void held.add(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
    closing.push(() => closeServer(server, held));
    const link = open({ urls: [`mqtt://127.0.0.1:${portOf(server)}`] });
    await link.start();
    await eventually(
      () => held.size,
      (size) => size > 0,
    );
    expect(link.state().connected).toBe(false);
    await link.stop();
    expect(link.state().connected).toBe(false);
  });
});

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

async function closeServer(server: Server, sockets: Iterable<Socket>): Promise<void> {
  for (const socket of sockets) socket.destroy();
  await new Promise<void>((resolve) => server.close(() => resolve()));
}

/** Passes bytes on until it is told to cut every connection. */
async function startProxy(target: number): Promise<{ port: number; cut(): void; stall(): void }> {
  const { connect } = await import('node:net');
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const onward = connect({ host: '127.0.0.1', port: target });
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => undefined);
      from.on('close', () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  closing.push(() => closeServer(server, sockets));
  return {
    port: portOf(server),
    cut: () => {
      for (const socket of sockets) socket.destroy();
    },
    stall: () => {
      for (const socket of sockets) socket.unpipe();
    },
  };
}
