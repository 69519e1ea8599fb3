import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { HEADER, PATHS } from '../../../../edge/peers/wire/paths.ts';
import { encodeAsk, encodeUpstream } from '../../../../edge/peers/wire/piece.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { clientTls } from '../../../../shared/trust/tls.ts';
import type { TlsIdentity } from '../../../../shared/trust/types.ts';
import {
  CLIENT_NODE,
  type ClientFixture,
  codeOf,
  HeldBlob,
  NAME,
  POOL,
  peerClient,
  peerServer,
  SERVER_NODE,
  type ServerFixture,
} from '../../../support/peer-fixture.ts';
import { DAY_MS, TestAuthority, type TestIdentity } from '../../../support/trust.ts';

const MIB = 1024 * 1024;
const WAIT = { timeout: 30_000, interval: 10 };
const OTHER_POOL = 'pool-b';

let authority: TestAuthority;
let stranger: TestAuthority;
beforeAll(async () => {
  [authority, stranger] = await Promise.all([TestAuthority.make(), TestAuthority.make()]);
});

const blob = new HeldBlob(Buffer.alloc(6 * MIB, 'tidepool'), 4 * MIB);
const stops: (() => Promise<void>)[] = [];
let fixture: ServerFixture;
let own: TestIdentity;
beforeEach(async () => {
  own = await authority.node(SERVER_NODE, POOL, { graceMs: DAY_MS });
  fixture = await peerServer([blob], { identity: own });
  stops.push(() => fixture.stop());
});
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

const soon = (): AbortSignal => AbortSignal.timeout(30_000);
const member = (node = SERVER_NODE) => ({ node, address: fixture.address });

async function clientOf(
  node = 'client',
  pool: string = POOL,
): Promise<ClientFixture & { identity: TestIdentity }> {
  const identity = await authority.node(node, pool);
  return { ...client(identity, node, pool), identity };
}

function client(identity: TlsIdentity, node: string = CLIENT_NODE, pool: string = POOL): ClientFixture {
  const made = peerClient({ node, pool, identity });
  stops.push(() => made.client.close());
  return made;
}

function senderLines(node: string = CLIENT_NODE, pool: string = POOL): string {
  return `host: x\r\n${HEADER.node}: ${node}\r\n${HEADER.pool}: ${pool}\r\n${HEADER.address}: 127.0.0.1:2\r\n`;
}

/** What comes back for one request over a connection of somebody's; empty when that is only closed. */
async function askAs(identity: TlsIdentity | undefined, text: string): Promise<string> {
  const { port } = fixture;
  const socket = connect({
    port,
    host: '127.0.0.1',
    ...(identity === undefined ? { rejectUnauthorized: false } : clientTls(identity)),
  });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => undefined);
  const closed = once(socket, 'close');
  socket.write(text, 'latin1');
  await closed;
  return Buffer.concat(chunks).toString('latin1');
}

const get = (path: string, lines = senderLines()): string =>
  `GET ${path} HTTP/1.1\r\n${lines}connection: close\r\n\r\n`;

describe('two members', () => {
  it('ask and answer each other, also pieces, over connections that are kept', async () => {
    const { client, buffers } = await clientOf();
    expect(await client.hello(fixture.address, soon())).toMatchObject({ node: SERVER_NODE, pool: POOL });
    for (const piece of [0, 1, 0]) {
      const answer = await client.piece(member(), blob.ask(piece), soon());
      if (answer.kind !== 'bytes') throw new Error(answer.kind);
      expect(digestOf(answer.buffer.bytes)).toBe(digestOf(blob.piece(piece)));
      answer.buffer.release();
    }
    expect([buffers.lent, fixture.server.refused]).toEqual([0, 0]);
    // The sender hears of the last bytes a moment later than who has them already.
    await expect.poll(() => blob.lent, WAIT).toBe(0);
  });

  it('speak TLS 1.3 and nothing else', async () => {
    const identity = await authority.node('client', POOL);
    const socket = connect({ port: fixture.port, host: '127.0.0.1', ...clientTls(identity) });
    await once(socket, 'secureConnect');
    expect(socket.getProtocol()).toBe('TLSv1.3');
    socket.destroy();
    const old = connect({
      port: fixture.port,
      host: '127.0.0.1',
      ...clientTls(identity),
      minVersion: 'TLSv1.2',
      maxVersion: 'TLSv1.2',
    });
    const [error] = await once(old, 'error');
    expect(String(error)).toMatch(/version|alert/i);
  });
});

describe('the server', () => {
  const path = encodeAsk(blob.ask(0));

  it.each([
    ['without a certificate', () => Promise.resolve(undefined)],
    ['of an authority of its own', () => stranger.node(CLIENT_NODE, POOL)],
    ['of another pool', () => authority.node(CLIENT_NODE, OTHER_POOL)],
    ['with the hub’s certificate', () => authority.hub()],
    [
      'whose certificate ended before the grace',
      () => authority.node(CLIENT_NODE, POOL, { issuedAt: Date.now() - 93 * DAY_MS }),
    ],
  ])('closes the connection of one %s, and reads nothing of it', async (_, make) => {
    expect(await askAs(await make(), get(path))).toBe('');
    expect(fixture.members.view()).toEqual([]);
    expect(blob.lent).toBe(0);
    await expect.poll(() => fixture.server.refused, WAIT).toBe(1);
  });

  it('takes a certificate that ended within the grace', async () => {
    const lapsed = await authority.node(CLIENT_NODE, POOL, { issuedAt: Date.now() - 90.5 * DAY_MS });
    expect(await askAs(lapsed, get(PATHS.hello))).toMatch(/^HTTP\/1.1 200/);
    // The grace ends while the connection stands.
    const socket = await connected(lapsed);
    own.now = () => Date.now() + DAY_MS;
    socket.write(get(PATHS.hello));
    expect(await textOf(socket)).toMatch(/^HTTP\/1.1 403[\s\S]*the grace is over/);
  });

  it.each([
    ['another node', senderLines('other')],
    ['another pool', senderLines(CLIENT_NODE, OTHER_POOL)],
  ])('refuses a member that says it is %s', async (_, lines) => {
    const identity = await authority.node(CLIENT_NODE, POOL);
    expect(await askAs(identity, get(path, lines))).toMatch(/^HTTP\/1.1 403[\s\S]*CERTIFICATE_REFUSED/);
    expect(fixture.members.view()).toEqual([]);
    expect(fixture.server.refused).toBe(1);
  });

  it('lets a pool that names it as upstream read ranges, and nothing else, while it does', async () => {
    const bytes = Buffer.from('0123456789'.repeat(1_000));
    const key = fixture.content.addBlob(bytes);
    const ask = { key, ...NAME, start: 3, end: 9_000 };
    fixture.server.setDownstreams(new Set([OTHER_POOL]));
    const { client: below, identity } = await clientOf('below', OTHER_POOL);
    const chunks: Uint8Array[] = [];
    for await (const chunk of await below.upstream(fixture.address, ask, soon())) chunks.push(chunk);
    expect(Buffer.concat(chunks).equals(bytes.subarray(3, 9_000))).toBe(true);
    for (const other of [path, PATHS.hello, `${PATHS.claims}?key=${blob.key}`]) {
      expect(await askAs(identity, get(other, senderLines('below', OTHER_POOL)))).toMatch(/^HTTP\/1.1 403/);
    }
    expect(fixture.members.view()).toEqual([]);
    const lasting = await connected(identity);
    fixture.server.setDownstreams(new Set());
    lasting.write(get(encodeUpstream(ask), senderLines('below', OTHER_POOL)));
    expect(await textOf(lasting)).toMatch(/^HTTP\/1.1 403[\s\S]*POOL_MISMATCH/);
    expect(await below.upstream(fixture.address, ask, AbortSignal.timeout(30_000)).catch(codeOf)).toBe(
      'PEER_UNREACHABLE',
    );
  });

  it('breaks off a transfer of one whose key is revoked', async () => {
    const large = new HeldBlob(Buffer.alloc(48 * MIB), 64 * MIB);
    await fixture.stop();
    fixture = await peerServer([large], { identity: own });
    const thief = await authority.node(CLIENT_NODE, POOL);
    const socket = await connected(thief);
    socket.pause();
    socket.write(get(encodeAsk(large.ask(0))));
    await expect.poll(() => large.lent, WAIT).toBe(1);
    own.revoke(thief.keyId);
    await expect.poll(() => large.lent, WAIT).toBe(0);
    socket.resume();
    expect((await textOf(socket)).length).toBeLessThan(large.bytes.length);
    expect(await askAs(thief, get(PATHS.hello))).toBe('');
  });

  it('shows its new certificate to new connections, and old ones go on', async () => {
    const identity = await authority.node(CLIENT_NODE, POOL);
    const before = await connected(identity);
    const serial = before.getPeerX509Certificate()?.serialNumber;
    own.replace((await authority.node(SERVER_NODE, POOL)).current());
    const after = await connected(identity);
    expect(after.getPeerX509Certificate()?.serialNumber).not.toBe(serial);
    for (const socket of [before, after]) {
      socket.write(get(PATHS.hello));
      expect(await textOf(socket)).toMatch(/^HTTP\/1.1 200/);
    }
  });
});

describe('the client', () => {
  it('sends nothing to another node than the one that was meant', async () => {
    const { client, buffers } = await clientOf();
    const other = { node: CLIENT_NODE, address: fixture.address };
    expect(await client.piece(other, blob.ask(0), soon()).catch(codeOf)).toBe('PEER_UNREACHABLE');
    expect(await client.leave(other, blob.key, soon()).catch(codeOf)).toBe('PEER_UNREACHABLE');
    expect(fixture.members.view()).toEqual([]);
    expect(buffers.lent).toBe(0);
  });

  it.each([
    ['of an authority of its own', () => stranger.node(SERVER_NODE, POOL)],
    ['of another pool', () => authority.node(SERVER_NODE, OTHER_POOL)],
    ['that is the hub', () => authority.hub()],
  ])('sends nothing to a server %s', async (_, make) => {
    own.replace((await make()).current());
    const { client } = await clientOf();
    expect(await client.piece(member(), blob.ask(0), soon()).catch(codeOf)).toBe('PEER_UNREACHABLE');
    expect(await client.hello(fixture.address, soon()).catch(codeOf)).toBe('PEER_UNREACHABLE');
    expect(blob.lent).toBe(0);
  });

  it('asks upstream of other pools only', async () => {
    const { client } = await clientOf();
    const ask = { key: blob.key, ...NAME, start: 0, end: 10 };
    expect(await client.upstream(fixture.address, ask, soon()).catch(codeOf)).toBe('PEER_UNREACHABLE');
  });

  it('refuses an answer that says another name than its certificate', async () => {
    own.replace((await authority.node('liar', POOL)).current());
    const { client } = await clientOf();
    expect(await client.hello(fixture.address, soon()).catch(codeOf)).toBe('PEER_UNREACHABLE');
  });

  it('shows its new certificate, and questions under way are answered', async () => {
    const { client, identity, buffers } = await clientOf();
    await client.leave(member(), blob.key, soon());
    const [answer] = await Promise.all([
      client.piece(member(), blob.ask(0), soon()),
      client.leave(member(), blob.key, soon()),
      (async () => identity.replace((await authority.node(CLIENT_NODE, POOL)).current()))(),
    ]);
    if (answer.kind === 'bytes') answer.buffer.release();
    // Who is let in by the old key no more loses its connections; there are none of them left in use.
    const after = await client.piece(member(), blob.ask(1), soon());
    if (after.kind === 'bytes') after.buffer.release();
    await client.leave(member(), blob.key, soon());
    expect([after.kind, buffers.lent, fixture.server.refused]).toEqual(['bytes', 0, 0]);
  });

  it('leaves a server whose key is revoked, in the middle of a piece too', async () => {
    const { client, identity, buffers } = await clientOf();
    const held = client.piece(member(), blob.ask(0), soon(), () => {
      identity.revoke(own.keyId);
    });
    expect(await held.catch(codeOf)).toBe('PEER_UNREACHABLE');
    expect(await client.piece(member(), blob.ask(1), soon()).catch(codeOf)).toBe('PEER_UNREACHABLE');
    expect(buffers.lent).toBe(0);
  });

  it('gives up when it is told to during the handshake', async () => {
    const { client } = await clientOf();
    const controller = new AbortController();
    const asked = client.piece(member(), blob.ask(0), controller.signal);
    controller.abort(new Error('enough'));
    await expect(asked).rejects.toThrow('enough');
    await expect.poll(() => blob.lent, WAIT).toBe(0);
  });
});

async function connected(identity: TlsIdentity): Promise<TLSSocket> {
  const socket = connect({ port: fixture.port, host: '127.0.0.1', ...clientTls(identity) });
  socket.on('error', () => undefined);
  // The client's part of the handshake ends before the server has judged.
  socket.write(`GET ${PATHS.hello} HTTP/1.1\r\n${senderLines()}\r\n`);
  await once(socket, 'data');
  return socket;
}

async function textOf(socket: TLSSocket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  if (!socket.closed) await once(socket, 'close');
  return Buffer.concat(chunks).toString('latin1');
}
