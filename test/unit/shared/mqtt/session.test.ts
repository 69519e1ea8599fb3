import { connect as connectTcp, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { EmbeddedBroker } from '../../../../cloud/broker/embedded-broker.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { BrokerTrust } from '../../../../shared/mqtt/broker-stream.ts';
import { MqttSession } from '../../../../shared/mqtt/session.ts';
import { serverTls } from '../../../../shared/trust/tls.ts';
import { eventually } from '../../../support/hub-fixture.ts';
import { TestAuthority, type TestIdentity } from '../../../support/trust.ts';

let authority: TestAuthority;
let n1: TestIdentity;
const closing: (() => Promise<unknown> | unknown)[] = [];

beforeAll(async () => {
  authority = await TestAuthority.make();
  n1 = await authority.node('n1', 'p');
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

interface Opened {
  readonly session: MqttSession;
  readonly log: string[];
}

async function open(
  url: string,
  init: { identity?: TestIdentity; broker?: BrokerTrust; firstConnectSpreadMs?: number } = {},
): Promise<Opened> {
  const log: string[] = [];
  const { identity = n1, broker } = init;
  const session = new MqttSession(
    { clock: systemClock, log: silentLogger(), identity, random: () => 0.5 },
    {
      urls: [url],
      clientId: 'n1',
      keepaliveSeconds: 30,
      backoff: { baseMs: 20, maxMs: 40 },
      firstConnectSpreadMs: 0,
      broker,
    },
    {
      connected: (number) => log.push(`connected ${number}`),
      message: (topic) => log.push(`message ${topic}`),
      disconnected: () => log.push('disconnected'),
    },
  );
  closing.push(() => session.stop());
  await session.start();
  return { session, log };
}

async function startBroker(identity: TestIdentity): Promise<EmbeddedBroker> {
  const broker = new EmbeddedBroker({ log: silentLogger(), identity }, { host: '127.0.0.1', port: 0 });
  await broker.start();
  closing.push(() => broker.stop());
  return broker;
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** Somebody who answers as a broker by another certificate, and keeps what it is told. */
async function startImpostor(
  identity: TestIdentity,
): Promise<{ port: number; heard: () => number; met: () => number }> {
  let heard = 0;
  let met = 0;
  const server = createTlsServer(serverTls(identity), (socket: TLSSocket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      heard += chunk.length;
    });
  });
  server.on('tlsClientError', () => undefined);
  server.on('connection', () => met++);
  return { port: await listen(server), heard: () => heard, met: () => met };
}

const lastError = ({ session }: Opened): Promise<string | undefined> =>
  eventually(
    () => session.state.lastError,
    (error) => error !== undefined,
  );

describe('MqttSession with an identity', () => {
  it('speaks to the hub’s broker, as the node of its certificate', async () => {
    const broker = await startBroker(await authority.hub());
    const { session, log } = await open(broker.url);
    await eventually(
      () => log.join(),
      (all) => all === 'connected 1',
    );
    await session.publish('tidepool/v1/nodes/n1/report', Buffer.from('{}'));
    expect(broker.connections).toBe(1);
  });

  it.each([
    ['another authority’s hub', async () => await (await TestAuthority.make()).hub()],
    ['a node of its own pool', async () => await authority.node('n2', 'p')],
    [
      'a hub whose certificate has ended',
      async () => await authority.hub({ issuedAt: Date.now() - 3_600_000, lifetimeMs: 60_000 }),
    ],
  ])('tells nothing to %s', async (_who, make) => {
    const impostor = await startImpostor(await make());
    const opened = await open(`mqtts://127.0.0.1:${impostor.port}`);
    expect(await lastError(opened)).toMatch(/certificate is refused/);
    await eventually(impostor.met, (count) => count >= 2);
    expect(impostor.heard()).toBe(0);
    expect(opened.log).toEqual([]);
  });

  it('a broker of the site: by the name of a node, or by an authority of the site', async () => {
    const proxied = await startImpostor(await authority.node('broker-1', 'infra'));
    await open(`mqtts://127.0.0.1:${proxied.port}`, { broker: { node: parseNodeName('broker-1') } });
    await eventually(proxied.heard, (bytes) => bytes > 0);
    const other = await open(`mqtts://127.0.0.1:${proxied.port}`, {
      broker: { node: parseNodeName('broker-2') },
    });
    expect(await lastError(other)).toMatch(/broker-1/);

    const site = await TestAuthority.make('site');
    const foreign = await startImpostor(await site.hub());
    await open(`mqtts://127.0.0.1:${foreign.port}`, { broker: { ca: site.root.cert } });
    await eventually(foreign.heard, (bytes) => bytes > 0);
    const wrong = await open(`mqtts://127.0.0.1:${foreign.port}`, { broker: { ca: authority.root.cert } });
    expect(await lastError(wrong)).toMatch(/127\.0\.0\.1/);
    // The right authority, for another host.
    const unnamed = await startImpostor(await site.node('n9', 'x'));
    const elsewhere = await open(`mqtts://127.0.0.1:${unnamed.port}`, { broker: { ca: site.root.cert } });
    expect(await lastError(elsewhere)).toMatch(/127\.0\.0\.1/);
    expect(unnamed.heard()).toBe(0);
  });

  it('a new certificate of its own drops nothing, and is shown at the next connection', async () => {
    const hub = await authority.hub();
    const broker = await startBroker(hub);
    const own = await authority.node('n1', 'p');
    const { session, log } = await open(broker.url, { identity: own });
    await eventually(
      () => log.length,
      (count) => count === 1,
    );
    const first = own.keyId;
    own.replace((await authority.node('n1', 'p')).current());
    await session.publish('tidepool/v1/nodes/n1/report', Buffer.from('{}'));
    expect(log).toEqual(['connected 1']);
    // The old key is over: it is dropped for that, and comes back by the new one.
    hub.revoke(first);
    await eventually(
      () => log.join(),
      (all) => all === 'connected 1,disconnected,connected 2',
    );
  });

  it('leaves a broker whose certificate is revoked while they talk', async () => {
    const hub = await authority.hub();
    const broker = await startBroker(hub);
    const own = await authority.node('n1', 'p');
    const opened = await open(broker.url, { identity: own });
    await eventually(
      () => opened.log.length,
      (count) => count === 1,
    );
    own.revoke(hub.keyId);
    await eventually(
      () => opened.log.join(),
      (all) => all.startsWith('connected 1,disconnected'),
    );
    await eventually(
      () => opened.session.state.lastError,
      (error) => /revoked/.test(error ?? ''),
    );
  });

  it('refuses a plain address', async () => {
    await expect(open('mqtt://127.0.0.1:1')).rejects.toThrow(/plain connection; write mqtts/);
  });

  it('stops in the middle of a handshake', async () => {
    const server = createTcpServer((socket) => socket.on('error', () => undefined));
    const port = await listen(server);
    let met = 0;
    server.on('connection', () => met++);
    const { session } = await open(`mqtts://127.0.0.1:${port}`);
    await eventually(
      () => met,
      (count) => count === 1,
    );
    await session.stop();
    const socket = connectTcp(port, '127.0.0.1');
    await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
    socket.destroy();
    expect(met).toBeLessThanOrEqual(2);
  });

  it('hangs up on a broker that announces a packet of 200 MB', async () => {
    const hub = await authority.hub();
    let met = 0;
    const server = createTlsServer(serverTls(hub), (socket: TLSSocket) => {
      met++;
      socket.on('error', () => undefined);
      socket.once('data', () => socket.write(Buffer.from([0x20, 2, 0, 0, 0x30, 0x80, 0xc2, 0xd7, 0x5f, 1])));
    });
    const { log } = await open(`mqtts://127.0.0.1:${await listen(server)}`);
    await eventually(
      () => met,
      (count) => count >= 2,
    );
    expect(log.slice(0, 2)).toEqual(['connected 1', 'disconnected']);
  });
});
