import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PassingBlob } from '../../../../edge/store/types.ts';
import type { Download } from '../../../../edge/transfer/download.ts';
import { PassReader } from '../../../../edge/transfer/pass-reader.ts';
import { TransferStats } from '../../../../edge/transfer/stats.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import {
  blobOf,
  type OpenStore,
  openStore,
  TempDirectories,
  writeAll,
  writePiece,
} from '../../../support/store-fixture.ts';

const PIECE = 256 * 1024;
const SIZE = 6 * PIECE - 100;
const { bytes: RIGHT, key: KEY } = blobOf(SIZE, 9);
const NAME = { registry: 'reg.example', repository: 'app', digest: KEY as never };

const temp = new TempDirectories();
let open: OpenStore;
let stats: TransferStats;
let pool: FakePool;
let reader: PassReader;

beforeEach(async () => {
  open = await openStore(temp.make(), { cacheBytes: 64 * PIECE, readBytes: 16 * PIECE });
  stats = new TransferStats();
  pool = new FakePool();
  reader = new PassReader({ store: open.store, swarms: pool, stats });
});
afterEach(async () => {
  await open.close();
  temp.removeAll();
});

/** Stands for a download: each piece comes when it is asked for, out of `content`. */
class FakePool {
  content: Uint8Array = RIGHT;
  readonly fetched: number[] = [];
  readonly entered: unknown[] = [];
  closed = 0;
  onFetched: (stored: PassingBlob, piece: number) => Promise<void> = async () => undefined;

  pass(_: unknown, stored: PassingBlob): Download {
    const download = {
      stored,
      credentials: undefined,
      enter: (interest: unknown) => {
        this.entered.push(interest);
        return () => void this.entered.splice(this.entered.indexOf(interest), 1);
      },
      piece: async (piece: number) => {
        if (stored.have.has(piece)) return;
        this.fetched.push(piece);
        await writePiece(open.store, stored, this.content, piece);
        await this.onFetched(stored, piece);
      },
      close: async () => void this.closed++,
    };
    return download as unknown as Download;
  }
}

interface Reading {
  readonly start?: number;
  readonly end?: number;
  readonly position?: number;
  readonly sent?: ReadonlyMap<number, Uint8Array>;
  readonly onProven?: () => void;
}

/** What the reader was given; also of a read that failed, which `got` then holds. */
async function readAll(
  { start = 0, end = SIZE, position = start, ...rest }: Reading,
  got: Uint8Array[] = [],
) {
  const range = {
    start,
    end,
    position,
    sent: rest.sent ?? new Map(),
    signal: undefined,
    onDownload: () => undefined,
  };
  const leases = reader.read(
    NAME,
    SIZE,
    rest.onProven === undefined ? range : { ...range, onProven: rest.onProven },
  );
  for await (const lease of leases) {
    got.push(Buffer.from(lease.bytes));
    lease.release();
  }
  return Buffer.concat(got);
}

const code = (code: string) => ({ code });
const wrongAt = (at: number): Buffer => {
  const bytes = Buffer.from(RIGHT);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes;
};

/** What a reader was given of the blob up to there. */
async function sentOf(content: Uint8Array, position: number): Promise<Map<number, Uint8Array>> {
  const sent = new Map<number, Uint8Array>();
  const blob = open.store.pass(KEY, SIZE);
  for (let piece = 0; piece * PIECE < position; piece++) {
    await writePiece(open.store, blob, content, piece);
    const sha256 = blob.claim(piece)?.sha256;
    if (sha256 !== undefined) sent.set(piece, sha256);
    blob.seek(piece + 1);
  }
  blob.close();
  return sent;
}

describe('a read past a full disk', () => {
  it('gives all bytes in order, keeps none, and lets the download go', async () => {
    expect((await readAll({})).equals(RIGHT)).toBe(true);
    expect(pool.fetched).toEqual([0, 1, 2, 3, 4, 5]);
    expect([pool.closed, pool.entered.length]).toEqual([1, 0]);
    expect(open.store.usage()).toEqual({ bytes: 0, blobs: 0 });
    expect(stats.passedBytes).toBe(SIZE);
  });

  it.each([
    ['within a piece', PIECE + 7, PIECE + 1_000, [1]],
    ['from the middle of one into another', 2 * PIECE - 5, 4 * PIECE + 5, [1, 2, 3, 4]],
    ['at the end', SIZE - 10, SIZE, [5]],
    ['of nothing', PIECE, PIECE, []],
  ])('gives a range %s, and fetches no further', async (_, start, end, fetched) => {
    expect((await readAll({ start, end })).equals(RIGHT.subarray(start, end))).toBe(true);
    expect(pool.fetched).toEqual(fetched);
  });

  it('holds the last piece back where the whole does not match its digest', async () => {
    pool.content = wrongAt(PIECE + 3);
    const got: Uint8Array[] = [];
    await expect(readAll({}, got)).rejects.toMatchObject(code('DIGEST_MISMATCH'));
    expect(Buffer.concat(got).length).toBe(5 * PIECE);
    expect(pool.closed).toBe(1);
    // Nobody holds memory any more.
    const all = await Promise.all(Array.from({ length: 64 }, () => open.store.buffer(PIECE)));
    for (const buffer of all) buffer.release();
  });

  it('goes on where the disk became full, in the middle of a piece', async () => {
    const position = 2 * PIECE + 500;
    const sent = await sentOf(RIGHT, position);
    expect((await readAll({ position, sent })).equals(RIGHT.subarray(position))).toBe(true);
  });

  it('does not go on after bytes that were not those of the blob', async () => {
    const position = 2 * PIECE + 500;
    const sent = await sentOf(wrongAt(PIECE), position);
    await expect(readAll({ position, sent })).rejects.toMatchObject(code('DIGEST_MISMATCH'));
  });

  it('fetches a piece again that gave way before it was read, and not for ever', async () => {
    let times = 3;
    pool.onFetched = async (stored, piece) => {
      if (piece === 2 && times-- > 0) await stored.drop([2]);
    };
    expect((await readAll({})).equals(RIGHT)).toBe(true);
    expect(pool.fetched.filter((piece) => piece === 2)).toHaveLength(4);
    times = Number.POSITIVE_INFINITY;
    await expect(readAll({})).rejects.toMatchObject(code('PIECE_NOT_HELD'));
  });

  it('lets go of everything when its reader leaves', async () => {
    const range = {
      start: 0,
      end: SIZE,
      position: 0,
      sent: new Map(),
      signal: undefined,
      onDownload: () => undefined,
    };
    for await (const lease of reader.read(NAME, SIZE, range)) {
      lease.release();
      break;
    }
    expect([pool.closed, pool.entered.length, pool.fetched]).toEqual([1, 0, [0]]);
  });

  it('passes on what the download fails with', async () => {
    pool.onFetched = async () => {
      throw new TidepoolError('ORIGIN_UNREACHABLE', 'gone');
    };
    await expect(readAll({})).rejects.toMatchObject(code('ORIGIN_UNREACHABLE'));
    expect(pool.closed).toBe(1);
  });
});

describe('a read of what is partly on disk', () => {
  it.each([
    ['the first pieces', [0, 1]],
    ['the last piece', [5]],
    ['some', [1, 3, 5]],
  ])('reads %s from there', async (_, pieces) => {
    const stored = open.store.open(KEY, SIZE);
    for (const piece of pieces) await writePiece(open.store, stored, RIGHT, piece);
    expect((await readAll({})).equals(RIGHT)).toBe(true);
    expect(pool.fetched).toEqual([0, 1, 2, 3, 4, 5].filter((piece) => !pieces.includes(piece)));
    expect(
      (await readAll({ start: PIECE + 9, end: 5 * PIECE + 9 })).equals(
        RIGHT.subarray(PIECE + 9, 5 * PIECE + 9),
      ),
    ).toBe(true);
  });

  it('fetches what is taken from the disk while it is read', async () => {
    const stored = open.store.open(KEY, SIZE);
    await writeAll(open.store, stored, RIGHT);
    pool.onFetched = async () => stored.drop([3, 5]);
    await stored.drop([1]);
    expect((await readAll({})).equals(RIGHT)).toBe(true);
    expect(pool.fetched).toEqual([1, 3, 5]);
  });
});

describe('a read past what is here', () => {
  it('fetches all of it, and tells when that has matched the digest and not before', async () => {
    const stored = open.store.open(KEY, SIZE);
    await writeAll(open.store, stored, RIGHT);
    expect(await stored.verify()).toBe('whole');
    let proven = 0;
    const onProven = (): void => {
      expect(pool.fetched).toEqual([0, 1, 2, 3, 4, 5]);
      proven++;
    };
    expect((await readAll({ onProven })).equals(RIGHT)).toBe(true);
    expect([proven, stats.passedBytes]).toEqual([1, 0]);
    expect((await readAll({ onProven, start: 5, end: PIECE })).length).toBe(PIECE - 5);
    expect(proven).toBe(1);
  });

  it('proves nothing by other bytes', async () => {
    const stored = open.store.open(KEY, SIZE);
    await writeAll(open.store, stored, RIGHT);
    expect(await stored.verify()).toBe('whole');
    pool.content = wrongAt(2 * PIECE);
    let proven = 0;
    await expect(readAll({ onProven: () => void proven++ })).rejects.toMatchObject(code('PIECE_CORRUPT'));
    expect(proven).toBe(0);
  });
});
