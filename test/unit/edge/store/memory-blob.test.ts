import { createHash } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import type { PieceStore } from '../../../../edge/store/piece-store.ts';
import type { Lease, PassingBlob } from '../../../../edge/store/types.ts';
import { pieceRange } from '../../../../shared/pieces.ts';
import {
  blobOf,
  type OpenStore,
  openStore,
  READER,
  readBytes,
  TempDirectories,
  writeAll,
  writePiece,
} from '../../../support/store-fixture.ts';

const PIECE = 256 * 1024;
const SIZE = 12 * PIECE - 100;
const { bytes, key } = blobOf(SIZE, 5);

const temp = new TempDirectories();
let open: OpenStore | undefined;
afterEach(async () => {
  await open?.close();
  open = undefined;
  temp.removeAll();
});

async function storeOf(cachePieces = 64): Promise<PieceStore> {
  open = await openStore(temp.make(), { cacheBytes: cachePieces * PIECE, readBytes: 4 * PIECE });
  return open.store;
}

function pieceOf(piece: number, blob: PassingBlob): Buffer {
  const { start, end } = pieceRange(blob.layout, piece);
  return bytes.subarray(start, end);
}

async function expectPiece(blob: PassingBlob, piece: number): Promise<void> {
  const { start, end } = pieceRange(blob.layout, piece);
  expect((await readBytes(blob, start, end)).equals(pieceOf(piece, blob))).toBe(true);
}

/** Writes pieces in order, as an origin does that sends all from the first byte on; how far it has come. */
function stream(store: PieceStore, blob: PassingBlob): { written: number; readonly done: Promise<void> } {
  const state = { written: 0, done: Promise.resolve() };
  const run = async (): Promise<void> => {
    for (let piece = 0; piece < blob.layout.pieceCount; piece++) {
      await writePiece(store, blob, bytes, piece);
      state.written++;
    }
  };
  state.done = run();
  return state;
}

const turns = () => new Promise((resolve) => setImmediate(resolve));

describe('a blob that is passed on', () => {
  it('is written and read piece by piece, and nothing of it is on disk or in memory afterwards', async () => {
    const store = await storeOf();
    const blob = store.pass(key, SIZE);
    const { done } = stream(store, blob);
    for (let piece = 0; piece < blob.layout.pieceCount; piece++) {
      blob.seek(piece);
      await expect.poll(() => blob.have.has(piece)).toBe(true);
      expect(blob.claim(piece)).toMatchObject({ reader: READER, verified: false });
      await expectPiece(blob, piece);
      await blob.drop([piece]);
      expect([blob.have.has(piece), blob.claim(piece)]).toEqual([false, undefined]);
    }
    await done;
    blob.close();
    expect(store.usage()).toEqual({ bytes: 0, blobs: 0 });
    expect(store.get(key)).toBeUndefined();
    expect(blob.whole).toBe(false);
    await expect(blob.verify()).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  it('lets a writer run only so far ahead of the reader', async () => {
    const store = await storeOf();
    const blob = store.pass(key, SIZE);
    const state = stream(store, blob);
    await expect.poll(() => state.written).toBe(4);
    await turns();
    expect(state.written).toBe(4);
    blob.seek(2);
    await expect.poll(() => state.written).toBe(6);
    blob.close();
    await expect(state.done).rejects.toMatchObject({ code: 'ABORTED' });
  });

  it('takes what its reader waits for from one who has to begin at the first byte', async () => {
    const store = await storeOf();
    const blob = store.pass(key, SIZE);
    blob.seek(9);
    const state = stream(store, blob);
    await expect.poll(() => blob.have.has(9)).toBe(true);
    expect([...Array(9).keys()].filter((piece) => blob.have.has(piece))).toEqual([]);
    await expectPiece(blob, 9);
    await state.done;
    blob.close();
  });

  it('takes it though as much waits already as may', async () => {
    const store = await storeOf();
    const blob = store.pass(key, SIZE);
    for (const piece of [4, 5, 6, 7]) await writePiece(store, blob, bytes, piece);
    const later = writePiece(store, blob, bytes, 8);
    const wanted = writePiece(store, blob, bytes, 3);
    await turns();
    expect([blob.have.has(3), blob.have.has(8)]).toEqual([false, false]);
    blob.seek(3);
    await wanted;
    await expectPiece(blob, 3);
    blob.seek(6);
    await later;
    await expectPiece(blob, 8);
    blob.close();
  });

  it('keeps what waits for its reader, however much other memory is wanted', async () => {
    const store = await storeOf(8);
    const blob = store.pass(key, SIZE);
    const state = stream(store, blob);
    await expect.poll(() => state.written).toBe(4);
    const other = blobOf(20 * PIECE, 6);
    const stored = store.open(other.key, other.bytes.length);
    await writeAll(store, stored, other.bytes);
    for (let piece = 0; piece < blob.layout.pieceCount; piece++) {
      blob.seek(piece);
      await expect.poll(() => blob.have.has(piece)).toBe(true);
      await expectPiece(blob, piece);
    }
    await state.done;
    blob.close();
  });

  it('leaves memory for others where several are read slowly, and each of them gets on', async () => {
    const store = await storeOf(12);
    const blobs = [1, 2, 3].map(() => store.pass(key, SIZE));
    const streams = blobs.map((blob) => stream(store, blob));
    for (let piece = 0; piece < 12; piece++) {
      for (const blob of blobs) {
        blob.seek(piece);
        await expect.poll(() => blob.have.has(piece)).toBe(true);
        await expectPiece(blob, piece);
      }
      (await store.buffer(PIECE)).release();
    }
    for (const blob of blobs) blob.seek(12);
    await Promise.all(streams.map(({ done }) => done));
    for (const blob of blobs) blob.close();
    expect(store.memoryUsage().cacheBytes).toBeLessThanOrEqual(12 * PIECE);
  });

  it('leaves a lease good when its piece is let go, and its memory to nobody else until then', async () => {
    const store = await storeOf(4);
    const blob = store.pass(key, SIZE);
    await writePiece(store, blob, bytes, 0);
    const lease: Lease = await blob.lease(0, PIECE);
    await blob.drop([0]);
    blob.close();
    const other = blobOf(8 * PIECE, 7);
    await writeAll(store, store.open(other.key, other.bytes.length), other.bytes);
    expect(Buffer.from(lease.bytes).equals(pieceOf(0, blob))).toBe(true);
    lease.release();
    lease.release();
    const buffers = await Promise.all([1, 2, 3, 4].map(() => store.buffer(PIECE)));
    expect(new Set(buffers.map(({ bytes: { buffer } }) => buffer)).size).toBe(4);
    for (const buffer of buffers) buffer.release();
  });

  it('need not come where it is on disk; and has to when it is gone from there', async () => {
    const store = await storeOf();
    const stored = store.open(key, SIZE);
    await writePiece(store, stored, bytes, 1);
    const blob = store.pass(key, SIZE);
    expect([blob.have.has(0), blob.have.has(1)]).toEqual([false, true]);
    await expect(blob.lease(PIECE, PIECE)).rejects.toMatchObject({ code: 'PIECE_NOT_HELD' });
    expect(blob.have.has(1)).toBe(false);
    await writePiece(store, blob, bytes, 1);
    await expectPiece(blob, 1);
    blob.close();
  });

  it('comes anew where nothing that is here counts, and only as it was verified', async () => {
    const store = await storeOf();
    const stored = store.open(key, SIZE);
    await writeAll(store, stored, bytes);
    expect(await stored.verify()).toBe('whole');
    const blob = store.pass(key, SIZE, { anew: true });
    expect(blob.have.count).toBe(0);
    const buffer = await store.buffer(PIECE);
    buffer.bytes.fill(7);
    const sha256 = createHash('sha256').update(buffer.bytes).digest();
    await expect(blob.write(0, buffer, { sha256, reader: READER, verified: true })).rejects.toMatchObject({
      code: 'PIECE_CORRUPT',
    });
    await writePiece(store, blob, bytes, 0);
    await expectPiece(blob, 0);
    blob.close();
  });

  it('takes no piece of another length, nor a buffer that is none of the store', async () => {
    const store = await storeOf();
    const blob = store.pass(key, SIZE);
    const claim = { sha256: Buffer.alloc(32), reader: READER, verified: false };
    await blob.write(0, await store.buffer(PIECE - 1), claim);
    expect(blob.have.has(0)).toBe(false);
    let released = 0;
    const alien = { bytes: Buffer.alloc(PIECE), release: () => void released++ };
    await expect(blob.write(0, alien, claim)).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(released).toBe(1);
    blob.close();
  });
});
