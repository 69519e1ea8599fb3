import type { Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { Member } from '../../../../edge/peers/types.ts';
import { digestOf } from '../../../../shared/ids.ts';
import {
  type ClientFixture,
  codeOf,
  HeldBlob,
  HostileServer,
  NAME,
  peerClient,
  peerServer,
  pour,
  SERVER_NODE,
  type ServerFixture,
} from '../../../support/peer-fixture.ts';

const WAIT = { timeout: 30_000, interval: 10 };
const blob = new HeldBlob(Buffer.alloc(600_000, 'tidepool'));

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function honest(): Promise<ServerFixture> {
  const fixture = await peerServer([blob]);
  stops.push(() => fixture.stop());
  return fixture;
}

async function hostile(behave: (socket: Socket, head: string) => void): Promise<HostileServer> {
  const server = new HostileServer(behave);
  await server.start();
  stops.push(() => server.stop());
  return server;
}

function newClient(init: Parameters<typeof peerClient>[0] = {}): ClientFixture {
  const fixture = peerClient(init);
  stops.push(() => fixture.client.close());
  return fixture;
}

function at(address: string): Member {
  return { node: SERVER_NODE, address };
}

function soon(): AbortSignal {
  return AbortSignal.timeout(30_000);
}

describe('a question to a neighbour', () => {
  const join = {
    key: blob.key,
    size: blob.layout.size,
    pieceSize: blob.layout.pieceSize,
    ...NAME,
    ranked: true,
    weight: 1,
    have: new Uint8Array(1),
    claimed: [],
  };
  const json = (value: unknown): string => {
    const body = JSON.stringify(value);
    return `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  };

  it('is answered by a neighbour that is well', async () => {
    const fixture = await honest();
    const { client } = newClient();
    const member = at(fixture.address);
    expect(await client.hello(fixture.address, soon())).toMatchObject({ node: SERVER_NODE, pool: 'pool-a' });
    expect(await client.join(member, join, soon())).toMatchObject({
      onBlob: false,
      whole: true,
      claimed: [],
    });
    expect(await client.progress(member, blob.key, NAME, soon())).toEqual({
      originBytes: 0,
      pieces: new Map(),
    });
    const claims = await client.claims(member, blob.key, NAME, soon());
    expect(claims).toHaveLength(32 * blob.layout.pieceCount);
    expect(await client.claims(member, digestOf(Buffer.from('?')), NAME, soon())).toBeUndefined();
    const bytes = Buffer.from('{"schemaVersion":2}');
    const digest = digestOf(bytes);
    expect(await client.manifest(member, digest, NAME, soon())).toBeUndefined();
    fixture.index.manifests.put({ digest, mediaType: 'application/x', bytes });
    expect(await client.manifest(member, digest, NAME, soon())).toMatchObject({
      digest,
      mediaType: 'application/x',
    });
    expect(
      await client.holdings(member, [digest, blob.key, digestOf(Buffer.from('?'))], NAME, soon()),
    ).toEqual([digest, blob.key]);
    const tag = { ...NAME, tag: 'v1', digest, originAt: 5 };
    fixture.index.tags.put(tag);
    expect(await client.tags(member, { ...NAME, tag: 'v1' }, soon())).toEqual([tag]);
    const wish = { wants: true, wantsPrefetch: false, using: 0, usingPrefetch: 0, usingMs: 0 };
    expect(await client.lease(member, wish, soon())).toMatchObject({ granted: false });
    await client.leave(member, blob.key, soon());
    const digestOfRange = fixture.content.addBlob(blob.bytes);
    const range = { key: digestOfRange, ...NAME, start: 5, end: 400_000 };
    const parts: Uint8Array[] = [];
    for await (const chunk of await client.upstream(fixture.address, range, soon())) parts.push(chunk);
    expect(Buffer.compare(Buffer.concat(parts), blob.bytes.subarray(5, 400_000))).toBe(0);
  });

  const wrong: readonly [string, (socket: Socket) => void][] = [
    ['a closed door', (socket) => socket.destroy()],
    ['rubbish', (socket) => socket.write('rubbish\r\n\r\n')],
    ['no JSON', (socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{{')],
    ['JSON of another kind', (socket) => socket.write(json([1, 2]))],
    ['an error', (socket) => socket.write('HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n')],
    [
      'headers beyond measure',
      (socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`),
    ],
    ['a body cut short', (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{"node"')],
    [
      'an endless body',
      (socket) => pour(socket, 'HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n', ' '.repeat(65_536)),
    ],
    [
      'endless chunks',
      (socket) =>
        pour(
          socket,
          'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n',
          `400\r\n${' '.repeat(1_024)}\r\n`,
        ),
    ],
    [
      'ten thousand claims',
      (socket) => {
        socket.write(
          json({ onBlob: true, weight: 1, whole: false, have: 'AA==', claimed: Array(10_000).fill(0) }),
        );
      },
    ],
    [
      'ten thousand members',
      (socket) => {
        const members = Array.from({ length: 10_000 }, () => ({ node: 'a', address: '1.1.1.1:1' }));
        socket.write(json({ node: 'a', pool: 'b', address: '1.1.1.1:1', members }));
      },
    ],
  ];

  it.each(wrong)('that answers with %s fails with a code, and ends the connection', async (_, behave) => {
    const server = await hostile(behave);
    const { client } = newClient();
    const questions = [
      client.hello(server.address, soon()),
      client.join(at(server.address), join, soon()),
      client.progress(at(server.address), blob.key, NAME, soon()),
    ];
    for (const result of await Promise.allSettled(questions)) {
      if (result.status === 'fulfilled') throw new Error('taken for an answer');
      expect(codeOf(result.reason)).toBe('PEER_UNREACHABLE');
    }
    await client.close();
    await expect.poll(() => server.open, WAIT).toBe(0);
  });

  it('that is not answered ends when the asker says so, with nothing left open', async () => {
    const server = await hostile(() => undefined);
    const { client } = newClient();
    const controller = new AbortController();
    const why = new Error('not wanted');
    const questions = [
      client.hello(server.address, controller.signal),
      client.upstream(server.address, { key: blob.key, ...NAME, start: 0, end: 5 }, controller.signal),
    ];
    await expect.poll(() => server.connections, WAIT).toBe(2);
    controller.abort(why);
    for (const result of await Promise.allSettled(questions)) expect(result).toMatchObject({ reason: why });
    await expect.poll(() => server.open, WAIT).toBe(0);
  });

  it('about a manifest is not answered with another', async () => {
    const server = await hostile((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: a/b\r\ncontent-length: 2\r\n\r\n{}');
    });
    const { client } = newClient();
    const other = digestOf(Buffer.from('[]'));
    await expect(client.manifest(at(server.address), other, NAME, soon())).rejects.toMatchObject({
      code: 'PIECE_CORRUPT',
    });
    const right = digestOf(Buffer.from('{}'));
    expect(await client.manifest(at(server.address), right, NAME, soon())).toMatchObject({ digest: right });
  });
});
