import { createHash } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HttpRegistryOrigin } from '../../../../edge/origin/http-registry-origin.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { parseDigest } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { errorOf, readAll } from '../../../support/origin-fixture.ts';

const REGISTRY = 'evil.test';
const at = { registry: REGISTRY, repository: 'lab/app' };
const BODY = Buffer.alloc(1_000, 'tidepool');
const DIGEST = parseDigest(`sha256:${createHash('sha256').update(BODY).digest('hex')}`);
const blob = { ...at, digest: DIGEST, start: 0, end: BODY.length };
const manifest = { ...at, reference: 'v1', method: 'GET' } as const;
/** Far below what the senders here would send. */
const MEMORY = 64 * 1024 * 1024;

/** A registry that answers with whatever bytes it likes, for as long as anybody listens. */
class EvilOrigin {
  requests = 0;
  behave: (socket: Socket, head: string) => void = (socket) => socket.end();
  readonly #sockets = new Set<Socket>();
  readonly #server: Server = createServer((socket) => {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      this.requests++;
      this.behave(socket, chunk.toString('latin1'));
    });
  });

  start(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(0, '127.0.0.1', () => resolve()));
  }

  get url(): string {
    const { port }: { port: number } = Object(this.#server.address());
    return `http://127.0.0.1:${port}`;
  }

  get open(): number {
    return this.#sockets.size;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

/** On and on, as fast as the other end takes it. */
function endlessly(socket: Socket, chunk: string): void {
  const more = (): void => {
    while (!socket.destroyed && socket.write(chunk));
  };
  socket.on('drain', more);
  more();
}

describe('a hostile origin', () => {
  let evil: EvilOrigin;
  let origin: HttpRegistryOrigin;
  beforeEach(async () => {
    evil = new EvilOrigin();
    await evil.start();
    origin = new HttpRegistryOrigin(
      { clock: systemClock, log: silentLogger() },
      {
        registries: { [REGISTRY]: { url: evil.url } },
        openRegistries: false,
        timeouts: { answerMs: 700, stallMs: 700 },
      },
    );
  });
  afterEach(async () => {
    await origin.stop();
    await evil.stop();
  });

  const answer = (text: string): void => {
    evil.behave = (socket) => void socket.write(text);
  };
  const ok = (headers: string, body: string | Buffer = BODY): Buffer =>
    Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\n${headers}\r\n`), Buffer.from(body)]);

  it.each([
    ['http://169.254.169.254/latest/meta-data/iam/security-credentials/'],
    ['http://10.255.0.1/'],
    ['http://[::ffff:10.0.0.1]/'],
  ])('that redirects to %s sends the agent nowhere', async (location) => {
    answer(`HTTP/1.1 307 Look Inside\r\nlocation: ${location}\r\ncontent-length: 0\r\n\r\n`);
    for (const call of [() => origin.blob(blob), () => origin.manifest(manifest)]) {
      const error = await errorOf(call());
      expect(error).toMatchObject({ code: 'ORIGIN_ERROR', message: expect.stringContaining('not dialled') });
    }
    expect(evil.requests).toBe(2);
  });

  it('that redirects in a circle is left after five', async () => {
    answer('HTTP/1.1 302 Again\r\nlocation: /v2/lab/app/blobs/again\r\ncontent-length: 0\r\n\r\n');
    expect((await errorOf(origin.blob(blob))).message).toContain('more than 5 times');
    expect(evil.requests).toBe(6);
  });

  it.each([
    ['more bytes than it announces', ok(`content-length: ${BODY.length - 10}\r\n`)],
    ['fewer, and hangs up', ok(`content-length: ${BODY.length + 10}\r\nconnection: close\r\n`)],
    ['two lengths', ok('content-length: 10\r\ncontent-length: 1000\r\n')],
    ['a length that is none', ok('content-length: -1\r\n')],
    ['a length and chunks', ok('content-length: 1000\r\ntransfer-encoding: chunked\r\n', '3e8\r\n')],
    [
      'another range than was asked for',
      Buffer.from('HTTP/1.1 206 X\r\ncontent-range: bytes 5-1004/2000\r\ncontent-length: 1000\r\n\r\n'),
    ],
  ])('that sends %s gives no whole body', async (_, bytes) => {
    evil.behave = (socket) => {
      socket.write(bytes);
      if (bytes.includes('connection: close')) socket.end();
      else setTimeout(() => socket.destroy(), 50);
    };
    const read = async (): Promise<Buffer> => readAll(await origin.blob(blob));
    const ended = await read().then(
      (body) => body,
      (error: { code: string }) => error,
    );
    if (Buffer.isBuffer(ended)) {
      // What was announced and no byte more: the digest does not match, so it counts for nothing.
      expect(ended.length).toBeLessThan(BODY.length);
    } else expect(['ORIGIN_ERROR', 'ORIGIN_LIED', 'ORIGIN_UNREACHABLE']).toContain(ended.code);
  });

  it.each([
    ['a manifest', () => origin.manifest(manifest)],
    ['a list of tags', () => origin.passThrough({ ...at, path: 'tags/list', query: '', method: 'GET' })],
  ])('whose body never ends is left once %s is too long', async (_, call) => {
    const before = process.memoryUsage().rss;
    evil.behave = (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n');
      endlessly(socket, `10000\r\n${'x'.repeat(65_536)}\r\n`);
    };
    expect((await errorOf(call())).code).toMatch(/ORIGIN_/);
    await expect.poll(() => evil.open).toBe(0);
    expect(process.memoryUsage().rss - before).toBeLessThan(MEMORY);
  });

  it.each([
    ['a manifest', () => origin.manifest(manifest)],
    ['a blob', () => origin.blob(blob)],
  ])('whose headers never end is left (%s)', async (_, call) => {
    const before = process.memoryUsage().rss;
    evil.behave = (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      endlessly(socket, `x-more: ${'y'.repeat(1_000)}\r\n`);
    };
    expect((await errorOf(call())).code).toBe('ORIGIN_UNREACHABLE');
    await expect.poll(() => evil.open).toBe(0);
    expect(process.memoryUsage().rss - before).toBeLessThan(MEMORY);
  });

  it.each([
    ['a manifest', () => origin.manifest(manifest)],
    ['a blob', () => origin.blob(blob)],
  ])('that says "wait" without end is left in time (%s)', async (_, call) => {
    evil.behave = (socket) => {
      const timer = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n'), 20);
      socket.on('close', () => clearInterval(timer));
    };
    const begun = performance.now();
    expect((await errorOf(call())).code).toBe('ORIGIN_UNREACHABLE');
    expect(performance.now() - begun).toBeLessThan(5_000);
  });

  it.each([
    ['a manifest', () => origin.manifest(manifest)],
    ['a blob', () => origin.blob(blob)],
  ])('that sends a gzip bomb is refused before a byte of it is unpacked (%s)', async (_, call) => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
    evil.behave = (socket) =>
      void socket.write(ok(`content-encoding: gzip\r\ncontent-length: ${bomb.length}\r\n`, bomb));
    const before = process.memoryUsage().rss;
    expect(await errorOf(call())).toMatchObject({
      code: 'ORIGIN_LIED',
      message: expect.stringContaining('Content-Encoding'),
    });
    expect(process.memoryUsage().rss - before).toBeLessThan(MEMORY);
  });

  it('that sends a gzip bomb in place of a token is refused too', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
    evil.behave = (socket, head) =>
      void socket.write(
        head.startsWith('GET /token')
          ? ok(`content-encoding: gzip\r\ncontent-length: ${bomb.length}\r\n`, bomb)
          : `HTTP/1.1 401 X\r\nwww-authenticate: Bearer realm="${evil.url}/token"\r\ncontent-length: 0\r\n\r\n`,
      );
    expect((await errorOf(origin.manifest(manifest))).code).toBe('ORIGIN_LIED');
  });

  it('that answers with another manifest than its digest says is found out', async () => {
    answer('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}');
    const other = { ...at, reference: DIGEST, method: 'GET' } as const;
    expect((await errorOf(origin.manifest(other))).code).toBe('ORIGIN_LIED');
  });
});
