import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { MqttClient } from 'mqtt';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedBroker, type EmbeddedBrokerInit } from '../../../../cloud/broker/embedded-broker.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { clientTls } from '../../../../shared/trust/tls.ts';
import { connectAs, grants } from '../../../support/broker-policy.ts';
import { eventually } from '../../../support/hub-fixture.ts';
import { TestAuthority, type TestIdentity } from '../../../support/trust.ts';

let authority: TestAuthority;
let n1: TestIdentity;
let hub: TestIdentity;
let broker: EmbeddedBroker;
const clients: MqttClient[] = [];
const sockets: Socket[] = [];

beforeAll(async () => {
  authority = await TestAuthority.make();
  n1 = await authority.node('n1', 'p');
});
beforeEach(async () => {
  hub = await authority.hub();
  await open({});
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.end(true);
  for (const socket of sockets.splice(0)) socket.destroy();
  await broker.stop();
});

async function open(init: Partial<EmbeddedBrokerInit>): Promise<void> {
  await broker?.stop();
  broker = new EmbeddedBroker(
    { log: silentLogger(), identity: hub },
    { host: '127.0.0.1', port: 0, ...init },
  );
  await broker.start();
}
const port = (): number => Number(broker.address.split(':').at(-1));
async function join(identity: TestIdentity, clientId: string): Promise<MqttClient> {
  const client = await connectAs(identity, port(), { clientId });
  clients.push(client);
  return client;
}
const closed = (of: { once(event: 'close', listener: () => void): unknown }): Promise<void> =>
  new Promise((resolve) => of.once('close', () => resolve()));
function knock(): Socket {
  const socket = connectTcp({ host: '127.0.0.1', port: port() });
  socket.on('error', () => undefined);
  socket.resume();
  sockets.push(socket);
  return socket;
}

describe('EmbeddedBroker with certificates', () => {
  it('refuses in the SUBACK what a filter would match beyond the node and its pool', async () => {
    const node = await join(n1, 'n1');
    const asked: readonly [string, number][] = [
      ['tidepool/v1/hub/state', 1],
      ['tidepool/v1/nodes/n1/command', 1],
      ['tidepool/v1/pools/p/#', 1],
      ['tidepool/v1/pools/p/roster/+', 1],
      ['#', 128],
      ['+/v1/hub/state', 128],
      ['tidepool/v1/hub/+', 128],
      ['tidepool/v1/nodes/n1/#', 128],
      ['tidepool/v1/nodes/n2/command', 128],
      ['tidepool/v1/pools/+/trust', 128],
      ['tidepool/v1/pools/pp/tuning', 128],
      ['tidepool/v1/pools/p', 128],
      ['$share/g/tidepool/v1/pools/p/tuning', 128],
      ['$SYS/#', 128],
    ];
    expect(
      await grants(
        node,
        asked.map(([filter]) => filter),
      ),
    ).toEqual(asked.map(([, qos]) => qos));
  });

  it('a password does not make a hub', async () => {
    const { username, password } = broker.login;
    const client = await connectAs(n1, port(), { clientId: 'n1', username, password });
    clients.push(client);
    const end = closed(client);
    client.publish('tidepool/v1/pools/p/tuning', 'x', { qos: 1, retain: true }, () => undefined);
    await end;
  });

  it('a node leaves nothing behind that stays', async () => {
    const node = await join(n1, 'n1');
    const end = closed(node);
    node.publish('tidepool/v1/nodes/n1/birth', 'x', { qos: 1, retain: true }, () => undefined);
    await end;
    await expect(
      connectAs(n1, port(), {
        clientId: 'n1',
        will: { topic: 'tidepool/v1/nodes/n1/death', payload: Buffer.from('x'), qos: 1, retain: true },
      }),
    ).rejects.toThrow(/identifier rejected/i);
  });

  it('throws out who is revoked, at once, and does not let it in again', async () => {
    const thief = await authority.node('n2', 'p');
    const [stolen, honest] = [await join(thief, 'n2'), await join(n1, 'n1')];
    const end = closed(stolen);
    hub.revoke(thief.keyId);
    await end;
    expect(honest.connected).toBe(true);
    await expect(join(thief, 'n2')).rejects.toThrow();
  });

  it('shows a new certificate of its own without dropping anybody', async () => {
    const before = await join(n1, 'n1');
    const next = await authority.hub();
    hub.replace(next.current());
    const n2 = await authority.node('n2', 'p');
    const socket = connectTls({ host: '127.0.0.1', port: port(), ...clientTls(n2) });
    socket.on('error', () => undefined);
    await new Promise<void>((resolve) => socket.once('secureConnect', () => resolve()));
    const shown = socket.getPeerX509Certificate()?.raw ?? Buffer.alloc(0);
    expect(hub.judge(shown).keyId).toBe(next.keyId);
    await before.publishAsync('tidepool/v1/nodes/n1/report', 'x', { qos: 1 });
    socket.destroy();
  });

  it('hangs up on who connects and says nothing, and counts how many of these there are', async () => {
    await open({ handshakeMs: 2_000, maxPending: 4, maxPendingPerAddress: 3 });
    const waiting = [knock(), knock(), knock()];
    await eventually(
      () => broker.connections,
      (count) => count === 3,
    );
    // One more than may wait is gone at once, while the others still may.
    await closed(knock());
    expect(waiting.every(({ destroyed }) => !destroyed)).toBe(true);
    await Promise.all(waiting.map(closed));
    await join(n1, 'n1');
  });

  it('hangs up on a certificate that is never followed by a CONNECT', async () => {
    await open({ connectMs: 200 });
    const socket = connectTls({ host: '127.0.0.1', port: port(), ...clientTls(n1) });
    socket.on('error', () => undefined);
    socket.resume();
    await closed(socket);
  });

  it('a flood is slowed, then it ends the connection, and the node begins at its limit again', async () => {
    await open({ messages: { perSecond: 50, burst: 10, waiting: 20, patienceMs: 60_000 } });
    const node = await join(n1, 'n1');
    let acknowledged = 0;
    const end = closed(node);
    const startedAt = Date.now();
    for (let i = 0; i < 25; i++) {
      node.publish('tidepool/v1/nodes/n1/report', 'x', { qos: 1 }, (error) => {
        if (error === null || error === undefined) acknowledged++;
      });
    }
    await eventually(
      () => acknowledged,
      (count) => count === 25,
    );
    // 10 at once, 15 at 50 a second.
    expect(Date.now() - startedAt).toBeGreaterThanOrEqual(250);
    for (let i = 0; i < 200; i++)
      node.publish('tidepool/v1/nodes/n1/report', 'x', { qos: 1 }, () => undefined);
    await end;
    expect(acknowledged).toBeLessThan(225);
    expect(broker.refused).toBeGreaterThan(0);
  });

  it('a flood of pings ends the connection too, and nobody else feels it', async () => {
    const bystander = await join(await authority.node('n2', 'p'), 'n2');
    const node = await join(n1, 'n1');
    const end = closed(node);
    node.stream.on('error', () => undefined);
    for (let i = 0; i < 10; i++) node.stream.write(Buffer.alloc(1_000, Buffer.from([0xc0, 0])));
    await end;
    await bystander.publishAsync('tidepool/v1/nodes/n2/report', 'x', { qos: 1 });
  });

  it.each([
    ['a packet that announces 200 MB', Buffer.from([0x30, 0x80, 0xc2, 0xd7, 0x5f, 1, 2, 3])],
    [
      'a message over the limit',
      Buffer.concat([Buffer.from([0x30, 0x80, 0x90, 0x04]), Buffer.alloc(67_584)]),
    ],
    ['bytes that are no MQTT', Buffer.from('GET / HTTP/1.1\r\n\r\n'.repeat(10))],
    ['a second CONNECT', Buffer.from([0x10, 13, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 30, 0, 1, 0x78])],
    ['a reserved packet', Buffer.from([0xf0, 0])],
    ['a topic of invalid UTF-8', Buffer.from([0x30, 5, 0, 2, 0xff, 0xfe, 0x78])],
  ])('hangs up on %s', async (_what, bytes) => {
    const node = await join(n1, 'n1');
    node.stream.on('error', () => undefined);
    const end = closed(node);
    node.stream.write(bytes);
    await end;
    await join(n1, 'n1');
  });
});
