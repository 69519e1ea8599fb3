import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { PeerServer } from '../../../../edge/peers/server.ts';
import { HEADER, PATHS } from '../../../../edge/peers/wire/paths.ts';
import { encodeAsk, encodeUpstream } from '../../../../edge/peers/wire/piece.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { askRaw } from '../../../support/http-client.ts';
import {
  CLIENT_NODE,
  HeldBlob,
  NAME,
  POOL,
  peerClient,
  peerServer,
  type ServerFixture,
} from '../../../support/peer-fixture.ts';

const MIB = 1024 * 1024;
const WAIT = { timeout: 30_000, interval: 10 };

let fixture: ServerFixture;
afterEach(() => fixture.stop());

function senderLines(pool: string = POOL): string {
  return `host: x\r\n${HEADER.node}: ${CLIENT_NODE}\r\n${HEADER.pool}: ${pool}\r\n${HEADER.address}: 127.0.0.1:2\r\n`;
}

/** One request, as a neighbour sends it; the answer's status and body. */
async function ask(
  method: string,
  path: string,
  { body, pool, headers }: { body?: unknown; pool?: string; headers?: string } = {},
): Promise<{ status: number; text: string }> {
  const payload = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  const answer = await askRaw(
    fixture.port,
    `${method} ${path} HTTP/1.1\r\n${headers ?? senderLines(pool)}connection: close\r\n` +
      `content-length: ${Buffer.byteLength(payload)}\r\n\r\n${payload}`,
  );
  return {
    status: Number(answer.split(' ')[1] ?? 0),
    text: answer.slice(answer.indexOf('\r\n\r\n') + 4),
  };
}

/** A connection that has sent a request and reads nothing of the answer. */
async function deafNeighbour(path: string): Promise<Socket> {
  const socket = connect(fixture.port, '127.0.0.1').pause();
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.write(`GET ${path} HTTP/1.1\r\n${senderLines()}\r\n`);
  return socket;
}

describe('a neighbour that goes away', () => {
  it('in the middle of a piece gives the lease back that it was sent from', async () => {
    // Larger than what the kernel takes in for a reader that does not read.
    const blob = new HeldBlob(Buffer.alloc(48 * MIB), 64 * MIB);
    fixture = await peerServer([blob]);
    for (let round = 0; round < 3; round++) {
      const socket = await deafNeighbour(encodeAsk(blob.ask(0)));
      await expect.poll(() => blob.lent, WAIT).toBe(1);
      // It has come to a standstill: nobody reads.
      await expect.poll(() => blob.lentTotal, WAIT).toBeGreaterThan(1);
      socket.destroy();
      await expect.poll(() => blob.lent, WAIT).toBe(0);
    }
    expect(blob.lentTotal).toBeLessThan(3 * 48);
  });

  it('in the middle of a range for another pool gives back lease and reader', async () => {
    fixture = await peerServer();
    const bytes = Buffer.alloc(48 * MIB);
    const key = fixture.content.addBlob(bytes);
    fixture.content.leaseBytes = MIB;
    const socket = await deafNeighbour(encodeUpstream({ key, ...NAME, start: 0, end: bytes.length }));
    await expect.poll(() => fixture.content.lent, WAIT).toBe(1);
    socket.destroy();
    await expect.poll(() => [fixture.content.lent, fixture.content.readers], WAIT).toEqual([0, 0]);
    expect(fixture.content.doubleReleases).toBe(0);
    expect(fixture.content.lentTotal).toBeLessThan(48);
  });

  it('and does not stop others from being served', async () => {
    const blob = new HeldBlob(Buffer.alloc(48 * MIB, 3), 64 * MIB);
    const small = new HeldBlob(Buffer.alloc(300_000, 7));
    fixture = await peerServer([blob, small]);
    const deaf = await Promise.all(Array.from({ length: 10 }, () => deafNeighbour(encodeAsk(blob.ask(0)))));
    const { client } = peerClient();
    const answer = await client.piece(
      { node: CLIENT_NODE, address: fixture.address },
      small.ask(0),
      AbortSignal.timeout(30_000),
    );
    expect(answer.kind).toBe('bytes');
    for (const socket of deaf) socket.destroy();
    await client.close();
    await expect.poll(() => [blob.lent, small.lent], WAIT).toEqual([0, 0]);
  });
});

describe('a request', () => {
  const blob = new HeldBlob(Buffer.alloc(300_000, 7));
  const key = `key=${blob.key}`;
  const name = new URLSearchParams(NAME).toString();
  const join = {
    key: blob.key,
    size: blob.layout.size,
    pieceSize: blob.layout.pieceSize,
    ...NAME,
    ranked: true,
    weight: 1,
    have: 'AA==',
    claimed: [],
  };
  const lease = { wants: true, wantsPrefetch: false, using: 0, usingPrefetch: 0, usingMs: 0 };
  const questions = [
    ['GET', PATHS.hello, undefined],
    ['POST', PATHS.join, join],
    ['POST', PATHS.leave, { key: blob.key }],
    ['GET', encodeAsk(blob.ask(0)), undefined],
    ['GET', `${PATHS.progress}?${key}&${name}`, undefined],
    ['GET', `${PATHS.claims}?${key}&${name}`, undefined],
    ['GET', `${PATHS.manifest}?digest=${blob.key}&${name}`, undefined],
    ['GET', `${PATHS.tags}?${name}&tag=v1`, undefined],
    ['POST', `${PATHS.holdings}?${name}`, [blob.key]],
    ['GET', `${PATHS.access}?${name}`, undefined],
    ['POST', PATHS.grants, []],
    ['POST', PATHS.lease, lease],
  ] as const;

  it.each(questions)('%s %.20s of another pool gets 403 and teaches nothing', async (method, path, body) => {
    fixture = await peerServer([blob]);
    const refused = await ask(method, path, { body, pool: 'pool-b' });
    expect(refused.status).toBe(403);
    expect(JSON.parse(refused.text)).toMatchObject({ code: 'POOL_MISMATCH' });
    expect(fixture.members.view()).toEqual([]);
    const own = await ask(method, path, { body });
    expect(own.status).toBe(path.startsWith(PATHS.manifest) ? 404 : 200);
    expect(fixture.members.names()).toContain(CLIENT_NODE);
    expect(blob.lent).toBe(0);
  });

  it('for a range is answered to another pool, which is no neighbour for it', async () => {
    fixture = await peerServer();
    const bytes = Buffer.from('0123456789'.repeat(1_000));
    const digest = fixture.content.addBlob(bytes);
    const path = encodeUpstream({ key: digest, ...NAME, start: 3, end: 9_000 });
    expect(await ask('GET', path, { pool: 'pool-b' })).toEqual({
      status: 200,
      text: bytes.subarray(3, 9_000).toString(),
    });
    expect(fixture.members.view()).toEqual([]);
    const past = encodeUpstream({ key: digest, ...NAME, start: 3, end: 10_001 });
    expect((await ask('GET', past, { pool: 'pool-b' })).status).toBe(416);
  });

  it.each([
    ['without a sender', 'GET', PATHS.hello, { headers: 'host: x\r\n' }, 400],
    ['with a sender that is no name', 'GET', PATHS.hello, { pool: '../x' }, 400],
    ['for what is not there', 'GET', '/v1/nothing', {}, 404],
    ['by another method', 'DELETE', PATHS.join, {}, 404],
    ['whose body is no JSON', 'POST', PATHS.join, { body: '{"key":' }, 400],
    [
      'with ten thousand claims',
      'POST',
      PATHS.join,
      { body: { ...join, claimed: Array(10_000).fill(0) } },
      400,
    ],
    ['of a piece past the end', 'GET', encodeAsk(blob.ask(0)).replace('piece=0', 'piece=99'), {}, 400],
    [
      'of another layout',
      'GET',
      encodeAsk(blob.ask(0, { layout: { ...blob.layout, pieceSize: 65_536 } })),
      {},
      409,
    ],
    [
      'of a blob that is not here',
      'GET',
      encodeAsk({ ...blob.ask(0), key: digestOf(Buffer.from('?')) }),
      {},
      409,
    ],
  ] as const)('%s is refused with a reason', async (_, method, path, init, status) => {
    fixture = await peerServer([blob]);
    const answer = await ask(method, path, init);
    expect(answer.status).toBe(status);
    const reason: unknown = JSON.parse(answer.text);
    expect(reason).toMatchObject({ kind: 'refused', code: expect.any(String), message: expect.any(String) });
    expect((await ask('GET', PATHS.hello)).status).toBe(200);
  });

  it('that is rubbish, has an endless head, or an endless body, is refused before it has cost much', async () => {
    fixture = await peerServer([blob]);
    expect(await askRaw(fixture.port, '\x16\x03\x01\x02rubbish\r\n\r\n')).toMatch(/^HTTP\/1\.1 400/);
    expect(await askRaw(fixture.port, `GET / HTTP/1.1\r\nhost: ${'x'.repeat(40_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431/,
    );
    const socket = connect(fixture.port, '127.0.0.1');
    socket.on('error', () => undefined);
    let sent = 0;
    // What is still being written when the server closes fails: that ends the connection too.
    const answered = new Promise((resolve) => socket.once('data', resolve));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write(`POST ${PATHS.join} HTTP/1.1\r\n${senderLines()}content-length: 99999999999\r\n\r\n`);
    const pour = (): void => {
      while (!socket.destroyed && socket.write(Buffer.alloc(64 * 1024, 32))) sent += 64 * 1024;
    };
    socket.on('drain', pour);
    pour();
    expect(String(await answered)).toMatch(/^HTTP\/1\.1 400/);
    // The connection ends with that: it is of no use, and holds what the kernel has of the body.
    await closed;
    // What is read of it is bounded; the rest lies in the kernel's buffers.
    expect(sent).toBeLessThan(64 * MIB);
    expect((await ask('GET', PATHS.hello)).status).toBe(200);
  });
});

describe('the server', () => {
  it('says which setting to change when its port is taken', async () => {
    fixture = await peerServer();
    const { service, stats, port } = fixture;
    const twin = new PeerServer(
      { service, stats, clock: systemClock, log: silentLogger() },
      { host: '127.0.0.1', port },
    );
    await expect(twin.start()).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringMatching(/cannot listen on 127\.0\.0\.1:\d+: .*EADDRINUSE.*--peer-port/),
    });
  });

  it('sends a piece in parts, releases each, and counts what it has sent', async () => {
    const bytes = Buffer.alloc(5 * MIB);
    for (let offset = 0; offset < bytes.length; offset += 4) bytes.writeUInt32LE(offset, offset);
    const blob = new HeldBlob(bytes, 4 * MIB);
    fixture = await peerServer([blob]);
    const { client, buffers } = peerClient();
    const member = { node: CLIENT_NODE, address: fixture.address };
    for (const piece of [0, 1, 0]) {
      const answer = await client.piece(member, blob.ask(piece), AbortSignal.timeout(30_000));
      if (answer.kind !== 'bytes') throw new Error(answer.kind);
      expect(Buffer.compare(answer.buffer.bytes, blob.piece(piece))).toBe(0);
      expect(answer.claim).toMatchObject({ reader: 'server', verified: true });
      answer.buffer.release();
    }
    expect([buffers.lent, buffers.lentTotal]).toEqual([0, 3]);
    await expect.poll(() => blob.lent, WAIT).toBe(0);
    expect(fixture.stats.servedPeerBytes).toBe(9 * MIB);
    await client.close();
  });

  it('keeps its cap on what it sends, and lets go of who waits for it', async () => {
    const blob = new HeldBlob(Buffer.alloc(300_000, 7));
    fixture = await peerServer([blob]);
    fixture.server.setUploadRate(1);
    const { client, buffers } = peerClient();
    const member = { node: CLIENT_NODE, address: fixture.address };
    await expect(client.piece(member, blob.ask(0), AbortSignal.timeout(200))).rejects.toThrow(/timeout/i);
    // A question and its answer later the server has seen that the first asker is gone.
    await client.hello(fixture.address, AbortSignal.timeout(30_000));
    expect(blob.lentTotal).toBe(0);
    fixture.server.setUploadRate(undefined);
    const answer = await client.piece(member, blob.ask(0), AbortSignal.timeout(30_000));
    if (answer.kind === 'bytes') answer.buffer.release();
    expect([answer.kind, buffers.lent]).toEqual(['bytes', 0]);
    await expect.poll(() => fixture.stats.servedPeerBytes, WAIT).toBe(262_144);
    await client.close();
  });

  it('stops with asks under way, and leaves neither listener nor connection', async () => {
    const blob = new HeldBlob(Buffer.alloc(48 * MIB), 64 * MIB);
    fixture = await peerServer([blob]);
    const socket = await deafNeighbour(encodeAsk(blob.ask(0)));
    await expect.poll(() => blob.lent, WAIT).toBe(1);
    const closed = once(socket.resume(), 'close');
    await fixture.server.stop();
    await closed;
    await expect.poll(() => blob.lent, WAIT).toBe(0);
    expect(fixture.server.listening).toBe(false);
    await expect(once(connect(fixture.port, '127.0.0.1'), 'connect')).rejects.toThrow(/ECONNREFUSED/);
  });
});
