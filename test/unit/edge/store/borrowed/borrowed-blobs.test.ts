import { createHash } from 'node:crypto';
import { readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BorrowedBlobs } from '../../../../../edge/store/borrowed/borrowed-blobs.ts';
import type { StoredBlob } from '../../../../../edge/store/types.ts';
import type { BlobKey } from '../../../../../shared/ids.ts';
import { silentLogger } from '../../../../../shared/log.ts';
import { pieceRange } from '../../../../../shared/pieces.ts';
import { ContentDirectory } from '../../../../support/content-directory.ts';
import {
  blobOf,
  type OpenStore,
  openStore,
  READER,
  readBytes,
  TempDirectories,
  writeAll,
} from '../../../../support/store-fixture.ts';

const WAIT = { timeout: 30_000, interval: 10 };

const directories = new TempDirectories();
afterAll(() => directories.removeAll());

/** Three pieces of 256 KiB, and a bit. */
const { bytes, key } = blobOf(3 * 262_144 + 1_000);
let content: ContentDirectory;
let opened: OpenStore;
let borrowed: BorrowedBlobs;
let checked: BlobKey[];

async function begin(
  init: { placed?: (key: BlobKey) => boolean; checkRate?: number } = {},
): Promise<BorrowedBlobs> {
  const { index, store, clock } = opened;
  const made = new BorrowedBlobs(
    { table: index.borrowed, own: (each) => store.get(each), clock, log: silentLogger() },
    {
      self: READER,
      pathOf: (each) => content.pathOf(each),
      checkRate: init.checkRate ?? Number.POSITIVE_INFINITY,
    },
  );
  made.placed = init.placed ?? (() => true);
  made.onChecked = (each) => checked.push(each);
  await made.start();
  return made;
}

async function shared(): Promise<StoredBlob> {
  await borrowed.look(key);
  await borrowed.settled();
  const blob = borrowed.get(key);
  if (blob === undefined) throw new Error('it is not shared');
  return blob;
}

beforeEach(async () => {
  content = new ContentDirectory(directories.make());
  opened = await openStore(directories.make());
  checked = [];
  borrowed = await begin();
});

afterEach(async () => {
  await borrowed.stop();
  await opened.close();
});

describe("a blob in another program's file", () => {
  it('is told of once its bytes were read through, with a claim for each piece', async () => {
    content.commit(bytes);
    await borrowed.look(key);
    expect(borrowed.get(key)).toBeUndefined();
    const blob = await shared();
    expect([blob.whole, blob.have.full, blob.layout.size]).toEqual([true, true, bytes.length]);
    for (let piece = 0; piece < blob.layout.pieceCount; piece++) {
      const { start, end } = pieceRange(blob.layout, piece);
      const sha256 = createHash('sha256').update(bytes.subarray(start, end)).digest();
      expect(Buffer.from(blob.claim(piece)?.sha256 ?? [])).toEqual(sha256);
      expect(blob.claim(piece)).toMatchObject({ reader: READER, verified: true });
    }
    expect((await readBytes(blob)).equals(bytes)).toBe(true);
    expect(checked).toEqual([key]);
    expect(borrowed.counts()).toMatchObject({ blobs: 1, bytes: bytes.length, checked: 1, wrong: 0 });
  });

  it('is checked at once when somebody asks for it, and else no faster than the disk is lent for that', async () => {
    await borrowed.stop();
    borrowed = await begin({ checkRate: 100_000 });
    const others = [2, 3].map((seed) => content.commit(blobOf(300_000, seed).bytes));
    content.commit(bytes);
    for (const each of [...others, key]) await borrowed.look(each);
    expect(borrowed.get(key)).toBeUndefined();
    await vi.waitFor(() => expect(borrowed.get(key)).toBeDefined(), WAIT);
    expect(checked).toEqual([key]);
    await vi.waitFor(() => {
      opened.clock.advance(1_000);
      expect(checked).toHaveLength(3);
    }, WAIT);
  });

  it('is not shared, now or later, when it does not match its name', async () => {
    content.commit(Buffer.from('other bytes'), blobOf(11).key as never);
    const wrong = blobOf(11).key;
    await borrowed.look(wrong);
    await borrowed.settled();
    expect(borrowed.get(wrong)).toBeUndefined();
    expect(borrowed.counts()).toMatchObject({ blobs: 1, checked: 0, wrong: 1 });
    await borrowed.look(wrong);
    await borrowed.settled();
    expect([borrowed.get(wrong), borrowed.counts().wrong]).toEqual([undefined, 1]);
  });

  it('is had only where it is known whose bytes they are', async () => {
    let known = false;
    await borrowed.stop();
    borrowed = await begin({ placed: () => known });
    content.commit(bytes);
    await borrowed.look(key);
    await borrowed.settled();
    expect([borrowed.get(key), borrowed.holds(key)]).toEqual([undefined, true]);
    known = true;
    expect(borrowed.get(key)?.whole).toBe(true);
  });

  it('is not read through again after a restart, unless the file is another one', async () => {
    content.commit(bytes);
    await shared();
    await borrowed.stop();
    borrowed = await begin();
    // Before anything was listed.
    expect((await readBytes(present())).equals(bytes)).toBe(true);
    await borrowed.stop();

    content.remove(key);
    content.commit(Buffer.alloc(bytes.length), key as never);
    borrowed = await begin();
    expect(borrowed.get(key)).toBeUndefined();
    await borrowed.look(key);
    await borrowed.settled();
    expect([borrowed.get(key), borrowed.counts().wrong]).toEqual([undefined, 1]);
  });

  it('is forgotten when its file goes, while what is being read comes to its end', async () => {
    content.commit(bytes);
    const blob = await shared();
    (await blob.lease(0, 10)).release();
    content.remove(key);
    expect(await borrowed.look(key)).toBe(true);
    expect([borrowed.get(key), borrowed.has(key), blob.whole]).toEqual([undefined, false, false]);
    expect(opened.index.borrowed.find(key)).toBeUndefined();
    expect((await readBytes(blob)).equals(bytes)).toBe(true);
    // Nobody has read it for a while: nothing keeps the file open any more.
    opened.clock.advance(20_000);
    await expect(blob.lease(0, 10)).rejects.toMatchObject({ code: 'PIECE_NOT_HELD' });
  });

  it('is forgotten by the first read that finds its file gone', async () => {
    content.commit(bytes);
    const blob = await shared();
    content.remove(key);
    await expect(blob.lease(0, 10)).rejects.toMatchObject({ code: 'PIECE_NOT_HELD' });
    expect([borrowed.get(key), blob.whole]).toEqual([undefined, false]);
  });

  it('is not served from a file that was changed', async () => {
    content.commit(bytes);
    const blob = await shared();
    writeFileSync(content.pathOf(key), 'short');
    utimesSync(content.pathOf(key), 1, 1);
    await expect(blob.lease(0, 10)).rejects.toMatchObject({ code: 'PIECE_NOT_HELD' });
    expect(borrowed.get(key)).toBeUndefined();
  });

  it('is forgotten whole when somebody finds a piece of it wrong, and its file stays', async () => {
    content.commit(bytes);
    const blob = await shared();
    await blob.drop([1]);
    expect([borrowed.get(key), blob.whole]).toEqual([undefined, false]);
    expect(readFileSync(content.pathOf(key)).equals(bytes)).toBe(true);
  });

  it('takes its claims from our own copy where there is one', async () => {
    const own = opened.store.open(key, bytes.length);
    await writeAll(opened.store, own, bytes);
    expect(await own.verify()).toBe('whole');
    content.commit(bytes);
    const blob = await shared();
    for (let piece = 0; piece < 4; piece++) {
      expect(Buffer.from(blob.claim(piece)?.sha256 ?? [])).toEqual(
        Buffer.from(own.claim(piece)?.sha256 ?? []),
      );
    }
  });

  it('is neither told of nor read while that is switched off', async () => {
    content.commit(bytes);
    await shared();
    borrowed.setSharing(false);
    expect(borrowed.get(key)).toBeUndefined();
    borrowed.setSharing(true);
    expect(borrowed.get(key)?.whole).toBe(true);
  });

  it('may be empty', async () => {
    const empty = content.commit('');
    await borrowed.look(empty);
    await borrowed.settled();
    expect(borrowed.get(empty)).toMatchObject({ whole: true, layout: { pieceCount: 0 } });
  });

  function present(): StoredBlob {
    const blob = borrowed.get(key);
    if (blob === undefined) throw new Error('it is not shared');
    return blob;
  }
});
