import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { DataLane, type DataLaneInit } from '../../../../../edge/origin/data-lane/data-lane.ts';
import { UnsizedAnswer } from '../../../../../edge/origin/data-lane/head.ts';
import type { ExchangeInit } from '../../../../../edge/origin/exchange.ts';
import { systemClock } from '../../../../../shared/clock.ts';
import { TEST_CERT, TEST_KEY } from '../../../../support/tls-fixture.ts';

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

/** A server that speaks bytes: `answer` gets each request's text and the connection. */
async function serve(answer: (request: string, socket: Socket) => void, tls = false) {
  const sockets: Socket[] = [];
  const onSocket = (socket: Socket): void => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (data) => answer(data.toString('latin1'), socket));
  };
  const server: Server = tls
    ? createTlsServer({ key: TEST_KEY, cert: TEST_CERT }, onSocket)
    : createServer(onSocket);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { sockets, url: new URL(`${tls ? 'https' : 'http'}://127.0.0.1:${port}/v2/app/blobs/x`) };
}

function lane(init: Partial<DataLaneInit> = {}): DataLane {
  const made = new DataLane(systemClock, {
    connections: 4,
    connectMs: 2_000,
    guard: { lookupFor: () => undefined },
    ...init,
  });
  closing.push(() => made.close());
  return made;
}

function ask(url: URL, init: Partial<ExchangeInit> = {}): ExchangeInit {
  return {
    url,
    method: 'GET',
    headers: { Range: 'bytes=0-' },
    answerMs: 2_000,
    stallMs: 2_000,
    onStall: () => undefined,
    ...init,
  };
}

const sized = (body: string | Buffer): Buffer =>
  Buffer.concat([
    Buffer.from(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n`),
    Buffer.from(body),
  ]);

/** All bytes of an answer, by filling places of `step` bytes; `hold` is waited for after each read. */
async function fillAll(
  exchange: Awaited<ReturnType<DataLane['get']>>,
  step: number,
  hold?: () => Promise<void>,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (;;) {
    const place = Buffer.alloc(step);
    let told = 0;
    const count = await exchange.body.fill?.(place, (bytes) => {
      told += bytes.length;
      return hold?.();
    });
    expect(told).toBe(count);
    if (count === undefined || count === 0) return Buffer.concat(parts);
    parts.push(place.subarray(0, count));
  }
}

describe('DataLane', () => {
  it.each([
    ['plain', false],
    ['TLS', true],
  ])('fills places of any size with a body, over %s', async (_, tls) => {
    const body = Buffer.alloc(700_000, 'tidepool');
    const { url } = await serve((_request, socket) => socket.write(sized(body)), tls);
    const made = lane({ ca: [TEST_CERT] });
    for (const step of [1_000, 65_536, 1_000_000]) {
      expect((await fillAll(await made.get(ask(url)), step)).equals(body)).toBe(true);
    }
  });

  it('refuses a certificate of an authority that it does not know', async () => {
    const { url } = await serve((_request, socket) => socket.write(sized('x')), true);
    await expect(lane().get(ask(url))).rejects.toThrow(/self-signed/);
  });

  it('yields the body in chunks too, and passes interim answers over', async () => {
    const { url } = await serve((_request, socket) => {
      socket.write('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n');
      socket.write(sized('abcdef'));
    });
    const { body } = await lane().get(ask(url));
    expect((await body.readAll(100))?.toString()).toBe('abcdef');
  });

  it('uses a connection again for the next request, and no other one', async () => {
    const requests: string[] = [];
    const { url, sockets } = await serve((request, socket) => {
      requests.push(request);
      socket.write(sized('abc'));
    });
    const made = lane();
    for (let count = 0; count < 5; count++) await fillAll(await made.get(ask(url)), 16);
    expect([requests.length, sockets.length]).toEqual([5, 1]);
    expect(requests[0]).toBe(
      `GET /v2/app/blobs/x HTTP/1.1\r\nhost: ${url.host}\r\nconnection: keep-alive\r\nRange: bytes=0-\r\n\r\n`,
    );
  });

  it('opens no more connections to a host than it may, and goes on when one is free', async () => {
    let answered = 0;
    const { url, sockets } = await serve((_request, socket) => {
      answered++;
      socket.write(sized('abc'));
    });
    const made = lane({ connections: 2 });
    const first = await Promise.all([made.get(ask(url)), made.get(ask(url))]);
    const third = made.get(ask(url));
    await fillAll(first[0], 16);
    await fillAll(await third, 16);
    await fillAll(first[1], 16);
    expect([answered, sockets.length]).toEqual([3, 2]);
  });

  it('opens a new connection where the old one is to be closed, or was', async () => {
    const { url, sockets } = await serve((_request, socket) => {
      socket.end(`HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc`);
    });
    const made = lane();
    for (let count = 0; count < 3; count++) {
      expect((await fillAll(await made.get(ask(url)), 16)).toString()).toBe('abc');
    }
    expect(sockets).toHaveLength(3);
  });

  it('waits for what a reader asks it to wait for before it reads on', async () => {
    const body = Buffer.alloc(400_000, 'x');
    const { url } = await serve((_request, socket) => socket.write(sized(body)));
    let running = 0;
    const hold = async (): Promise<void> => {
      running++;
      expect(running).toBe(1);
      await new Promise((resolve) => setImmediate(resolve));
      running--;
    };
    expect((await fillAll(await lane().get(ask(url)), 150_000, hold)).length).toBe(body.length);
  });

  it('says how much came when a body breaks off, and that another try may help', async () => {
    const { url } = await serve((_request, socket) => {
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc');
    });
    const exchange = await lane().get(ask(url));
    await expect(fillAll(exchange, 100)).rejects.toMatchObject({
      code: 'ORIGIN_ERROR',
      details: { received: 3, retryable: true },
    });
  });

  it('gives a body up that stalls, and says so', async () => {
    let stalls = 0;
    const { url } = await serve((_request, socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc');
    });
    const exchange = await lane().get(ask(url, { stallMs: 50, onStall: () => stalls++ }));
    await expect(fillAll(exchange, 100)).rejects.toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
    expect(stalls).toBe(1);
  });

  it.each([
    ['before the answer', () => undefined],
    ['in the body', (socket: Socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc')],
  ])('ends with its own reason when it is called off %s, and closes the connection', async (_, answer) => {
    const heard = new Promise<Socket>((resolve) => {
      void serve((_request, socket) => {
        answer(socket);
        resolve(socket);
      }).then(({ url }) => begin(url));
    });
    const controller = new AbortController();
    const reason = new Error('not wanted');
    let outcome: Promise<unknown> = Promise.resolve();
    const begin = (url: URL): void => {
      outcome = lane()
        .get(ask(url, { signal: controller.signal }))
        .then((exchange) => fillAll(exchange, 100))
        .catch((error: unknown) => error);
    };
    const socket = await heard;
    const closed = new Promise((resolve) => socket.once('close', resolve));
    setImmediate(() => controller.abort(reason));
    expect(await outcome).toBe(reason);
    await closed;
  });

  it.each([
    ['nothing', '', /closed/],
    ['rubbish', '\x16\x03\x01 what\r\n\r\n', /no HTTP/],
    ['an endless head', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(40_000)}`, /head of over/],
    ['more than announced', 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabc', /more bytes/],
  ])('refuses a server that sends %s', async (_, text, why) => {
    const { url } = await serve((_request, socket) => socket.end(text, 'latin1'));
    await expect(lane().get(ask(url))).rejects.toThrow(why);
  });

  it('says when no answer comes in time', async () => {
    const { url } = await serve(() => undefined);
    await expect(lane().get(ask(url, { answerMs: 30 }))).rejects.toMatchObject({ code: 'ERR_NO_ANSWER' });
  });

  it('leaves an answer without a length to another client', async () => {
    const { url } = await serve((_request, socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n');
    });
    await expect(lane().get(ask(url))).rejects.toBeInstanceOf(UnsizedAnswer);
  });

  it('sends no header that would end its line', async () => {
    const { url, sockets } = await serve(() => undefined);
    const headers = { Authorization: 'Bearer x\r\nHost: elsewhere' };
    await expect(lane().get(ask(url, { headers }))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(sockets).toHaveLength(0);
  });
});
