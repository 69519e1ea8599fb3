import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { MirrorInit } from '../../../../edge/mirror/mirror.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import type { Digest } from '../../../../shared/ids.ts';
import { ask } from '../../../support/http-client.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import {
  keptLog,
  type MirrorFixture,
  patternBytes,
  startMirror,
  until,
} from '../../../support/mirror-fixture.ts';

const MIB = 1024 * 1024;
const WARN = 40;
const blob = patternBytes(24 * MIB);

interface Bench extends MirrorFixture {
  readonly clock: ManualClock;
  readonly digest: Digest;
  readonly lines: Record<string, unknown>[];
}

let bench: Bench | undefined;

async function setUp(init: Partial<MirrorInit> = {}): Promise<Bench> {
  const clock = new ManualClock();
  const { log, lines } = keptLog();
  const fixture = await startMirror(init, { clock, log });
  fixture.content.leaseBytes = MIB;
  bench = { ...fixture, clock, lines, digest: fixture.content.addBlob(blob) };
  return bench;
}

afterEach(async () => {
  // Whatever happened: no lease is kept, none was given back twice, no watch is left running.
  const { clock, content, mirror } = bench ?? (await setUp());
  await until(() => content.lent === 0 && mirror.stats.snapshot().active === 0, 'all leases are back');
  expect(content.doubleReleases).toBe(0);
  expect(clock.timers).toBe(0);
  await mirror.stop();
  bench = undefined;
});

function open(port: number, path: string, headers = ''): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`);
  return socket;
}

/** A gate in the content: reads stop at `offset` until it is opened. */
function gate(at: Bench, offset: number): { open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  at.content.onRead = (position) => (position >= offset ? opened : undefined);
  return { open };
}

const warnings = (at: Bench): Record<string, unknown>[] =>
  at.lines.filter((line) => Number(line.level) >= WARN);
const statuses = (at: Bench): number[] => at.mirror.stats.snapshot().requests.map((row) => row.status);

describe('a client that leaves', () => {
  it('in mid-body ends the read, and is nothing to warn of', async () => {
    const at = await setUp();
    const socket = open(at.port, `/v2/app/blobs/${at.digest}`, 'Range: bytes=1-\r\n');
    await once(socket, 'data');
    socket.resetAndDestroy();
    await until(() => at.content.reads[0]?.ended === true, 'the read ended');
    expect(at.content.reads[0]?.signal?.aborted).toBe(true);
    expect(at.content.reads[0]?.bytes).toBeLessThan(blob.length);
    await until(() => at.mirror.stats.snapshot().active === 0, 'the exchange is over');
    expect(statuses(at)).toEqual([499]);
    expect(warnings(at)).toEqual([]);
  });

  it('while the content has nothing yet calls that off', async () => {
    const at = await setUp();
    gate(at, 0);
    const socket = open(at.port, `/v2/app/blobs/${at.digest}`);
    await until(() => at.content.reads.length === 1, 'the read began');
    socket.destroy();
    await until(() => at.content.reads[0]?.ended === true, 'the read ended');
    expect(statuses(at)).toEqual([499]);
  });

  it('before the content has answered calls that off', async () => {
    const at = await setUp();
    at.content.onAsk = () => new Promise<void>(() => undefined);
    const socket = open(at.port, `/v2/app/manifests/x`);
    await until(() => at.content.requests.length === 1, 'the content was asked');
    socket.destroy();
    await until(() => at.content.requests[0]?.signal?.aborted === true, 'the signal aborted');
  });

  it('with more requests in the pipe frees them all', async () => {
    const at = await setUp();
    gate(at, 4 * MIB);
    const socket = open(at.port, `/v2/app/blobs/${at.digest}`);
    for (let index = 0; index < 20; index++) {
      socket.write(`GET /v2/app/blobs/${at.digest} HTTP/1.1\r\nHost: x\r\n\r\n`);
    }
    await until(() => at.content.reads.length === 21, 'all are under way');
    await until(() => at.content.lent > 20, 'those in line hold leases');
    socket.destroy();
    await until(() => at.content.lent === 0, 'all leases are back');
    expect(at.content.reads.every((read) => read.ended)).toBe(true);
  });
});

describe('a client that is slow', () => {
  it('holds two leases at most, and no further byte is read for it', async () => {
    const at = await setUp();
    const socket = open(at.port, `/v2/app/blobs/${at.digest}`);
    socket.pause();
    let before = -1;
    await until(() => {
      const now = at.content.reads[0]?.bytes ?? 0;
      const still = now > 0 && now === before && at.content.lent === 2;
      before = now;
      return still;
    }, 'the socket is full');
    expect(at.content.lentPeak).toBe(2);
    expect(before).toBeLessThan(blob.length);
    // Far longer than a stall of the content may last: the client alone is slow.
    at.clock.advance(590_000);
    expect(socket.destroyed).toBe(false);
    socket.resume();
    let got = 0;
    socket.on('data', (chunk) => {
      got += chunk.length;
    });
    await until(() => got > blob.length, 'the rest came');
    socket.destroy();
    await until(() => at.mirror.stats.snapshot().active === 0, 'over');
    expect(statuses(at)).toEqual([200]);
    expect(at.mirror.stats.snapshot().bytes).toBe(blob.length);
  });

  it('that takes nothing makes room for those in line, and not otherwise', async () => {
    const at = await setUp({ maxStreams: 1 });
    const socket = open(at.port, `/v2/app/blobs/${at.digest}`);
    socket.pause();
    await until(() => at.content.lent === 2, 'the socket is full');
    at.clock.advance(300_000);
    expect(at.mirror.stats.snapshot().active).toBe(1);
    const other = ask(at.port, `/v2/app/blobs/${at.digest}`);
    await until(() => at.content.requests.length === 2 && at.clock.timers === 2, 'the second waits');
    at.clock.advance(30_000);
    expect((await other).body.equals(blob)).toBe(true);
    // What was written before has a moment to go out.
    at.clock.advance(1_000);
    await until(() => warnings(at).length === 1, 'it is told');
    expect(warnings(at)).toMatchObject([{ code: 'TIMEOUT' }]);
    socket.destroy();
  });

  it('is cut off in the end', async () => {
    const at = await setUp({ slowClientMs: 1000 });
    const socket = open(at.port, `/v2/app/blobs/${at.digest}`);
    socket.pause();
    await until(() => at.content.lent === 2, 'the socket is full');
    await until(() => {
      at.clock.advance(1000);
      return at.mirror.stats.snapshot().active === 0;
    }, 'the exchange was given up');
    expect(statuses(at)).toEqual([0]);
    expect(warnings(at)).toMatchObject([{ code: 'TIMEOUT' }]);
    socket.destroy();
  });
});

describe('content that stalls', () => {
  it('in mid-body: the socket is destroyed short of its length, after the bound and not before', async () => {
    const at = await setUp();
    gate(at, 5 * MIB);
    const answer = ask(at.port, `/v2/app/blobs/${at.digest}`);
    await until(() => at.mirror.stats.snapshot().bytes === 5 * MIB, 'five leases are through');
    at.clock.advance(24_999);
    await new Promise((resolve) => setImmediate(resolve));
    expect(at.mirror.stats.snapshot()).toMatchObject({ active: 1, stalls: 0 });
    at.clock.advance(1);
    const { body, complete, headers, status } = await answer;
    expect([status, complete, headers['Content-Length']]).toEqual([200, false, String(blob.length)]);
    expect(body.equals(blob.subarray(0, 5 * MIB))).toBe(true);
    await until(() => at.mirror.stats.snapshot().active === 0, 'over');
    expect(at.mirror.stats.snapshot().stalls).toBe(1);
    expect(warnings(at)).toMatchObject([{ code: 'TIMEOUT', status: 0, bytes: 5 * MIB }]);
    expect(at.content.reads[0]?.signal?.aborted).toBe(true);
  });

  it('is waited for while it shows that it gets on', async () => {
    const at = await setUp();
    let progressAt: number | undefined;
    at.content.progressAt = () => progressAt;
    gate(at, 5 * MIB);
    const answer = ask(at.port, `/v2/app/blobs/${at.digest}`);
    await until(() => at.mirror.stats.snapshot().bytes === 5 * MIB, 'five leases are through');
    for (let step = 0; step < 10; step++) {
      at.clock.advance(20_000);
      progressAt = at.clock.mono();
    }
    await new Promise((resolve) => setImmediate(resolve));
    expect(at.mirror.stats.snapshot().stalls).toBe(0);
    at.clock.advance(25_000);
    expect((await answer).complete).toBe(false);
  });

  it('before the first byte is a 504 that says so', async () => {
    const at = await setUp();
    gate(at, 0);
    const answer = ask(at.port, `/v2/app/blobs/${at.digest}`);
    await until(() => at.content.reads.length === 1, 'the read began');
    at.clock.advance(25_000);
    const { body, complete, status } = await answer;
    expect([status, complete]).toEqual([504, true]);
    expect(JSON.parse(body.toString()).errors[0].message).toBe(
      'no byte has come for 25 s, neither from a member nor from the origin',
    );
  });

  it('and does not listen: what it brings too late goes straight back', async () => {
    const at = await setUp();
    at.content.deaf = true;
    const { open } = gate(at, 5 * MIB);
    const answer = ask(at.port, `/v2/app/blobs/${at.digest}`);
    await until(() => at.mirror.stats.snapshot().bytes === 5 * MIB, 'five leases are through');
    at.clock.advance(25_000);
    expect((await answer).complete).toBe(false);
    expect(at.content.lentTotal).toBe(5);
    open();
    await until(() => at.content.reads[0]?.ended === true, 'the read ended');
    expect([at.content.lentTotal, at.content.lent]).toEqual([6, 0]);
  });

  it('over a name is a 504, and the content is told to stop', async () => {
    const at = await setUp();
    at.content.onAsk = () => new Promise<void>(() => undefined);
    const answer = ask(at.port, `/v2/app/blobs/${at.digest}`);
    await until(() => at.content.requests.length === 1, 'the content was asked');
    at.clock.advance(60_000);
    expect((await answer).status).toBe(504);
    expect(at.content.requests[0]?.signal?.aborted).toBe(true);
  });
});

describe('content that fails', () => {
  it('in mid-body: the socket is destroyed short of its length', async () => {
    const at = await setUp();
    at.content.onRead = (offset) => {
      if (offset === 3 * MIB) throw new TidepoolError('DIGEST_MISMATCH', 'the bytes are not the blob');
    };
    const { body, complete, status } = await ask(at.port, `/v2/app/blobs/${at.digest}`);
    expect([status, complete]).toEqual([200, false]);
    expect(body.length).toBeLessThanOrEqual(3 * MIB);
    expect(body.equals(blob.subarray(0, body.length))).toBe(true);
    await until(() => at.mirror.stats.snapshot().active === 0, 'over');
    expect(warnings(at)).toMatchObject([{ code: 'DIGEST_MISMATCH', status: 0 }]);
  });

  it('before the first byte is told in words', async () => {
    const at = await setUp();
    at.content.onRead = () => {
      throw new TidepoolError('DIGEST_MISMATCH', 'the bytes are not the blob');
    };
    const { body, complete, status } = await ask(at.port, `/v2/app/blobs/${at.digest}`);
    expect([status, complete]).toEqual([502, true]);
    expect(JSON.parse(body.toString()).errors[0].message).toBe('the bytes are not the blob');
  });

  it.each([-1, 1])('by being %i bytes off: the body is never ended cleanly', async (shift) => {
    const at = await setUp();
    at.content.endShift = shift;
    at.content.leaseBytes = 2 * MIB;
    const range = { Range: `bytes=0-${3 * MIB - 1}` };
    const { body, complete } = await ask(at.port, `/v2/app/blobs/${at.digest}`, { headers: range });
    expect(complete).toBe(false);
    expect(body.length).toBeLessThan(3 * MIB);
    await until(() => at.mirror.stats.snapshot().active === 0, 'over');
    expect(warnings(at)).toMatchObject([{ code: 'INTERNAL' }]);
  });

  it('with something that is no TidepoolError, or a header that cannot be written, is a 500', async () => {
    const at = await setUp();
    at.content.addManifest(Buffer.from('{}'), 'bad\r\nX-Evil: yes', 'docker.io/app:x');
    expect((await ask(at.port, '/v2/app/manifests/x')).status).toBe(500);
    at.content.onAsk = () => {
      throw new TypeError('a bug');
    };
    expect((await ask(at.port, '/v2/app/manifests/x')).status).toBe(500);
  });
});
