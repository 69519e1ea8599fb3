import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CliCapture, cli } from '../../../support/cli-capture.ts';
import { FakeOps, jsonAnswer, type OpsAnswer } from '../../../support/fake-ops.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let server: FakeOps;
let ops: string;

beforeEach(async () => {
  server = new FakeOps();
  await server.start();
  ops = `--data=${server.data}`;
});
afterEach(() => server.stop());

const DIGEST = `sha256:${'ab'.repeat(32)}`;
const COUNTS = {
  totalBytes: 200_000_000,
  wanBytes: 26_000_000,
  peerBytes: 78_000_000,
  blobs: 4,
  blobsDone: 2,
};
const progress = (doneBytes: number) => ({ type: 'progress', ...COUNTS, doneBytes });
const DONE = {
  type: 'done',
  image: 'docker.io/library/busybox:latest',
  digest: DIGEST,
  manifests: [DIGEST],
  seconds: 75,
  ...COUNTS,
  doneBytes: 200_000_000,
};
const ERROR = {
  type: 'error',
  code: 'ORIGIN_UNREACHABLE',
  message: 'docker.io has not answered since 10:00',
};
const events =
  (...list: unknown[]): OpsAnswer =>
  (response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.end(list.map((event) => `${JSON.stringify(event)}\n`).join(''));
  };

describe('pull', () => {
  it('asks for what was said, and tells the end', async () => {
    server.answer = events(progress(0), DONE);
    const args = ['--platform', 'linux/arm64', '--platform=linux/amd64', '--user', 'me:a:b'];
    const { code, stdout } = await cli(['pull', 'busybox', ops, ...args]);
    expect(code).toBe(0);
    expect(stdout).toBe(
      `docker.io/library/busybox:latest\n${DIGEST}\n200.0 MB in 1m 15s: 26.0 MB over the WAN, 78.0 MB from neighbours\n`,
    );
    expect(server.asked[0]?.route).toBe('POST /v1/pull');
    expect(JSON.parse(server.asked[0]?.body ?? '')).toEqual({
      image: 'busybox',
      platforms: ['linux/arm64', 'linux/amd64'],
      username: 'me',
      password: 'a:b',
    });
  });

  it('draws one bar on a terminal, no wider than that, and wipes it', async () => {
    server.answer = events(progress(0), progress(104_000_000), DONE);
    const { stdout, stderr } = await cli(['pull', 'busybox', ops], { columns: 60 });
    const drawn = stderr.split('\r').slice(1);
    expect(drawn).toHaveLength(3);
    expect(drawn[1]).toBe('[############------------]  52 %  104.0 MB of 200.0 MB, WAN\x1b[K');
    expect(drawn[2]).toBe('\x1b[K');
    expect(stderr).not.toContain('\n');
    expect(stdout).toContain(DIGEST);
  });

  it('writes a line a second where there is no terminal', async () => {
    const clock = new ManualClock();
    const io = new CliCapture({ clock });
    server.answer = async (response) => {
      const send = (event: unknown) => response.write(`${JSON.stringify(event)}\n`);
      send(progress(2_000_000));
      await io.shows('2.0 MB of');
      send(progress(3_000_000));
      clock.advance(999);
      send(progress(4_000_000));
      send(ERROR);
      response.end();
    };
    await io.run('pull', 'busybox', ops);
    expect(io.stderr.match(/MB of/g)).toHaveLength(1);

    const later = new CliCapture({ clock });
    server.answer = async (response) => {
      const send = (event: unknown) => response.write(`${JSON.stringify(event)}\n`);
      send(progress(2_000_000));
      await later.shows('2.0 MB of');
      clock.advance(1_000);
      send(progress(5_000_000));
      send(DONE);
      response.end();
    };
    await later.run('pull', 'busybox', ops);
    expect(later.stderr.match(/MB of/g)).toHaveLength(2);
    expect(later.stderr).toContain('5.0 MB of 200.0 MB');
  });

  it('says since when a tag is known that could not be asked for', async () => {
    server.answer = events({ ...DONE, staleSince: Date.UTC(2026, 0, 2) });
    expect((await cli(['pull', 'busybox', ops])).stdout).toContain('as of 2026-01-02T00:00:00.000Z');
  });

  it('passes every step on as JSON, and nothing else', async () => {
    server.answer = events(progress(0), ERROR);
    const { code, stdout, stderr } = await cli(['pull', 'busybox', '--json', ops]);
    expect(code).toBe(1);
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual([progress(0), ERROR]);
    expect(stderr).toBe('');
  });

  it('puts lines together that arrive in pieces', async () => {
    const text = `${JSON.stringify({ ...DONE, image: 'reg.example/ü:1' })}\n`;
    const bytes = Buffer.from(text);
    const inside = bytes.indexOf('ü') + 1;
    server.answer = async (response) => {
      response.write(bytes.subarray(0, inside));
      await new Promise((resolve) => setImmediate(resolve));
      response.end(bytes.subarray(inside));
    };
    expect((await cli(['pull', 'busybox', ops])).stdout).toContain('reg.example/ü:1');
  });

  it.each([
    [
      'the pull fails',
      events(progress(0), ERROR),
      'error: docker.io has not answered since 10:00 (ORIGIN_UNREACHABLE)\n',
    ],
    ['the agent ends the answer early', events(progress(0)), 'the agent went away before the end'],
    [
      'the connection breaks',
      (response: ServerResponse) => {
        response.write(`${JSON.stringify(progress(0))}\n`, () => response.destroy());
      },
      'the agent went away',
    ],
    [
      'there are too many',
      jsonAnswer(503, { error: { code: 'OVERLOADED', message: '8 pulls are under way' } }),
      '8 pulls are under way (OVERLOADED)',
    ],
    [
      'something else answers',
      (response: ServerResponse) => void response.writeHead(404).end('<html>'),
      'the agent answers 404: <html>',
    ],
  ] as [string, OpsAnswer, string][])('ends with 1 when %s', async (_, what, message) => {
    server.answer = what;
    const { code, stdout, stderr } = await cli(['pull', 'busybox', ops]);
    expect(stderr).toContain(message);
    expect(code).toBe(1);
    expect(stdout).toBe('');
  });

  it('ends with 1 when the person wants no more', async () => {
    const io = new CliCapture({ columns: 80 });
    const gone = new Promise<void>((resolve) => {
      server.answer = (response) => {
        response.once('close', () => resolve());
        response.write(`${JSON.stringify(progress(0))}\n`);
      };
    });
    const ended = io.run('pull', 'busybox', ops);
    await io.shows('0 %');
    io.stop();
    const { code, stderr } = await ended;
    expect(code).toBe(1);
    // The message stands on a line of its own, not behind the bar.
    expect(stderr).toMatch(/\n.*ended by SIGTERM/);
    await gone;
  });
});
