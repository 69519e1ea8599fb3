import { cpSync, existsSync, rmSync, symlinkSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, describe, expect, it } from 'vitest';
import { parseBlobKey } from '../../../../shared/ids.ts';
import { layoutOf } from '../../../../shared/pieces.ts';
import {
  blobOf,
  type OpenStore,
  openStore,
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

/** What a killed process leaves: everything that was written, and nothing that would have been. */
function copyOf(directory: string): string {
  const copy = temp.make();
  cpSync(directory, copy, { recursive: true });
  return copy;
}

function fileOf(directory: string, key: string): string {
  return join(directory, 'blobs', key.slice(7, 9), key.replace(':', '-'));
}

function listeningLog() {
  const lines: { level: number; msg: string; pieces?: number }[] = [];
  return { lines, log: pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) }) };
}

/** Resolves when the committer has been through what the clock let loose. */
async function marked(open: OpenStore, blobs: number): Promise<void> {
  while (open.index.blobs.totals().bytes === 0 || open.index.blobs.totals().blobs < blobs) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('a killed agent', () => {
  it('finds what was flushed, and claims nothing else', async () => {
    const open = await openStore(temp.make());
    const { bytes, key } = blobOf(8 * PIECE);
    const blob = open.store.open(key, bytes.length);
    for (const piece of [0, 1, 5]) await writePiece(open.store, blob, bytes, piece);
    await open.store.flush();
    for (const piece of [2, 7]) await writePiece(open.store, blob, bytes, piece);
    const copy = await openStore(copyOf(open.directory));
    const again = copy.store.open(key, bytes.length);
    expect([0, 1, 2, 3, 4, 5, 6, 7].filter((piece) => again.have.has(piece))).toEqual([0, 1, 5]);
    for (const piece of [0, 1, 5]) {
      const part = await readBytes(again, piece * PIECE, (piece + 1) * PIECE);
      expect(part.equals(bytes.subarray(piece * PIECE, (piece + 1) * PIECE))).toBe(true);
    }
    expect(copy.store.usage()).toEqual({ bytes: 3 * PIECE, blobs: 1 });
    for (const piece of [2, 3, 4, 6, 7]) await writePiece(copy.store, again, bytes, piece);
    expect(await again.verify()).toBe('whole');
    await copy.close();
    await open.close();
  });

  it('before the first flush has nothing, and the file goes', async () => {
    const open = await openStore(temp.make());
    const { bytes, key } = blobOf(2 * PIECE);
    await writeAll(open.store, open.store.open(key, bytes.length), bytes);
    const directory = copyOf(open.directory);
    const copy = await openStore(directory);
    expect(copy.store.get(key)).toBeUndefined();
    expect(copy.store.usage()).toEqual({ bytes: 0, blobs: 0 });
    await copy.store.swept();
    expect(existsSync(fileOf(directory, key))).toBe(false);
    await copy.close();
    await open.close();
  });

  it('has a whole blob once its data is durable, and not before', async () => {
    const open = await openStore(temp.make());
    const { bytes, key } = blobOf(3 * PIECE);
    const blob = open.store.open(key, bytes.length);
    await writeAll(open.store, blob, bytes);
    expect(open.index.blobs.find(key)).toMatchObject({ whole: false, heldBytes: 0 });
    expect(await blob.verify()).toBe('whole');
    await open.store.flush();
    const copy = await openStore(copyOf(open.directory));
    expect(copy.store.get(key)?.whole).toBe(true);
    await copy.close();
    await open.close();
  });

  it('never finds again what it dropped or removed', async () => {
    const open = await openStore(temp.make());
    const [a, b] = [blobOf(3 * PIECE, 1), blobOf(PIECE, 2)];
    for (const { bytes, key } of [a, b]) {
      const blob = open.store.open(key, bytes.length);
      await writeAll(open.store, blob, bytes);
      await blob.verify();
    }
    await open.store.flush();
    await open.store.get(a.key)?.drop([1]);
    await open.store.remove(b.key);
    const copy = await openStore(copyOf(open.directory));
    const again = copy.store.get(a.key);
    expect([again?.whole, again?.have.has(0), again?.have.has(1)]).toEqual([false, true, false]);
    expect(copy.store.get(b.key)).toBeUndefined();
    await copy.close();
    await open.close();
  });
});

describe('batches', () => {
  it('are marked after a second', async () => {
    const open = await openStore(temp.make());
    const [a, b] = [blobOf(PIECE, 1), blobOf(PIECE, 2)];
    for (const { bytes, key } of [a, b]) await writeAll(open.store, open.store.open(key, PIECE), bytes);
    open.clock.advance(999);
    await new Promise((resolve) => setImmediate(resolve));
    expect(open.index.blobs.totals().bytes).toBe(0);
    open.clock.advance(1);
    await marked(open, 2);
    expect(open.index.blobs.totals().bytes).toBe(2 * PIECE);
    await open.close();
  });

  it('are marked when enough has come together', async () => {
    const open = await openStore(temp.make(), { flushBytes: 3 * PIECE });
    const { bytes, key } = blobOf(4 * PIECE);
    const blob = open.store.open(key, bytes.length);
    for (const piece of [0, 1, 2]) await writePiece(open.store, blob, bytes, piece);
    await marked(open, 1);
    expect(open.index.blobs.totals().bytes).toBe(3 * PIECE);
    await open.close();
  });

  it('are tried again when the index fails', async () => {
    const open = await openStore(temp.make());
    const { bytes, key } = blobOf(PIECE);
    const blob = open.store.open(key, bytes.length);
    await writeAll(open.store, blob, bytes);
    const { mark } = open.index.blobs;
    open.index.blobs.mark = () => {
      throw new Error('no room');
    };
    await expect(open.store.flush()).rejects.toThrow('no room');
    open.index.blobs.mark = mark;
    expect(blob.have.full).toBe(true);
    open.clock.advance(5_000);
    await marked(open, 1);
    await open.close();
  });
});

describe('a file', () => {
  it.each([
    ['is gone', -1, []],
    ['is empty', 0, []],
    ['ends within a piece', 2 * PIECE + 5, [0, 1]],
    ['lacks a byte', 6 * PIECE - 2, [0, 1, 3]],
  ])('that %s takes the marks beyond its end with it', async (_how, length, left) => {
    const directory = temp.make();
    const first = await openStore(directory);
    const { bytes, key } = blobOf(6 * PIECE - 1);
    const blob = first.store.open(key, bytes.length);
    for (const piece of [0, 1, 3, 5]) await writePiece(first.store, blob, bytes, piece);
    await first.close();
    if (length < 0) rmSync(fileOf(directory, key));
    else truncateSync(fileOf(directory, key), length);

    const { lines, log } = listeningLog();
    const second = await openStore(directory, {}, log);
    const again = second.store.get(key);
    expect([0, 1, 2, 3, 4, 5].filter((piece) => again?.have.has(piece))).toEqual(left);
    expect(second.store.usage().bytes).toBe(left.length * PIECE);
    expect(lines).toEqual([expect.objectContaining({ level: 40, pieces: 4 - left.length })]);
    await second.close();
    // And it was written down.
    const third = await openStore(directory);
    expect(third.store.usage().bytes).toBe(left.length * PIECE);
    await third.close();
  });

  it('of a whole blob that was cut makes it partial, and it can be whole again', async () => {
    const directory = temp.make();
    const first = await openStore(directory);
    const { bytes, key } = blobOf(3 * PIECE);
    const blob = first.store.open(key, bytes.length);
    await writeAll(first.store, blob, bytes);
    await blob.verify();
    await first.close();
    truncateSync(fileOf(directory, key), PIECE);
    const second = await openStore(directory);
    const again = second.store.open(key, bytes.length);
    expect([again.whole, again.have.count]).toEqual([false, 1]);
    await writePiece(second.store, again, bytes, 1);
    await writePiece(second.store, again, bytes, 2);
    expect(await again.verify()).toBe('whole');
    await second.close();
  });

  it('that is cut while it is open loses the piece that cannot be read, with a clear error', async () => {
    const directory = temp.make();
    const open = await openStore(directory, { cacheBytes: PIECE });
    const { bytes, key } = blobOf(3 * PIECE);
    const blob = open.store.open(key, bytes.length);
    await writeAll(open.store, blob, bytes);
    await open.store.flush();
    truncateSync(fileOf(directory, key), PIECE + 100);
    await expect(blob.lease(PIECE, PIECE)).rejects.toEqual(code('PIECE_NOT_HELD'));
    expect([0, 1, 2].map((piece) => blob.have.has(piece))).toEqual([true, false, true]);
    expect(open.index.blobs.find(key)?.heldBytes).toBe(2 * PIECE);
    expect(open.store.memoryUsage().readBytes).toBe(PIECE);
    await writePiece(open.store, blob, bytes, 1);
    // The piece after it was in memory when the file was cut, and that is known no more than on any other day.
    await blob.drop([2]);
    await writePiece(open.store, blob, bytes, 2);
    expect(await blob.verify()).toBe('whole');
    await open.close();
  });

  it('on a full disk takes nothing and marks nothing', async () => {
    const open = await openStore(temp.make(), { cacheBytes: 2 * PIECE });
    const { bytes, key } = blobOf(2 * PIECE);
    const file = fileOf(open.directory, key);
    symlinkSync('/dev/full', file);
    const blob = open.store.open(key, bytes.length);
    for (const piece of [0, 0, 1]) {
      await expect(writePiece(open.store, blob, bytes, piece)).rejects.toEqual(code('STORE_FULL'));
    }
    expect(blob.have.count).toBe(0);
    expect(open.store.usage().bytes).toBe(0);
    await open.store.flush();
    expect(open.index.blobs.totals().bytes).toBe(0);
    // The buffers are back.
    for (const buffer of [await open.store.buffer(PIECE), await open.store.buffer(PIECE)]) buffer.release();
    await open.store.remove(key);
    const again = open.store.open(key, bytes.length);
    await writeAll(open.store, again, bytes);
    expect(await again.verify()).toBe('whole');
    await open.close();
  });

  it('that cannot be made durable loses what was not, and never marks it', async () => {
    const open = await openStore(temp.make());
    const { bytes, key } = blobOf(2 * PIECE);
    // Takes every byte, and refuses to sync.
    symlinkSync('/dev/null', fileOf(open.directory, key));
    const blob = open.store.open(key, bytes.length);
    await writeAll(open.store, blob, bytes);
    await expect(open.store.flush()).rejects.toEqual(code('STORE_CORRUPT'));
    expect(blob.have.count).toBe(0);
    await writeAll(open.store, blob, bytes);
    expect(await blob.verify()).toBe('whole');
    await open.store.flush();
    expect([blob.have.count, blob.whole]).toEqual([0, false]);
    expect(open.index.blobs.totals().bytes).toBe(0);
    expect(open.store.usage().bytes).toBe(0);
    await open.close();
  });
});

describe('100,000 blobs', () => {
  it('do not hold up the start', async () => {
    const directory = temp.make();
    const first = await openStore(directory);
    const { pieceSize, pieceCount } = layoutOf(MIB);
    const bitmap = new Uint8Array(Math.ceil(pieceCount / 8));
    const keys = Array.from({ length: 100_000 }, (_, n) => `sha256:${n.toString(16).padStart(64, '0')}`);
    const rows = keys.map((key) => ({ key: parseBlobKey(key), size: MIB, pieceSize, bitmap, lastUsed: 0 }));
    first.index.blobs.mark(
      (function* () {
        for (const row of rows) {
          const { id } = first.index.blobs.insert(row);
          yield { id, whole: true, bitmap, heldBytes: MIB, lastUsed: 1, chunks: [] };
        }
      })(),
    );
    await first.close();
    const before = performance.now();
    const second = await openStore(directory);
    expect(second.store.usage()).toEqual({ bytes: 100_000 * MIB, blobs: 100_000 });
    // No file of it is there.
    expect(second.store.get(parseBlobKey(keys[77] ?? ''))?.whole).toBe(false);
    expect(performance.now() - before).toBeLessThan(1_000);
    await second.close();
  });
});

it('sample bytes differ', () => {
  expect(sampleBytes(100, 1).equals(sampleBytes(100, 2))).toBe(false);
});
