import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { MirrorInit } from '../../../../edge/mirror/mirror.ts';
import { ask, askRaw } from '../../../support/http-client.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { type MirrorFixture, patternBytes, startMirror, until } from '../../../support/mirror-fixture.ts';

const blob = patternBytes(300_000);
const started: MirrorFixture[] = [];

async function setUp(init: Partial<MirrorInit> = {}, parts = {}): Promise<MirrorFixture> {
  const fixture = await startMirror(init, parts);
  started.push(fixture);
  return fixture;
}

afterEach(async () => {
  for (const { content, mirror } of started.splice(0)) {
    await mirror.stop();
    expect([content.lent, content.doubleReleases]).toEqual([0, 0]);
  }
});

function gate(): { opened: Promise<void>; open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

describe('what a request may be', () => {
  it('headers over 16 KiB are 431 with a body that says so', async () => {
    const { port } = await setUp();
    const text = await askRaw(port, `GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Long: ${'a'.repeat(17_000)}\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1\.1 431 /);
    expect(text).toMatch(/\r\nConnection: close\r\n/);
    const body = text.slice(text.indexOf('\r\n\r\n') + 4);
    expect(text).toContain(`\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`);
    expect(JSON.parse(body).errors[0].message).toBe("the request's headers are longer than 16384 bytes");
  });

  it('rubbish is 400 with an OCI body', async () => {
    const { port } = await setUp();
    const text = await askRaw(port, 'hello\r\n\r\n');
    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(text).toContain('{"errors":[{"code":"UNSUPPORTED"');
  });

  it('headers that never end are 400, not 408', async () => {
    const { port } = await setUp({ headersMs: 100 });
    expect(await askRaw(port, 'GET /v2/ HTTP/1.1\r\nHost: x\r\n')).toMatch(/^HTTP\/1\.1 400 /);
  });

  it('a long URL is 400', async () => {
    const { port } = await setUp();
    expect((await ask(port, `/v2/${'a'.repeat(9000)}`)).status).toBe(400);
  });

  it.each([
    ['GET /v2/', 400],
    ['POST /v2/app/blobs/uploads/', 405],
  ])('%s with a body is %i, and the connection ends unread', async (line, status) => {
    const { port } = await setUp();
    const text = await askRaw(port, `${line} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc`);
    expect(text).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(text).toMatch(/\r\nConnection: close\r\n/);
  });

  it('an Expect that nobody knows does no harm', async () => {
    const { port } = await setUp();
    expect((await ask(port, '/v2/', { headers: { Expect: 'something' } })).status).toBe(200);
  });
});

describe('how much at a time', () => {
  it('300 requests at once are all served, a bounded number of bodies at a time', async () => {
    const { content, port } = await setUp({ maxStreams: 8 });
    const digest = content.addBlob(blob);
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, index) =>
        ask(port, `/v2/app/blobs/${digest}`, {
          headers: index % 2 === 0 ? {} : { Range: `bytes=${index}-` },
        }),
      ),
    );
    answers.forEach(({ body, status }, index) => {
      expect(status).toBe(index % 2 === 0 ? 200 : 206);
      expect(body.equals(index % 2 === 0 ? blob : blob.subarray(index))).toBe(true);
    });
    expect(content.readersPeak).toBeLessThanOrEqual(8);
    expect(content.lentPeak).toBeLessThanOrEqual(16);
  });

  it('one request too many is 503, and the next is welcome once there is room', async () => {
    const { content, mirror, port } = await setUp({ maxRequests: 3 });
    const { opened, open } = gate();
    content.addManifest(Buffer.from('{}'), 'text/plain', 'docker.io/app:x');
    content.onAsk = () => opened;
    const held = [1, 2, 3].map(() => ask(port, '/v2/app/manifests/x'));
    await until(() => mirror.stats.snapshot().active === 3, 'three are under way');
    const refused = await ask(port, '/v2/app/manifests/x');
    expect(refused.status).toBe(503);
    expect(JSON.parse(refused.body.toString()).errors[0].detail.reason).toBe('OVERLOADED');
    open();
    expect((await Promise.all(held)).map((answer) => answer.status)).toEqual([200, 200, 200]);
    expect((await ask(port, '/v2/app/manifests/x')).status).toBe(200);
  });

  it('a body that waits in line for too long is 503', async () => {
    const clock = new ManualClock();
    const { content, port } = await setUp({ maxStreams: 1, stallMs: 200_000 }, { clock });
    const digest = content.addBlob(blob);
    const { opened, open } = gate();
    content.onRead = () => opened;
    const first = ask(port, `/v2/app/blobs/${digest}`);
    await until(() => content.reads.length === 1, 'the first reads');
    const second = ask(port, `/v2/app/blobs/${digest}`);
    await until(() => content.requests.length === 2 && clock.timers === 2, 'the second waits');
    clock.advance(60_000);
    expect((await second).status).toBe(503);
    open();
    expect((await first).body.equals(blob)).toBe(true);
    expect(content.reads.length).toBe(1);
  });

  it('one connection too many is dropped', async () => {
    const { port } = await setUp({ maxConnections: 1 });
    const first = connect(port, '127.0.0.1');
    await once(first, 'connect');
    await expect(ask(port, '/v2/')).rejects.toThrow();
    first.destroy();
  });
});

describe('start and stop', () => {
  it('a port in use is told with what to do', async () => {
    const { port } = await setUp();
    await expect(startMirror({ port })).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringMatching(/cannot listen on 127\.0\.0\.1:\d+: .*EADDRINUSE.*; free the port/),
    });
  });

  it('stop waits for what is under way, then cuts it off', async () => {
    const { content, mirror, port } = await setUp({ stopGraceMs: 50 });
    const digest = content.addBlob(blob);
    content.onRead = (offset) => (offset > 0 ? new Promise<void>(() => undefined) : undefined);
    const body = ask(port, `/v2/app/blobs/${digest}`);
    await until(() => mirror.stats.snapshot().bytes > 0, 'the body began');
    content.onAsk = () => new Promise<void>(() => undefined);
    const name = ask(port, '/v2/app/manifests/x');
    await until(() => content.requests.length === 2, 'the content was asked');
    await mirror.stop();
    expect((await body).complete).toBe(false);
    expect((await name).status).toBe(503);
    await expect(ask(port, '/v2/')).rejects.toThrow('ECONNREFUSED');
  });

  it('stop before start, and twice, does nothing', async () => {
    const { mirror } = await setUp();
    await mirror.stop();
    await mirror.stop();
    expect(() => mirror.address()).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
  });
});
