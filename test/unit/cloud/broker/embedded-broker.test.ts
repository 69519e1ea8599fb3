import net from 'node:net';
import mqtt, { type MqttClient } from 'mqtt';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EmbeddedBroker } from '../../../../cloud/broker/embedded-broker.ts';
import { silentLogger } from '../../../../shared/log.ts';

let broker: EmbeddedBroker;
const clients: MqttClient[] = [];

beforeEach(async () => {
  broker = new EmbeddedBroker({ log: silentLogger() }, { host: '127.0.0.1', port: 0, maxConnections: 4 });
  await broker.start();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.end(true);
  await broker.stop();
});

async function connect(options: mqtt.IClientOptions = {}): Promise<MqttClient> {
  const client = await mqtt.connectAsync(`mqtt://${broker.address}`, {
    protocolVersion: 4,
    reconnectPeriod: 0,
    ...options,
  });
  clients.push(client);
  return client;
}
const hub = (): Promise<MqttClient> => {
  const { username, password } = broker.login;
  return connect({ username, password });
};
const closed = (client: MqttClient): Promise<void> =>
  new Promise((resolve) => client.once('close', () => resolve()));

/** What the broker itself answers; the client's callback tells what was asked for. */
function grants(client: MqttClient, filters: string[]): Promise<readonly unknown[]> {
  return new Promise((resolve) => {
    client.once('packetreceive', (packet) => resolve(packet.cmd === 'suback' ? [...packet.granted] : []));
    client.subscribe(filters, { qos: 1 }, () => undefined);
  });
}

describe('EmbeddedBroker', () => {
  it('carries what nodes say to the hub, and what the hub retains to nodes', async () => {
    const [center, node] = [await hub(), await connect()];
    const heard = new Promise<string>((resolve) => center.on('message', (topic) => resolve(topic)));
    await center.subscribeAsync('tidepool/v1/nodes/+/birth', { qos: 1 });
    await center.publishAsync('tidepool/v1/pools/p/tuning', 'x', { qos: 1, retain: true });
    await node.publishAsync('tidepool/v1/nodes/n1/birth', '{}', { qos: 1 });
    expect(await heard).toBe('tidepool/v1/nodes/n1/birth');
    const retained = new Promise<boolean>((resolve) =>
      node.on('message', (_topic, _payload, { retain }) => resolve(retain)),
    );
    await node.subscribeAsync('tidepool/v1/pools/p/tuning', { qos: 1 });
    expect(await retained).toBe(true);
  });

  it.each([
    ['tidepool/v1/hub/state', false],
    ['tidepool/v1/pools/p/tuning', true],
    ['tidepool/v1/nodes/n1/command', false],
    ['tidepool/v1/nodes/n1/birth', true],
    ['elsewhere', false],
    ['$SYS/x', false],
  ])('hangs up on a node that publishes %s (retained: %s)', async (topic, retain) => {
    const node = await connect();
    const end = closed(node);
    node.publish(topic, 'x', { qos: 1, retain }, () => undefined);
    await end;
  });

  it('refuses who calls himself the hub without the password', async () => {
    await expect(connect({ username: 'hub', password: 'guess' })).rejects.toThrow(/not authorized/i);
    await expect(connect({ username: 'hub' })).rejects.toThrow();
  });

  it('refuses sessions that would queue for an absent client', async () => {
    const socket = net.connect({ host: '127.0.0.1', port: Number(broker.address.split(':')[1]) });
    // CONNECT of MQTT 3.1.1 with clean session off.
    socket.write(Buffer.from([0x10, 13, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 0x00, 0, 30, 0, 1, 0x78]));
    await new Promise<void>((resolve) => socket.once('close', () => resolve()));
    expect(broker.connections).toBe(0);
  });

  it('refuses subscriptions outside its topics, and too many', async () => {
    const node = await connect();
    expect(await grants(node, ['#', '$SYS/#', 'tidepool/v1/hub/state'])).toEqual([128, 128, 1]);
    const more = Array.from({ length: 40 }, (_, index) => `tidepool/v1/pools/p${index}/tuning`);
    const answers = await grants(node, more);
    expect(answers.filter((qos) => qos === 128)).toHaveLength(9);
  });

  it('hangs up on a packet that announces too much, before it has come', async () => {
    await connect();
    const socket = net.connect({ host: '127.0.0.1', port: Number(broker.address.split(':')[1]) });
    await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
    // A CONNECT of 200 MB.
    socket.write(Buffer.from([0x10, 0x80, 0xc2, 0xd7, 0x5f, 1, 2, 3]));
    await new Promise<void>((resolve) => socket.once('close', () => resolve()));
    expect(broker.connections).toBe(1);
  });

  it('survives bytes that are no MQTT', async () => {
    for (const text of ['GET / HTTP/1.1\r\n\r\n', '\u0000\u0000\u0000', '\u00ff'.repeat(100)]) {
      const socket = net.connect({ host: '127.0.0.1', port: Number(broker.address.split(':')[1]) });
      socket.on('error', () => undefined);
      socket.end(Buffer.from(text, 'latin1'));
      await new Promise<void>((resolve) => socket.once('close', () => resolve()));
    }
    await connect();
    expect(broker.connections).toBe(1);
  });

  it('takes no more connections than it may', async () => {
    for (let i = 0; i < 4; i++) await connect();
    const socket = net.connect({ host: '127.0.0.1', port: Number(broker.address.split(':')[1]) });
    await new Promise<void>((resolve) => socket.once('close', () => resolve()));
    expect(broker.connections).toBe(4);
  });

  it('says why it cannot listen', async () => {
    const second = new EmbeddedBroker(
      { log: silentLogger() },
      { host: '127.0.0.1', port: Number(broker.address.split(':')[1]) },
    );
    await expect(second.start()).rejects.toMatchObject({ code: 'EADDRINUSE' });
    await second.stop();
  });
});
