import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { PieceStore } from '../../../../edge/store/piece-store.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { NodeEvent } from '../../../../shared/wire/events.ts';
import {
  blobOf,
  openStore,
  readBytes,
  TempDirectories,
  writeAll,
  writePiece,
} from '../../../support/store-fixture.ts';

const PIECE = 256 * 1024;

const temp = new TempDirectories();
afterAll(() => temp.removeAll());

/** A whole blob on disk whose second piece has one wrong byte, in a store that has not looked at it. */
async function damagedStore() {
  const first = await openStore(temp.make());
  const { bytes, key } = blobOf(3 * PIECE);
  await writeAll(first.store, first.store.open(key, bytes.length), bytes);
  await first.store.open(key, bytes.length).verify();
  await first.store.stop();
  const events: NodeEvent[] = [];
  const log = silentLogger();
  const { clock, index, directory } = first;
  const store = new PieceStore(
    { blobs: index.blobs, clock, log, events: { note: (event) => events.push(event) } },
    { directory },
  );
  await store.start();
  const blob = store.get(key);
  if (blob === undefined) throw new Error('the blob is gone');
  const flip = (at: number): void => {
    const file = openSync(join(directory, 'blobs', key.slice(7, 9), key.replace(':', '-')), 'r+');
    writeSync(file, Buffer.from([(bytes[at] ?? 0) ^ 1]), 0, 1, at);
    closeSync(file);
  };
  return { store, blob, bytes, key, events, clock, flip, index };
}

describe('a byte that the disk has changed', () => {
  it('is never lent out; its piece is gone, durably, and the blob is whole again once it has come anew', async () => {
    const { store, blob, bytes, key, events, flip, index } = await damagedStore();
    flip(PIECE + 77);
    expect(blob.whole).toBe(true);
    // Another part of the piece is asked for than the one that is wrong.
    await expect(blob.lease(PIECE + 1000, 100)).rejects.toMatchObject({ code: 'PIECE_NOT_HELD' });
    expect([blob.whole, blob.have.has(0), blob.have.has(1)]).toEqual([false, true, false]);
    expect(index.blobs.find(key)).toMatchObject({ whole: false, heldBytes: 2 * PIECE });
    expect(events.map(({ kind }) => kind)).toEqual(['blob-damaged']);
    await writePiece(store, blob, bytes, 1);
    expect(await blob.verify()).toBe('whole');
    expect((await readBytes(blob)).equals(bytes)).toBe(true);
    expect(events.map(({ kind }) => kind)).toEqual(['blob-damaged', 'blob-repaired']);
    expect(store.damage).toEqual({ pieces: 1, repaired: 1 });
    await store.stop();
    index.close();
  });

  it('is found again after a while in a piece that was right before', async () => {
    const { store, blob, bytes, clock, flip, index } = await damagedStore();
    expect((await readBytes(blob)).equals(bytes)).toBe(true);
    flip(5);
    clock.advance(600_000);
    await expect(blob.lease(0, PIECE)).rejects.toMatchObject({ code: 'PIECE_NOT_HELD' });
    await store.stop();
    index.close();
  });

  it('is found by a look at the piece, which counts as no use of the blob', async () => {
    const { store, blob, clock, flip, key, index } = await damagedStore();
    const { lastUsed } = index.blobs.find(key) ?? {};
    clock.advance(3_600_000);
    expect(await blob.check(1)).toBe('right');
    flip(2 * PIECE - 1);
    expect(await blob.check(0)).toBe('right');
    expect(await blob.check(1)).toBe('wrong');
    expect(await blob.check(1)).toBe('absent');
    await store.flush();
    expect(index.blobs.find(key)?.lastUsed).toBe(lastUsed);
    await store.stop();
    index.close();
  });
});
