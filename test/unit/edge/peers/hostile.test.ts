/** Peers that mean harm, from before the handshake to after it: each is bounded in connections, memory and time. */
import { once } from 'node:events';
import { connect as connectPlain, type Socket } from 'node:net';
import { connect } from 'node:tls';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { HEADER, PATHS } from '../../../../edge/peers/wire/paths.ts';
import { encodeAsk } from '../../../../edge/peers/wire/piece.ts';
import { clientTls } from '../../../../shared/trust/tls.ts';
import {
  CLIENT_NODE,
  HeldBlob,
  NAME,
  POOL,
  peerClient,
  peerServer,
  SERVER_NODE,
  type ServerFixture,
  type ServerInit,
} from '../../../support/peer-fixture.ts';
import { TestAuthority, type TestIdentity } from '../../../support/trust.ts';

const MIB = 1024 * 1024;
const WAIT = { timeout: 30_000, interval: 20 };

let authority: TestAuthority;
let insider: TestIdentity;
let fixture: ServerFixture;
const sockets: Socket[] = [];
beforeAll(async () => {
  authority = await TestAuthority.make();
  insider = await authority.node(CLIENT_NODE, POOL);
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await fixture.stop();
});

async function serve(limits: ServerInit['limits'] = {}, blobs: HeldBlob[] = []): Promise<void> {
  fixture = await peerServer(blobs, { identity: await authority.node(SERVER_NODE, POOL), limits });
}

function raw(): Socket {
  const socket = connectPlain(fixture.port, '127.0.0.1');
  socket.on('error', () => undefined);
  sockets.push(socket);
  return socket;
}

async function inside(): Promise<Socket> {
  const socket = connect({ port: fixture.port, host: '127.0.0.1', ...clientTls(insider) });
  socket.on('error', () => undefined);
  sockets.push(socket);
  await once(socket, 'secureConnect');
  return socket;
}

/** All that comes until the server hangs up. */
async function until(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1').slice(0, 10_000);
  });
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
  return text;
}

const head = (method: string, path: string): string =>
  `${method} ${path} HTTP/1.1\r\nhost: x\r\n${HEADER.node}: ${CLIENT_NODE}\r\n${HEADER.pool}: ${POOL}\r\n${HEADER.address}: 127.0.0.1:2\r\n`;

async function honestHello(): Promise<string> {
  const { client } = peerClient({ identity: insider });
  try {
    return (await client.hello(fixture.address, AbortSignal.timeout(30_000))).node;
  } finally {
    await client.close();
  }
}

describe('a stranger', () => {
  it('that opens thousands of connections and says nothing keeps few of them, and nobody out', async () => {
    await serve({ maxHandshakesPerAddress: 32 });
    for (let n = 0; n < 2_000; n++) {
      const socket = raw();
      if (n % 100 === 99) await once(socket, 'connect');
    }
    expect(await honestHello()).toBe(SERVER_NODE);
    await expect.poll(() => fixture.server.refused, WAIT).toBeGreaterThanOrEqual(1_968);
    await expect.poll(() => sockets.filter((each) => !each.closed).length, WAIT).toBeLessThanOrEqual(32);
  });

  it('that does not end its handshake, or drips it, is hung up on', async () => {
    await serve({ handshakeTimeoutMs: 200 });
    const silent = raw();
    const dripping = raw();
    await once(dripping, 'connect');
    dripping.write(Buffer.from([0x16, 3, 1, 1]));
    await Promise.all([until(silent), until(dripping)]);
  });

  it('that speaks HTTP, or rubbish, is hung up on', async () => {
    await serve();
    for (const text of [`${head('GET', PATHS.hello)}\r\n`, '\0'.repeat(10_000)]) {
      const socket = raw();
      socket.write(text);
      expect(await until(socket)).not.toContain('HTTP');
    }
    expect(await honestHello()).toBe(SERVER_NODE);
  });
});

describe('a member', () => {
  it('has so many connections and no more', async () => {
    await serve({ maxConnectionsPerNode: 4 });
    for (let n = 0; n < 20; n++) await inside();
    await expect.poll(() => fixture.server.refused, WAIT).toBe(16);
    await expect.poll(() => sockets.filter((each) => !each.closed).length, WAIT).toBe(4);
  });

  it('with an endless head, or a dripping one, is hung up on', async () => {
    await serve({ headersTimeoutMs: 1_500, requestTimeoutMs: 2_000 });
    const endless = await inside();
    endless.write(head('GET', PATHS.hello));
    endless.write(`x: ${'y'.repeat(64 * 1024)}`);
    expect(await until(endless)).toMatch(/^(HTTP\/1.1 431|$)/);
    const dripping = await inside();
    dripping.write('GET ');
    expect(await until(dripping)).toMatch(/^(HTTP\/1.1 408|$)/);
  });

  it('with an endless body, or a dripping one, is refused', async () => {
    await serve({ headersTimeoutMs: 1_500, requestTimeoutMs: 2_000 });
    const endless = await inside();
    endless.write(`${head('POST', PATHS.join)}transfer-encoding: chunked\r\n\r\n`);
    const chunk = `10000\r\n${'1'.repeat(0x10000)}\r\n`;
    const pour = (): void => {
      while (!endless.destroyed && endless.write(chunk));
    };
    endless.on('drain', pour);
    pour();
    expect(await until(endless)).toMatch(/^(HTTP\/1.1 400|$)/);
    expect(endless.bytesWritten).toBeLessThan(64 * MIB);
    const dripping = await inside();
    dripping.write(`${head('POST', PATHS.join)}content-length: 100\r\n\r\n{`);
    expect(await until(dripping)).toMatch(/^(HTTP\/1.1 (408|400)|$)/);
  });

  it('with 10,000 claims, or a have-map of another size, is refused and remembered for nothing', async () => {
    await serve();
    const blob = new HeldBlob(Buffer.alloc(MIB));
    const join = {
      key: blob.key,
      size: 1024 * MIB * 1024,
      pieceSize: MIB,
      ...NAME,
      ranked: true,
      weight: 1,
      have: Buffer.alloc((1024 * 1024) / 8).toString('base64'),
      claimed: [] as number[],
    };
    const bodies = [
      { ...join, claimed: Array.from({ length: 10_000 }, (_, n) => n) },
      { ...join, have: Buffer.alloc(100_000).toString('base64') },
      { ...join, have: 'A'.repeat(230_000) },
      { ...join, size: 1, claimed: [1] },
    ];
    for (const body of bodies) {
      const socket = await inside();
      const text = JSON.stringify(body);
      const length = `content-length: ${Buffer.byteLength(text)}\r\n`;
      socket.write(`${head('POST', PATHS.join)}connection: close\r\n${length}\r\n${text}`);
      expect(await until(socket)).toMatch(/^HTTP\/1.1 400/);
    }
  });

  it('that takes a piece too slowly is hung up on, and the lease is free', async () => {
    const large = new HeldBlob(Buffer.alloc(48 * MIB), 64 * MIB);
    await serve({ sendTimeoutMs: 300 }, [large]);
    const socket = await inside();
    socket.pause();
    socket.write(`${head('GET', encodeAsk(large.ask(0)))}\r\n`);
    await expect.poll(() => large.lentTotal, WAIT).toBeGreaterThan(0);
    await expect.poll(() => large.lent, WAIT).toBe(0);
    expect(large.lentTotal).toBeLessThan(48);
  });
});
