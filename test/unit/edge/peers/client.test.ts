import { getEventListeners, setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { ASKS_PER_CHANNEL, PIECE_STALL_MS } from '../../../../edge/peers/constants.ts';
import type { Member, PieceAnswer } from '../../../../edge/peers/types.ts';
import { encodeClaim } from '../../../../edge/peers/wire/piece.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import {
  type ClientFixture,
  codeOf,
  HeldBlob,
  HostileServer,
  peerClient,
  peerServer,
  pour,
  SERVER_NODE,
  type ServerFixture,
} from '../../../support/peer-fixture.ts';

const WAIT = { timeout: 30_000, interval: 10 };
const blob = new HeldBlob(Buffer.alloc(600_000, 'tidepool'));
const LENGTH = blob.piece(0).length;
const CLAIM = Object.entries(encodeClaim(blob.claim(0)))
  .map(([name, value]) => `${name}: ${value}\r\n`)
  .join('');

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

/** Asks for piece 0 and answers with the code of what it fails with; checks that nothing is left behind. */
async function failure(server: HostileServer, fixture = newClient(), open = 0): Promise<string> {
  const controller = new AbortController();
  const answer: unknown = await fixture.client
    .piece(at(server.address), blob.ask(0), controller.signal)
    .catch((error: unknown) => error);
  expect(fixture.buffers.lent).toBe(0);
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
  await expect.poll(() => server.open, WAIT).toBe(open);
  return codeOf(answer);
}

function release(answer: PieceAnswer): PieceAnswer['kind'] {
  if (answer.kind === 'bytes') answer.buffer.release();
  return answer.kind;
}

describe('a piece', () => {
  it('comes as it is, over connections that are kept, and the buffer is the caller’s', async () => {
    const { address } = await honest();
    const { client, buffers } = newClient();
    for (let round = 0; round < 20; round++) {
      const piece = round % blob.layout.pieceCount;
      let counted = 0;
      const answer = await client.piece(at(address), blob.ask(piece), soon(), (count) => {
        counted += count;
      });
      if (answer.kind !== 'bytes') throw new Error(answer.kind);
      expect(buffers.lent).toBe(1);
      expect(Buffer.compare(answer.buffer.bytes, blob.piece(piece))).toBe(0);
      expect(counted).toBe(answer.buffer.bytes.length);
      answer.buffer.release();
    }
    expect(buffers).toMatchObject({ lent: 0, lentTotal: 20 });
  });

  it('goes over one connection with all others, and is answered in any order', async () => {
    const held: (() => void)[] = [];
    const server = await hostile((socket, head) => {
      const piece = Number(/piece=(\d+)/.exec(head)?.[1]);
      const number = /tidepool-ask: (\d+)/.exec(head)?.[1];
      // Written at once with its number, which this neighbour then has no say in.
      const text = JSON.stringify({ kind: 'elsewhere', node: `node-${piece}` });
      const answer = `HTTP/1.1 421\r\ntidepool-ask: ${number}\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
      held.push(() => socket.write(Buffer.from(answer)));
      if (held.length === 5) for (const each of held.reverse()) each();
      if (held.length > 5) held.at(-1)?.();
    });
    const { client } = newClient();
    const ask = async (piece: number) => {
      const large = { ...blob.ask(0), piece };
      const answer = await client.piece(at(server.address), large, soon());
      return answer.kind === 'elsewhere' ? answer.node : answer.kind;
    };
    expect(await Promise.all([0, 1, 2, 1, 0].map(ask))).toEqual(
      [0, 1, 2, 1, 0].map((piece) => `node-${piece}`),
    );
    for (let n = 0; n < 10; n++) expect(await ask(n % 3)).toBe(`node-${n % 3}`);
    expect(server.connections).toBe(1);
  });

  it('that is refused, or is elsewhere, is said to be, and takes no buffer', async () => {
    const { address } = await honest();
    const { client, buffers } = newClient();
    const unknown = { ...blob.ask(0), key: digestOf(Buffer.from('?')) };
    expect(await client.piece(at(address), unknown, soon())).toMatchObject({
      kind: 'refused',
      code: 'NOT_ON_BLOB',
    });
    const server = await hostile((socket) => {
      const body = JSON.stringify({ kind: 'elsewhere', node: 'node-c', fed: true });
      socket.write(`HTTP/1.1 421 Misdirected\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
    });
    expect(await client.piece(at(server.address), blob.ask(0), soon())).toEqual({
      kind: 'elsewhere',
      node: 'node-c',
      fed: true,
    });
    expect(buffers.lentTotal).toBe(0);
  });

  it('of another pool is refused', async () => {
    const { address } = await honest();
    const { client, buffers } = newClient({ pool: 'pool-b' });
    expect(await client.piece(at(address), blob.ask(0), soon())).toMatchObject({
      kind: 'refused',
      code: 'POOL_MISMATCH',
    });
    await expect(client.hello(address, soon())).rejects.toMatchObject({ code: 'POOL_MISMATCH' });
    expect(buffers.lentTotal).toBe(0);
  });

  it('that is not wanted any more, and has not begun, is withdrawn; the channel stays', async () => {
    let asked = 0;
    const server = await hostile(() => void asked++);
    const { client, buffers } = newClient();
    const controller = new AbortController();
    const answer = client.piece(at(server.address), blob.ask(0), controller.signal);
    await expect.poll(() => [server.connections, asked], WAIT).toEqual([1, 1]);
    const why = new Error('not wanted');
    controller.abort(why);
    await expect(answer).rejects.toBe(why);
    await expect.poll(() => server.withdrawn, WAIT).toBe(1);
    expect([buffers.lentTotal, server.open]).toEqual([0, 1]);
  });

  it('that is not wanted any more, and comes all the same, is passed over', async () => {
    const bytes = Buffer.from(blob.piece(0));
    const answers: (() => void)[] = [];
    const server = await hostile((socket) => {
      answers.push(() => {
        socket.write(`HTTP/1.1 200\r\n${CLAIM}content-length: ${LENGTH}\r\n\r\n`);
        socket.write(bytes);
      });
    });
    const { client, buffers } = newClient();
    const controller = new AbortController();
    const left = client.piece(at(server.address), blob.ask(0), controller.signal).catch(() => 'left');
    const wanted = client.piece(at(server.address), blob.ask(0), soon());
    await expect.poll(() => answers.length, WAIT).toBe(2);
    controller.abort();
    for (const answer of answers) answer();
    expect([await left, release(await wanted)]).toEqual(['left', 'bytes']);
    expect([buffers.lentTotal, server.connections]).toEqual([1, 1]);
  });

  it('that is not wanted any more, and has begun, takes the channel with it; other asks go over a new one', async () => {
    const confirmed = `HTTP/1.1 204\r\n${CLAIM}\r\n`;
    let asked = 0;
    const server = await hostile((socket) => {
      asked++;
      if (asked === 1) socket.write(`HTTP/1.1 200\r\n${CLAIM}content-length: ${LENGTH}\r\n\r\nsome bytes`);
      if (asked > 2) socket.write(confirmed);
    });
    const { client, buffers } = newClient();
    const controller = new AbortController();
    let begun = 0;
    const answer = client.piece(at(server.address), blob.ask(0), controller.signal, (count) => {
      begun += count;
    });
    const other = client.piece(at(server.address), blob.ask(0), soon());
    await expect.poll(() => [begun, asked], WAIT).toEqual([10, 2]);
    const why = new Error('not wanted');
    controller.abort(why);
    await expect(answer).rejects.toBe(why);
    expect((await other).kind).toBe('confirmed');
    await expect.poll(() => [buffers.lent, server.open, server.connections], WAIT).toEqual([0, 1, 2]);
  });

  it('is asked for a bounded number of times; one more fails at once, and who never answers is left', async () => {
    const server = await hostile(() => undefined);
    const { client } = newClient();
    const controller = new AbortController();
    setMaxListeners(0, controller.signal);
    const asks = Array.from({ length: ASKS_PER_CHANNEL }, () =>
      client.piece(at(server.address), blob.ask(0), controller.signal).catch((error: unknown) => error),
    );
    await expect(client.piece(at(server.address), blob.ask(0), soon())).rejects.toMatchObject({
      code: 'OVERLOADED',
    });
    controller.abort(new Error('enough'));
    await Promise.all(asks);
    await expect.poll(() => server.open, WAIT).toBe(0);
    const again = client.piece(at(server.address), blob.ask(0), AbortSignal.timeout(100));
    await expect(again).rejects.toThrow(/timeout/i);
  });

  it('is waited for while its sender is held to a cap of ours', async () => {
    const { address } = await honest();
    const { client, buffers } = newClient();
    client.setDownloadRate(1);
    await expect(client.piece(at(address), blob.ask(0), AbortSignal.timeout(150))).rejects.toThrow(
      /timeout/i,
    );
    expect(buffers.lent).toBe(0);
    client.setDownloadRate(undefined);
    expect(release(await client.piece(at(address), blob.ask(0), soon()))).toBe('bytes');
    expect(buffers.lent).toBe(0);
  });
});

describe('a neighbour that answers an ask for a piece with', () => {
  const head = (length: number | string, lines = CLAIM): string =>
    `HTTP/1.1 200 OK\r\n${lines}content-length: ${length}\r\n\r\n`;
  const cases: readonly [string, string, (socket: Socket) => void][] = [
    ['nothing and a closed door', 'PEER_UNREACHABLE', (socket) => socket.end()],
    ['a reset', 'PEER_UNREACHABLE', (socket) => socket.resetAndDestroy()],
    ['rubbish', 'PEER_UNREACHABLE', (socket) => socket.write('\x16\x03\x01 rubbish\r\n\r\n')],
    ['another protocol', 'PEER_UNREACHABLE', (socket) => socket.write('220 smtp ready\r\n\r\n')],
    ['half a head', 'PEER_UNREACHABLE', (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-le')],
    ['an endless head', 'PEER_UNREACHABLE', (socket) => pour(socket, 'HTTP/1.1 200 OK\r\n', 'x: y\r\n')],
    ['one endless line', 'PEER_UNREACHABLE', (socket) => pour(socket, 'HTTP/1.1 200 OK\r\nx: ', 'y')],
    ['no length', 'PEER_UNREACHABLE', (socket) => socket.write(`HTTP/1.1 200 OK\r\n${CLAIM}\r\nbytes`)],
    ['a length that is none', 'PEER_UNREACHABLE', (socket) => socket.write(head('-5'))],
    [
      'chunks',
      'PEER_UNREACHABLE',
      (socket) => socket.write(`HTTP/1.1 200 OK\r\n${CLAIM}transfer-encoding: chunked\r\n\r\n5\r\nbytes`),
    ],
    ['too little', 'PIECE_CORRUPT', (socket) => socket.write(`${head(5)}bytes`)],
    ['far too much', 'PIECE_CORRUPT', (socket) => pour(socket, head(900_000_000_000), 'x'.repeat(65_536))],
    ['a body cut short', 'PEER_UNREACHABLE', (socket) => socket.end(`${head(LENGTH)}bytes`)],
    [
      'an endless refusal',
      'PEER_UNREACHABLE',
      (socket) =>
        pour(socket, 'HTTP/1.1 409 Conflict\r\ncontent-length: 999999999\r\n\r\n', 'x'.repeat(65_536)),
    ],
  ];

  it.each(cases)('%s is told apart as %s', async (_, code, behave) => {
    const server = await hostile(behave);
    expect(await failure(server)).toBe(code);
  });

  // Where one answer ends and the next begins is plain all the same: others that are out may be good.
  const wrong: readonly [string, string, string][] = [
    ['other bytes than its claim', 'PIECE_CORRUPT', head(LENGTH) + 'x'.repeat(LENGTH)],
    [
      'a refusal that is no JSON',
      'PEER_UNREACHABLE',
      'HTTP/1.1 409 Conflict\r\ncontent-length: 4\r\n\r\n{{{{',
    ],
  ];
  it.each(wrong)('%s is told apart as %s, and the channel stays', async (_, code, text) => {
    const server = await hostile((socket) => void socket.write(text));
    expect(await failure(server, newClient(), 1)).toBe(code);
  });

  const odd: readonly [string, string][] = [
    ['bytes without a claim', head(LENGTH, '')],
    ['a claim that is no digest', head(LENGTH, CLAIM.replace(/[0-9a-f]{64}/, 'zz'))],
    ['a reader that is no name', head(LENGTH, CLAIM.replace('server', '../..'))],
    ['a referral to no name', 'HTTP/1.1 421 Misdirected\r\ncontent-length: 14\r\n\r\n{"node":"../"}'],
    ['a referral without a name', 'HTTP/1.1 421 Misdirected\r\ncontent-length: 2\r\n\r\n{}'],
    ['a referral that is null', 'HTTP/1.1 421 Misdirected\r\ncontent-length: 4\r\n\r\nnull'],
    ['a confirmation without a claim', 'HTTP/1.1 204 No Content\r\n\r\n'],
  ];
  it.each(odd)('%s fails with a code, and leaves nothing behind', async (_, text) => {
    const { client, buffers } = newClient();
    const server = await hostile((socket) => void socket.write(text));
    const answer: unknown = await client
      .piece(at(server.address), blob.ask(0), soon())
      .catch((error: unknown) => error);
    expect(codeOf(answer)).toBe('PEER_UNREACHABLE');
    expect(buffers.lent).toBe(0);
  });

  it('more bytes than it announced never has them taken for the next answer', async () => {
    const bytes = Buffer.from(blob.piece(0));
    const server = await hostile((socket) => {
      socket.write(head(LENGTH));
      socket.write(bytes);
      socket.write(`${head(LENGTH)}${'x'.repeat(LENGTH)}`);
    });
    const { client, buffers } = newClient();
    for (let round = 0; round < 10; round++) {
      const answer: unknown = await client
        .piece(at(server.address), blob.ask(0), soon())
        .then((piece) => {
          if (piece.kind !== 'bytes') throw new Error(piece.kind);
          const right = Buffer.compare(piece.buffer.bytes, bytes) === 0;
          piece.buffer.release();
          return right;
        })
        .catch((error: unknown) => codeOf(error));
      expect([true, 'PEER_UNREACHABLE', 'PIECE_CORRUPT']).toContain(answer);
    }
    expect(buffers.lent).toBe(0);
  });

  it.each([
    ['nothing after its head', ''],
    ['nothing after some bytes', 'bytes'],
  ])('%s is given up after a bounded silence', async (_, beginning) => {
    const clock = new ManualClock();
    const server = await hostile((socket) => void socket.write(head(LENGTH) + beginning));
    const fixture = newClient({ clock });
    const failed = failure(server, fixture);
    await expect.poll(() => fixture.buffers.lent, WAIT).toBe(1);
    await expect.poll(() => clock.timers, WAIT).toBeGreaterThan(0);
    clock.advance(2 * PIECE_STALL_MS);
    expect(await failed).toBe('PEER_STALLED');
    // No watch runs on for what is over.
    expect(clock.timers).toBe(0);
  });

  it('its piece slowly is waited for: a thin link is no fault', async () => {
    const clock = new ManualClock();
    const bytes = Buffer.from(blob.piece(0));
    let send: (end: number) => void = () => undefined;
    const server = await hostile((socket) => {
      let sent = 0;
      socket.write(head(LENGTH));
      send = (end) => {
        socket.write(bytes.subarray(sent, end));
        sent = end;
      };
    });
    const { client } = newClient({ clock });
    let got = 0;
    const answer = client.piece(at(server.address), blob.ask(0), soon(), (count) => {
      got += count;
    });
    await expect.poll(() => clock.timers, WAIT).toBe(1);
    for (let part = 1; part <= 8; part++) {
      clock.advance(0.8 * PIECE_STALL_MS);
      const end = Math.ceil((part * LENGTH) / 8);
      send(end);
      await expect.poll(() => got, WAIT).toBe(end);
    }
    expect(release(await answer)).toBe('bytes');
    expect(clock.timers).toBe(0);
  });

  it('nobody at home fails at once', async () => {
    const server = await hostile(() => undefined);
    await server.stop();
    stops.pop();
    const { client } = newClient();
    const error: unknown = await client
      .piece(at(server.address), blob.ask(0), soon())
      .catch((e: unknown) => e);
    expect(codeOf(error)).toBe('PEER_UNREACHABLE');
  });
});
