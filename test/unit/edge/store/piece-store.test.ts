import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { StoredBlob } from '../../../../edge/store/types.ts';
import { parseBlobKey } from '../../../../shared/ids.ts';
import { pieceSizeFor } from '../../../../shared/pieces.ts';
import {
  blobOf,
  openStore,
  READER,
  readBytes,
  sampleBytes,
  TempDirectories,
  writeAll,
  writePiece,
} from '../../../support/store-fixture.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const PIECE = 256 * KIB;

const temp = new TempDirectories();
afterAll(() => temp.removeAll());

const code = (code: string) => expect.objectContaining({ code });

describe('a blob', () => {
  it.each([0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 77, 8 * MIB, 8 * MIB + 1])(
    'of %i bytes is written, verified, read, and there after a reopening',
    async (size) => {
      const directory = temp.make();
      const { bytes, key } = blobOf(size);
      const first = await openStore(directory);
      const blob = first.store.open(key, size);
      expect(blob.layout.pieceSize).toBe(pieceSizeFor(size));
      expect(blob.whole).toBe(false);
      await writeAll(first.store, blob, bytes);
      expect(await blob.verify()).toBe('whole');
      expect(blob.whole).toBe(true);
      expect(first.store.usage()).toEqual({ bytes: size, blobs: 1 });
      expect((await readBytes(blob)).equals(bytes)).toBe(true);
      await first.close();

      const second = await openStore(directory);
      const again = second.store.get(key);
      expect(again?.whole).toBe(true);
      expect(again?.have.full).toBe(true);
      expect(second.store.usage()).toEqual({ bytes: size, blobs: 1 });
      if (again === undefined) return;
      expect((await readBytes(again)).equals(bytes)).toBe(true);
      expect(await again.verify()).toBe('whole');
      for (let piece = 0; piece < again.layout.pieceCount; piece++) {
        expect(again.claim(piece)).toMatchObject({ reader: READER, verified: true });
      }
      await second.close();
    },
  );

  it('is one object for all who ask', async () => {
    const { store, close } = await openStore(temp.make(), { readyBlobs: 1 });
    const { key } = blobOf(10);
    expect(store.get(key)).toBeUndefined();
    const blob = store.open(key, 10);
    store.open(blobOf(11, 2).key, 11);
    expect(store.open(key, 10)).toBe(blob);
    expect(store.get(key)).toBe(blob);
    expect(() => store.open(key, 11)).toThrow(code('SIZE_MISMATCH'));
    expect(() => store.open(blobOf(12).key, -1)).toThrow(code('INVALID_ARGUMENT'));
    expect(() => store.open(blobOf(12).key, 2 ** 41)).toThrow(code('INVALID_ARGUMENT'));
    await close();
  });

  it('of no bytes is whole only under the hash of nothing', async () => {
    const { store, close } = await openStore(temp.make());
    const blob = store.open(blobOf(1).key, 0);
    expect(await blob.verify()).toBe('mismatch');
    await close();
  });

  it.each([
    ['backwards', [7, 6, 5, 4, 3, 2, 1, 0]],
    ['in pairs', [1, 0, 3, 2, 5, 4, 7, 6]],
    ['from the middle', [4, 5, 6, 7, 0, 1, 2, 3]],
  ])('verifies when its pieces come %s, from memory or from disk', async (_how, order) => {
    for (const cacheBytes of [24 * MIB, PIECE]) {
      const { store, close } = await openStore(temp.make(), { cacheBytes });
      const { bytes, key } = blobOf(8 * PIECE - 1);
      const blob = store.open(key, bytes.length);
      for (const piece of order) await writePiece(store, blob, bytes, piece);
      expect(await blob.verify()).toBe('whole');
      await close();
    }
  });

  it('goes on after a reopening, and verifies without what was hashed before', async () => {
    const directory = temp.make();
    const { bytes, key } = blobOf(6 * PIECE);
    const first = await openStore(directory);
    for (const piece of [0, 1, 4]) {
      await writePiece(first.store, first.store.open(key, bytes.length), bytes, piece);
    }
    await first.close();
    const second = await openStore(directory);
    const blob = second.store.open(key, bytes.length);
    expect([0, 1, 2, 3, 4, 5].filter((piece) => blob.have.has(piece))).toEqual([0, 1, 4]);
    expect(second.store.usage().bytes).toBe(3 * PIECE);
    await expect(blob.verify()).rejects.toEqual(code('PIECE_NOT_HELD'));
    for (const piece of [2, 5, 3]) await writePiece(second.store, blob, bytes, piece);
    expect(await blob.verify()).toBe('whole');
    await second.close();
  });

  it('that does not match stays as it is, and can be mended', async () => {
    const { store, close } = await openStore(temp.make());
    const { bytes, key } = blobOf(4 * PIECE);
    const wrong = Buffer.from(bytes);
    wrong[2 * PIECE + 5] = (wrong[2 * PIECE + 5] ?? 0) ^ 1;
    const blob = store.open(key, bytes.length);
    await writeAll(store, blob, wrong);
    expect(await blob.verify()).toBe('mismatch');
    expect(await blob.verify()).toBe('mismatch');
    expect(blob.have.full).toBe(true);
    expect(blob.whole).toBe(false);
    await blob.drop([2]);
    await writePiece(store, blob, bytes, 2);
    expect(await blob.verify()).toBe('whole');
    expect((await readBytes(blob)).equals(bytes)).toBe(true);
    await close();
  });

  it('under a file key has no digest to match', async () => {
    const { store, close } = await openStore(temp.make());
    const bytes = sampleBytes(2 * PIECE);
    const blob = store.open(parseBlobKey(`file:${'a'.repeat(64)}`), bytes.length);
    await writePiece(store, blob, bytes, 0);
    await expect(blob.verify()).rejects.toEqual(code('PIECE_NOT_HELD'));
    await writePiece(store, blob, bytes, 1);
    expect(await blob.verify()).toBe('whole');
    await close();
  });

  it('keeps what each claim says', async () => {
    const directory = temp.make();
    const bytes = Buffer.alloc(70 * MIB);
    const { key } = blobOf(70);
    const first = await openStore(directory);
    const blob = first.store.open(key, bytes.length);
    for (const piece of [0, 63, 64, 69]) await writePiece(first.store, blob, bytes, piece);
    const claims = [0, 63, 64, 69].map((piece) => blob.claim(piece));
    expect(blob.claim(1)).toBeUndefined();
    await first.close();
    const second = await openStore(directory);
    const again = second.store.get(key);
    expect([0, 63, 64, 69].map((piece) => again?.claim(piece))).toEqual(claims);
    expect(claims[0]).toMatchObject({ reader: READER, verified: false });
    expect(again?.claim(1)).toBeUndefined();
    await second.close();
  });
});

describe('write', () => {
  it('does nothing for a piece that is held, also when two come at once', async () => {
    const { store, close } = await openStore(temp.make());
    const { bytes, key } = blobOf(PIECE);
    const blob = store.open(key, bytes.length);
    await Promise.all([
      writePiece(store, blob, bytes, 0),
      writePiece(store, blob, sampleBytes(PIECE, 9), 0),
      writePiece(store, blob, sampleBytes(PIECE, 8), 0),
    ]);
    expect((await readBytes(blob)).equals(bytes)).toBe(true);
    expect(store.usage().bytes).toBe(PIECE);
    expect(await blob.verify()).toBe('whole');
    await close();
  });

  it('refuses a piece that cannot be, and gives its buffer back', async () => {
    const { store, close } = await openStore(temp.make(), { cacheBytes: PIECE });
    const blob = store.open(blobOf(PIECE).key, PIECE);
    const claim = { sha256: new Uint8Array(32), reader: READER, verified: false };
    for (const piece of [-1, 1, 0.5, Number.NaN]) {
      await expect(blob.write(piece, await store.buffer(PIECE), claim)).rejects.toEqual(
        code('INVALID_ARGUMENT'),
      );
    }
    await expect(blob.write(0, await store.buffer(PIECE - 1), claim)).rejects.toEqual(
      code('INVALID_ARGUMENT'),
    );
    await store.buffer(PIECE);
    await close();
  });

  it('takes buffers that are not its own', async () => {
    const { store, close } = await openStore(temp.make());
    const { bytes, key } = blobOf(100);
    const blob = store.open(key, 100);
    let released = 0;
    const claim = { sha256: new Uint8Array(32), reader: READER, verified: true };
    await blob.write(0, { bytes, release: () => released++ }, claim);
    expect(released).toBe(1);
    expect(blob.claim(0)?.verified).toBe(true);
    expect((await readBytes(blob)).equals(bytes)).toBe(true);
    await close();
  });
});

describe('lease', () => {
  it('stays within one piece, and within the blob', async () => {
    const { store, close } = await openStore(temp.make());
    const { bytes, key } = blobOf(3 * PIECE + 10);
    const blob = store.open(key, bytes.length);
    for (const piece of [0, 2, 3]) await writePiece(store, blob, bytes, piece);
    const length = async (start: number, max: number): Promise<number> => {
      const lease = await blob.lease(start, max);
      expect(Buffer.compare(lease.bytes, bytes.subarray(start, start + lease.bytes.length))).toBe(0);
      lease.release();
      return lease.bytes.length;
    };
    expect(await length(0, 10)).toBe(10);
    expect(await length(PIECE - 5, 100)).toBe(5);
    expect(await length(3 * PIECE + 4, 100)).toBe(6);
    await expect(blob.lease(PIECE, 1)).rejects.toEqual(code('PIECE_NOT_HELD'));
    for (const [start, max] of [
      [-1, 5],
      [bytes.length, 1],
      [0, 0],
      [Number.NaN, 1],
    ] as const) {
      await expect(blob.lease(start, max)).rejects.toEqual(code('RANGE_NOT_SATISFIABLE'));
    }
    await close();
  });

  it('from disk takes 1 MiB at most', async () => {
    const directory = temp.make();
    const size = 3 * 1024 * MIB;
    const key = parseBlobKey(`sha256:${'b'.repeat(64)}`);
    const first = await openStore(directory);
    const bytes = sampleBytes(4 * MIB);
    await writePiece(first.store, first.store.open(key, size), bytes, 0);
    await first.close();
    const second = await openStore(directory);
    const blob = second.store.open(key, size);
    const lease = await blob.lease(0, 4 * MIB);
    expect(lease.bytes.length).toBe(MIB);
    lease.release();
    expect((await readBytes(blob, 0, 4 * MIB)).equals(bytes)).toBe(true);
    await second.close();
  });

  it('gives what was just written without a copy, until its memory is wanted', async () => {
    const { store, close } = await openStore(temp.make(), { cacheBytes: 2 * PIECE });
    const { bytes, key } = blobOf(4 * PIECE);
    const blob = store.open(key, bytes.length);
    await writePiece(store, blob, bytes, 0);
    const a = await blob.lease(0, PIECE);
    const b = await blob.lease(0, PIECE);
    expect(a.bytes.buffer).toBe(b.bytes.buffer);
    await writePiece(store, blob, bytes, 1);
    await writePiece(store, blob, bytes, 2);
    await writePiece(store, blob, bytes, 3);
    // It was leased all the time: its memory went to nobody else.
    expect(Buffer.compare(a.bytes, bytes.subarray(0, PIECE))).toBe(0);
    a.release();
    a.release();
    expect(Buffer.compare(b.bytes, bytes.subarray(0, PIECE))).toBe(0);
    b.release();
    expect(store.memoryUsage().cacheBytes).toBeLessThanOrEqual(2 * PIECE);
    await close();
  });

  it('of slow readers never takes the memory that pieces arrive in', async () => {
    const { store, close } = await openStore(temp.make(), { cacheBytes: 4 * PIECE, readBytes: 8 * PIECE });
    const { bytes, key } = blobOf(8 * PIECE);
    const blob = store.open(key, bytes.length);
    const leases = [];
    for (let piece = 0; piece < 8; piece++) {
      await writePiece(store, blob, bytes, piece);
      leases.push(await blob.lease(piece * PIECE, PIECE));
    }
    const buffers = [await store.buffer(PIECE), await store.buffer(PIECE)];
    for (const [piece, lease] of leases.entries()) {
      expect(Buffer.compare(lease.bytes, bytes.subarray(piece * PIECE, (piece + 1) * PIECE))).toBe(0);
      lease.release();
    }
    for (const buffer of buffers) buffer.release();
    await close();
  });

  it('waits while all read memory is lent, in order', async () => {
    const directory = temp.make();
    const { bytes, key } = blobOf(4 * PIECE);
    const first = await openStore(directory);
    await writeAll(first.store, first.store.open(key, bytes.length), bytes);
    await first.close();
    const second = await openStore(directory, { readBytes: 2 * PIECE });
    const blob = second.store.open(key, bytes.length);
    const held = [await blob.lease(0, PIECE), await blob.lease(PIECE, PIECE)];
    const order: number[] = [];
    const waiting = [2, 3].map(async (piece) => {
      const lease = await blob.lease(piece * PIECE, PIECE);
      order.push(piece);
      expect(Buffer.compare(lease.bytes, bytes.subarray(piece * PIECE, (piece + 1) * PIECE))).toBe(0);
      lease.release();
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(order).toEqual([]);
    held[0]?.release();
    held[0]?.release();
    await Promise.all(waiting);
    expect(order).toEqual([2, 3]);
    held[1]?.release();
    expect(second.store.memoryUsage().readBytes).toBeLessThanOrEqual(2 * PIECE);
    await second.close();
  });
});

describe('buffer', () => {
  it('waits while all are lent, takes spare ones first, and ends with its signal', async () => {
    const { store, close } = await openStore(temp.make(), { cacheBytes: 2 * PIECE });
    const { bytes, key } = blobOf(2 * PIECE);
    const blob = store.open(key, bytes.length);
    await writeAll(store, blob, bytes);
    const [a, b] = [await store.buffer(PIECE), await store.buffer(PIECE)];
    const controller = new AbortController();
    const aborted = store.buffer(PIECE, controller.signal);
    let got = false;
    const waiting = store.buffer(PIECE).then((buffer) => {
      got = true;
      return buffer;
    });
    controller.abort(new Error('gone'));
    await expect(aborted).rejects.toThrow('gone');
    expect(got).toBe(false);
    a.release();
    (await waiting).release();
    b.release();
    b.release();
    // Twice released is once released: two can be had, and no third.
    const [c, d] = [await store.buffer(PIECE), await store.buffer(PIECE)];
    expect(c.bytes.buffer).not.toBe(d.bytes.buffer);
    c.release();
    d.release();
    await close();
  });

  it('has the length asked for', async () => {
    const { store, close } = await openStore(temp.make());
    for (const length of [1, 1000, PIECE, 8 * MIB]) {
      const buffer = await store.buffer(length);
      expect(buffer.bytes.length).toBe(length);
      buffer.release();
    }
    await expect(store.buffer(8 * MIB + 1)).rejects.toEqual(code('INVALID_ARGUMENT'));
    await close();
  });

  it('gives memory back when nobody has asked for a while', async () => {
    const { store, clock, close } = await openStore(temp.make());
    const { bytes, key } = blobOf(4 * PIECE);
    const blob = store.open(key, bytes.length);
    await writeAll(store, blob, bytes);
    await store.flush();
    expect(store.memoryUsage().cacheBytes).toBe(4 * PIECE);
    clock.advance(20_000);
    (await store.buffer(10)).release();
    clock.advance(20_000);
    expect(store.memoryUsage().cacheBytes).toBeGreaterThan(0);
    clock.advance(20_000);
    expect(store.memoryUsage()).toEqual({ cacheBytes: 0, readBytes: 0 });
    expect((await readBytes(blob)).equals(bytes)).toBe(true);
    await close();
  });
});

describe('drop', () => {
  it('forgets pieces at once and for good', async () => {
    const directory = temp.make();
    const { bytes, key } = blobOf(4 * PIECE);
    const first = await openStore(directory);
    const blob = first.store.open(key, bytes.length);
    await writeAll(first.store, blob, bytes);
    expect(await blob.verify()).toBe('whole');
    await first.store.flush();
    await blob.drop([1, 3, 3]);
    expect(blob.whole).toBe(false);
    expect(blob.have.count).toBe(2);
    expect(blob.claim(1)).toBeUndefined();
    expect(first.store.usage().bytes).toBe(2 * PIECE);
    await expect(blob.lease(PIECE, 1)).rejects.toEqual(code('PIECE_NOT_HELD'));
    await first.close();
    const second = await openStore(directory);
    const again = second.store.open(key, bytes.length);
    expect(again.whole).toBe(false);
    expect([0, 1, 2, 3].filter((piece) => again.have.has(piece))).toEqual([0, 2]);
    await writePiece(second.store, again, bytes, 3);
    await writePiece(second.store, again, bytes, 1);
    expect(await again.verify()).toBe('whole');
    expect((await readBytes(again)).equals(bytes)).toBe(true);
    await second.close();
  });

  it('waits for a write under way', async () => {
    const { store, close } = await openStore(temp.make());
    const { bytes, key } = blobOf(PIECE);
    const blob = store.open(key, bytes.length);
    const buffer = await store.buffer(PIECE);
    buffer.bytes.set(bytes);
    const writing = blob.write(0, buffer, { sha256: new Uint8Array(32), reader: READER, verified: false });
    await blob.drop([0]);
    await writing;
    expect(blob.have.count).toBe(0);
    await store.flush();
    expect(store.usage().bytes).toBe(0);
    await writePiece(store, blob, bytes, 0);
    expect(await blob.verify()).toBe('whole');
    await close();
  });

  it('is not undone by a flush under way', async () => {
    const { store, index, close } = await openStore(temp.make());
    const { bytes, key } = blobOf(2 * PIECE);
    const blob = store.open(key, bytes.length);
    await writeAll(store, blob, bytes);
    const flushing = store.flush();
    await blob.drop([0]);
    await flushing;
    expect(index.blobs.find(key)).toMatchObject({ heldBytes: PIECE, whole: false });
    await close();
  });

  it('reaches readers that wait for memory', async () => {
    const { store, close } = await openStore(temp.make(), { cacheBytes: PIECE, readBytes: PIECE });
    const { bytes, key } = blobOf(2 * PIECE);
    const blob = store.open(key, bytes.length);
    await writeAll(store, blob, bytes);
    const lease = await blob.lease(0, PIECE);
    const waiting = blob.lease(PIECE, PIECE);
    await blob.drop([1]);
    lease.release();
    await expect(waiting).rejects.toEqual(code('PIECE_NOT_HELD'));
    await close();
  });

  it('leaves leases as they are', async () => {
    const { store, close } = await openStore(temp.make(), { cacheBytes: 4 * PIECE });
    const { bytes, key } = blobOf(2 * PIECE);
    const blob = store.open(key, bytes.length);
    await writeAll(store, blob, bytes);
    const lease = await blob.lease(0, PIECE);
    await blob.drop([0]);
    const other = sampleBytes(2 * PIECE, 5);
    await writePiece(store, blob, other, 0);
    expect(Buffer.compare(lease.bytes, bytes.subarray(0, PIECE))).toBe(0);
    expect((await readBytes(blob, 0, PIECE)).equals(other.subarray(0, PIECE))).toBe(true);
    lease.release();
    await close();
  });
});

describe('remove', () => {
  it('deletes a blob and its file; open leases stay valid', async () => {
    const { store, directory, close } = await openStore(temp.make());
    const { bytes, key } = blobOf(2 * PIECE);
    const blob = store.open(key, bytes.length);
    await writeAll(store, blob, bytes);
    await blob.verify();
    await store.flush();
    const lease = await blob.lease(0, PIECE);
    const reading = blob.lease(PIECE, PIECE);
    await store.remove(key);
    expect(Buffer.compare(lease.bytes, bytes.subarray(0, PIECE))).toBe(0);
    lease.release();
    (await reading).release();
    expect(store.get(key)).toBeUndefined();
    expect(store.usage()).toEqual({ bytes: 0, blobs: 0 });
    expect(filesIn(directory)).toEqual([]);
    expect(blob.whole).toBe(false);
    await expect(blob.lease(0, 1)).rejects.toEqual(code('PIECE_NOT_HELD'));
    await expect(writePiece(store, blob, bytes, 0)).rejects.toEqual(code('CONFLICT'));
    await expect(blob.verify()).rejects.toEqual(code('CONFLICT'));
    await store.remove(key);
    await close();
  });

  it('does not harm the same blob when it comes again at once', async () => {
    const { store, directory, close } = await openStore(temp.make());
    const { bytes, key } = blobOf(2 * PIECE);
    const old = store.open(key, bytes.length);
    await writePiece(store, old, bytes, 0);
    const late = writePiece(store, old, bytes, 1);
    const removing = store.remove(key);
    const blob: StoredBlob = store.open(key, bytes.length);
    expect(blob).not.toBe(old);
    const writing = writeAll(store, blob, bytes);
    await expect(late).rejects.toEqual(code('CONFLICT'));
    await Promise.all([removing, writing]);
    expect(await blob.verify()).toBe('whole');
    await store.flush();
    expect(filesIn(directory)).toHaveLength(1);
    expect(store.usage()).toEqual({ bytes: 2 * PIECE, blobs: 1 });
    await close();
    const again = await openStore(directory);
    const kept = again.store.get(key);
    expect(kept?.whole).toBe(true);
    if (kept !== undefined) expect((await readBytes(kept)).equals(bytes)).toBe(true);
    await again.close();
  });
});

describe('open files', () => {
  it('are bounded', async () => {
    const { store, close } = await openStore(temp.make(), { openFiles: 2 });
    const blobs = Array.from({ length: 6 }, (_, n) => blobOf(1000 + n, n));
    for (const { bytes, key } of blobs) await writeAll(store, store.open(key, bytes.length), bytes);
    const held = readdirSync('/proc/self/fd', { withFileTypes: true }).length;
    await store.flush();
    for (const { bytes, key } of blobs) {
      expect((await readBytes(store.open(key, bytes.length))).equals(bytes)).toBe(true);
    }
    await close();
    expect(readdirSync('/proc/self/fd', { withFileTypes: true }).length).toBeLessThan(held);
  });

  it('of nobody are deleted at the next start', async () => {
    const directory = temp.make();
    const { bytes, key } = blobOf(100);
    const first = await openStore(directory);
    await writeAll(first.store, first.store.open(key, 100), bytes);
    await first.close();
    const orphan = join(directory, 'blobs', 'ab', `sha256-ab${'0'.repeat(62)}`);
    writeFileSync(orphan, 'left by a crash');
    writeFileSync(join(directory, 'blobs', 'ab', 'notes.txt'), "somebody else's");
    const second = await openStore(directory);
    await second.store.swept();
    await second.close();
    expect(existsSync(orphan)).toBe(false);
    expect(filesIn(directory)).toEqual([`sha256-${key.slice(7)}`, 'notes.txt'].sort());
  });
});

function filesIn(directory: string): string[] {
  return readdirSync(join(directory, 'blobs'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
    .sort();
}
