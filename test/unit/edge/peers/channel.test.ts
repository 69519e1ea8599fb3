/** The answering end of a channel, and what it bounds. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import {
  encodeAskHead,
  encodeOpening,
  encodeWithdrawal,
  OPENED,
  parseAskHead,
  WITHDRAWN,
} from '../../../../edge/peers/channel-wire.ts';
import { MAX_ASKS_PER_CHANNEL } from '../../../../edge/peers/constants.ts';
import { HEADER, PATHS } from '../../../../edge/peers/wire/paths.ts';
import { encodeAsk } from '../../../../edge/peers/wire/piece.ts';
import { isTidepoolError } from '../../../../shared/errors.ts';
import {
  CLIENT_NODE,
  HeldBlob,
  POOL,
  peerServer,
  type ServerFixture,
  type ServerInit,
} from '../../../support/peer-fixture.ts';

const MIB = 1024 * 1024;
const WAIT = { timeout: 30_000, interval: 10 };
const blob = new HeldBlob(Buffer.alloc(600_000, 'tidepool'));

let fixture: ServerFixture;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await fixture.stop();
});

function sender(pool: string = POOL): string {
  return `${HEADER.node}: ${CLIENT_NODE}\r\n${HEADER.pool}: ${pool}\r\n${HEADER.address}: 127.0.0.1:2\r\n`;
}

/** A connection and all that has come over it. */
class Line {
  readonly socket: Socket;
  text = '';

  constructor(opening = encodeOpening('x', sender())) {
    this.socket = connect(fixture.port, '127.0.0.1');
    sockets.push(this.socket);
    this.socket.on('error', () => undefined);
    this.socket.on('data', (chunk: Buffer) => {
      this.text += chunk.toString('latin1');
    });
    this.socket.write(opening);
  }

  ask(number: number, path: string): void {
    this.socket.write(encodeAskHead(number, { method: 'GET', path }));
  }

  /** Status of the answer to that ask. */
  statusOf(number: number): number {
    return Number(new RegExp(`HTTP/1\\.1 (\\d+)\\r\\n${HEADER.ask}: ${number}\\r\\n`).exec(this.text)?.[1]);
  }

  async closed(): Promise<void> {
    if (!this.socket.closed) await once(this.socket, 'close');
  }
}

async function serve(init: ServerInit = {}, blobs: readonly HeldBlob[] = [blob]): Promise<void> {
  fixture = await peerServer(blobs, init);
}

describe('a channel', () => {
  it('answers what is asked with its opening, and after', async () => {
    await serve();
    const first = encodeAskHead(7, { method: 'GET', path: PATHS.hello });
    const line = new Line(encodeOpening('x', sender()) + first);
    await expect.poll(() => line.statusOf(7), WAIT).toBe(200);
    expect(line.text.startsWith(OPENED)).toBe(true);
    line.ask(8, encodeAsk(blob.ask(0)));
    await expect.poll(() => line.text.length, WAIT).toBeGreaterThan(blob.piece(0).length);
    expect(line.statusOf(8)).toBe(200);
    await expect.poll(() => blob.lent, WAIT).toBe(0);
  });

  it.each([
    ['another pool', sender('pool-b'), 403],
    ['who names nobody', '', 400],
  ])('refuses %s, ask by ask', async (_, lines, status) => {
    await serve();
    const line = new Line(encodeOpening('x', lines));
    line.ask(1, PATHS.hello);
    await expect.poll(() => line.statusOf(1), WAIT).toBe(status);
    expect(fixture.members.view()).toEqual([]);
  });

  it.each([
    ['to something else', encodeOpening('x', sender()).replace(/upgrade: .*/, 'upgrade: websocket')],
    ['at another path', encodeOpening('x', sender()).replace(PATHS.channel, PATHS.hello)],
  ])('is not opened by an upgrade %s', async (_, opening) => {
    await serve();
    const line = new Line(opening);
    await line.closed();
    expect(line.text).toMatch(/^HTTP\/1\.1 400/);
  });

  it.each([
    ['no ask', 'rubbish\r\n\r\n'],
    ['an ask without a number', `GET ${PATHS.hello} HTTP/1.1\r\n\r\n`],
    ['an endless head', `GET /${'x'.repeat(20_000)}`],
    ['an endless body', `POST ${PATHS.join} HTTP/1.1\r\n${HEADER.ask}: 1\r\ncontent-length: ${MIB}\r\n\r\n`],
  ])('with %s is hung up on', async (_, text) => {
    await serve();
    const line = new Line();
    line.socket.write(text);
    await line.closed();
    expect(line.text).toBe(OPENED);
  });

  it('on which an ask does not come to its end is hung up on', async () => {
    await serve({ limits: { headersTimeoutMs: 100, requestTimeoutMs: 100 } });
    const [dripping, quiet] = [new Line(), new Line()];
    dripping.socket.write('GET ');
    await dripping.closed();
    expect(quiet.socket.destroyed).toBe(false);
  });

  it('holds so many asks and no more, and a number once', async () => {
    const large = new HeldBlob(Buffer.alloc(48 * MIB), 64 * MIB);
    await serve({}, [large]);
    for (const numberOf of [(n: number) => n, () => 1]) {
      const line = new Line();
      line.socket.pause();
      for (let n = 0; n <= MAX_ASKS_PER_CHANNEL; n++) line.ask(numberOf(n), encodeAsk(large.ask(0)));
      // One body is written at a time, and the next begins with the end of it: no more is lent.
      expect(large.lent).toBeLessThanOrEqual(2);
      line.socket.resume();
      await line.closed();
      await expect.poll(() => large.lent, WAIT).toBe(0);
    }
  });

  it('answers a withdrawn ask by nothing, and goes on', async () => {
    const large = new HeldBlob(Buffer.alloc(8 * MIB), 64 * MIB);
    await serve({}, [large]);
    const line = new Line();
    line.socket.pause();
    line.ask(1, encodeAsk(large.ask(0)));
    line.ask(2, encodeAsk(large.ask(0)));
    line.ask(3, PATHS.hello);
    line.socket.write(encodeWithdrawal(2));
    await expect.poll(() => large.lentTotal, WAIT).toBeGreaterThan(0);
    line.socket.resume();
    // The short answer may overtake the long one.
    await expect
      .poll(() => [line.statusOf(1), line.statusOf(2), line.statusOf(3), large.lentTotal], WAIT)
      .toEqual([200, WITHDRAWN, 200, 8]);
    await expect.poll(() => large.lent, WAIT).toBe(0);
    expect(large.lentTotal).toBe(8);
  });
});

describe('the head of an ask', () => {
  it('is read as it was written', () => {
    const ask = { method: 'POST', path: '/v1/join', body: Buffer.from('{}') } as const;
    expect(parseAskHead(encodeAskHead(3, ask).slice(0, -4))).toEqual({
      kind: 'ask',
      number: 3,
      method: 'POST',
      path: '/v1/join',
      length: 2,
    });
    expect(parseAskHead(encodeWithdrawal(3).slice(0, -4))).toEqual({ kind: 'withdraw', number: 3 });
  });

  it.each([
    '',
    'GET / HTTP/1.0',
    'PUT / HTTP/1.1\r\ntidepool-ask: 1',
    'GET / HTTP/1.1\r\ntidepool-ask: 1\r\nx: 1',
  ])('is refused when it is %j', (text) => {
    const error = (() => {
      try {
        return parseAskHead(text);
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(isTidepoolError(error, 'INVALID_ARGUMENT')).toBe(true);
  });
});
