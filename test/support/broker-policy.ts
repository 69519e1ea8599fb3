/** What a broker has to hold to, whichever it is: run against the embedded one and against others by their rules. */
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { type IClientOptions, MqttClient } from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { clientTls } from '../../shared/trust/tls.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import { TestAuthority, type TestIdentity } from './trust.ts';

export interface BrokerUnderTest {
  readonly port: number;
  close(): Promise<void>;
}

/** Nodes that brokers under test are told of, with their pools. */
export const POLICY_NODES = { n1: 'p', n2: 'p', n3: 'q' } as const;

/** Speaks MQTT as whoever the identity is; rejects when the broker does not take that. */
export function connectAs(
  identity: TlsIdentity,
  port: number,
  options: IClientOptions = {},
): Promise<MqttClient> {
  const stream = (): TLSSocket => connectTls({ ...clientTls(identity), host: '127.0.0.1', port });
  const client = new MqttClient(stream, {
    protocolId: 'MQTT',
    protocolVersion: 4,
    reconnectPeriod: 0,
    connectTimeout: 5_000,
    keepalive: 30,
    resubscribe: false,
    reconnectOnConnackError: true,
    ...options,
  });
  return new Promise((resolve, reject) => {
    let why: unknown = new Error('the broker hung up');
    client.once('error', (error) => {
      why = error;
    });
    client.on('error', () => undefined);
    client.once('connect', () => resolve(client));
    client.once('close', () => {
      client.end(true);
      reject(why);
    });
  });
}

/** What the broker itself answers: 128 is a refusal. */
export function grants(client: MqttClient, filters: readonly string[]): Promise<readonly unknown[]> {
  return new Promise((resolve) => {
    const look = (packet: { cmd: string; granted?: unknown }): void => {
      if (packet.cmd !== 'suback') return;
      client.off('packetreceive', look);
      resolve(Array.isArray(packet.granted) ? packet.granted : []);
    };
    client.on('packetreceive', look);
    client.subscribe([...filters], { qos: 1 }, () => undefined);
  });
}

/** Runs the policy's tests against what `start` makes. */
export function describeBrokerPolicy(
  name: string,
  start: (authority: TestAuthority, hub: TestIdentity) => Promise<BrokerUnderTest>,
): void {
  describe(`broker policy: ${name}`, () => {
    let authority: TestAuthority;
    let hub: TestIdentity;
    let broker: BrokerUnderTest;
    let n1: TestIdentity;
    let n2: TestIdentity;
    let n3: TestIdentity;
    const clients: MqttClient[] = [];
    const open = async (identity: TlsIdentity, options: IClientOptions): Promise<MqttClient> => {
      const client = await connectAs(identity, broker.port, options);
      clients.push(client);
      return client;
    };
    const asHub = (): Promise<MqttClient> => open(hub, { clientId: `hub-${clients.length}` });

    beforeAll(async () => {
      authority = await TestAuthority.make();
      hub = await authority.hub();
      n1 = await authority.node('n1', POLICY_NODES.n1);
      n2 = await authority.node('n2', POLICY_NODES.n2);
      n3 = await authority.node('n3', POLICY_NODES.n3);
      broker = await start(authority, hub);
    });
    afterEach(() => {
      for (const client of clients.splice(0)) client.end(true);
    });
    afterAll(async () => {
      await broker?.close();
    });

    it('carries what a node says to the hub, and what the hub says to the node and its pool', async () => {
      const center = await asHub();
      const node = await open(n1, { clientId: 'n1' });
      const heard = new Promise<string>((resolve) => center.once('message', (topic) => resolve(topic)));
      await center.subscribeAsync('tidepool/v1/nodes/+/birth', { qos: 1 });
      await node.publishAsync('tidepool/v1/nodes/n1/birth', '{}', { qos: 1 });
      expect(await heard).toBe('tidepool/v1/nodes/n1/birth');
      const told: string[] = [];
      const all = new Promise<void>((resolve) =>
        node.on('message', (topic) => {
          if (told.push(topic) === 3) resolve();
        }),
      );
      expect(
        await grants(node, [
          'tidepool/v1/hub/state',
          'tidepool/v1/nodes/n1/command',
          'tidepool/v1/pools/p/tuning',
          'tidepool/v1/pools/p/roster/+',
          'tidepool/v1/pools/p/trust',
        ]),
      ).toEqual([1, 1, 1, 1, 1]);
      for (const topic of ['hub/state', 'nodes/n1/command', 'pools/p/roster/0']) {
        await center.publishAsync(`tidepool/v1/${topic}`, 'x', { qos: 1 });
      }
      await all;
      expect(told.sort()).toEqual([
        'tidepool/v1/hub/state',
        'tidepool/v1/nodes/n1/command',
        'tidepool/v1/pools/p/roster/0',
      ]);
    });

    it.each([
      'tidepool/v1/nodes/n2/birth',
      'tidepool/v1/nodes/n2/report',
      'tidepool/v1/nodes/n1/command',
      'tidepool/v1/hub/state',
      'tidepool/v1/pools/p/tuning',
      'tidepool/v1/pools/p/trust',
      'elsewhere',
    ])('what a node publishes on %s reaches nobody', async (topic) => {
      const center = await asHub();
      const heard: string[] = [];
      const end = new Promise<void>((resolve) =>
        center.on('message', (on, payload) => {
          heard.push(`${on} ${payload}`);
          if (payload.toString() === 'end') resolve();
        }),
      );
      await center.subscribeAsync('tidepool/v1/#', { qos: 1 });
      const node = await open(n1, { clientId: 'n1' });
      node.publish(topic, 'forged', { qos: 1 }, () => undefined);
      // Behind it on the same connection, or after that has ended.
      await new Promise<void>((resolve) => {
        node.once('close', () => resolve());
        node.publish('tidepool/v1/nodes/n1/report', 'own', { qos: 1 }, () => resolve());
      });
      await center.publishAsync('tidepool/v1/hub/state', 'end', { qos: 1 });
      await end;
      expect(heard.filter((each) => each.endsWith('forged'))).toEqual([]);
    });

    it('another pool, other nodes, and filters that match more are not read', async () => {
      const center = await asHub();
      const stranger = await open(n3, { clientId: 'n3' });
      const heard: string[] = [];
      stranger.on('message', (topic) => heard.push(topic));
      await grants(stranger, [
        '#',
        'tidepool/v1/#',
        'tidepool/v1/+/+/+',
        'tidepool/v1/pools/+/tuning',
        'tidepool/v1/pools/p/tuning',
        'tidepool/v1/pools/p/#',
        'tidepool/v1/nodes/+/report',
        'tidepool/v1/nodes/n1/command',
        'tidepool/v1/nodes/#',
        'tidepool/v1/hub/state',
      ]);
      for (const topic of ['pools/p/tuning', 'pools/p/prefetch/j', 'nodes/n1/command', 'nodes/n1/report']) {
        await center.publishAsync(`tidepool/v1/${topic}`, 'secret', { qos: 1 });
      }
      const end = new Promise<void>((resolve) =>
        stranger.on('message', (topic) => topic === 'tidepool/v1/hub/state' && resolve()),
      );
      await center.publishAsync('tidepool/v1/hub/state', 'x', { qos: 1 });
      await end;
      expect(heard.filter((topic) => topic !== 'tidepool/v1/hub/state')).toEqual([]);
    });

    it('a will counts as what it says, not as what its owner says', async () => {
      const center = await asHub();
      const heard: string[] = [];
      const left = new Promise<void>((resolve) =>
        center.on('message', (topic, payload) => {
          heard.push(`${topic} ${payload}`);
          if (payload.toString() === 'own') resolve();
        }),
      );
      await center.subscribeAsync('tidepool/v1/#', { qos: 1 });
      const will = (payload: string) =>
        ({
          topic: 'tidepool/v1/nodes/n1/death',
          payload: Buffer.from(payload),
          qos: 1,
          retain: false,
        }) as const;
      const liar = await open(n2, { clientId: 'n2', will: will('forged') }).catch(() => undefined);
      liar?.stream.destroy();
      const honest = await open(n1, { clientId: 'n1', will: will('own') });
      honest.stream.destroy();
      await left;
      expect(heard).toEqual(['tidepool/v1/nodes/n1/death own']);
    });

    it('nobody takes the place of a node by its client id', async () => {
      const node = await open(n1, { clientId: 'n1' });
      const thief = await open(n3, { clientId: 'n1' }).catch(() => undefined);
      // Still there, and still the one that is told.
      await node.publishAsync('tidepool/v1/nodes/n1/report', 'own', { qos: 1 });
      expect(node.connected).toBe(true);
      thief?.end(true);
    });

    it('the newest connection of a node is the one that stays', async () => {
      const first = await open(n1, { clientId: 'n1' });
      const gone = new Promise<void>((resolve) => first.once('close', () => resolve()));
      const second = await open(n1, { clientId: 'n1' });
      await gone;
      await second.publishAsync('tidepool/v1/nodes/n1/report', 'own', { qos: 1 });
    });

    it('strangers, and certificates that have ended or are of another authority, are not let in', async () => {
      const other = await TestAuthority.make('test authority');
      const ended = await authority.node('n1', 'p', { issuedAt: Date.now() - 3_600_000, lifetimeMs: 60_000 });
      await expect(open(await other.node('n1', 'p'), { clientId: 'n1' })).rejects.toThrow();
      await expect(open(await other.hub(), { clientId: 'h' })).rejects.toThrow();
      await expect(open(ended, { clientId: 'n1' })).rejects.toThrow();
      const naked = connectTls({ host: '127.0.0.1', port: broker.port, rejectUnauthorized: false });
      naked.on('error', () => undefined);
      naked.resume();
      await new Promise<void>((resolve) => naked.once('close', () => resolve()));
    });
  });
}
