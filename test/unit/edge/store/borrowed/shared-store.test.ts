import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BorrowedBlobs } from '../../../../../edge/store/borrowed/borrowed-blobs.ts';
import { SharedStore } from '../../../../../edge/store/borrowed/shared-store.ts';
import { silentLogger } from '../../../../../shared/log.ts';
import { ContentDirectory } from '../../../../support/content-directory.ts';
import {
  blobOf,
  type OpenStore,
  openStore,
  READER,
  readBytes,
  TempDirectories,
  writeAll,
  writePiece,
} from '../../../../support/store-fixture.ts';

const directories = new TempDirectories();
afterAll(() => directories.removeAll());

const { bytes, key } = blobOf(600_000);
let content: ContentDirectory;
let opened: OpenStore;
let borrowed: BorrowedBlobs;
let store: SharedStore;
let busy: boolean;

beforeEach(async () => {
  content = new ContentDirectory(directories.make());
  await begin(directories.make());
});

afterEach(() => end());

async function begin(directory: string): Promise<void> {
  opened = await openStore(directory);
  const { clock } = opened;
  const log = silentLogger();
  borrowed = new BorrowedBlobs(
    { table: opened.index.borrowed, own: (each) => opened.store.get(each), clock, log },
    { self: READER, pathOf: (each) => content.pathOf(each), checkRate: Number.POSITIVE_INFINITY },
  );
  store = new SharedStore({ own: opened.store, borrowed, clock, log });
  busy = false;
  store.busy = () => busy;
  borrowed.placed = () => true;
  borrowed.onChecked = (each) => store.heldTwice(each);
  await borrowed.start();
}

async function end(): Promise<void> {
  await borrowed.stop();
  await opened.close();
}

async function fill(): Promise<void> {
  const own = opened.store.open(key, bytes.length);
  await writeAll(opened.store, own, bytes);
  await own.verify();
  await opened.store.flush();
}

async function commit(): Promise<void> {
  content.commit(bytes);
  await borrowed.look(key);
  await borrowed.settled();
}

function ownFile(): string {
  return join(opened.directory, 'blobs', key.slice(7, 9), key.replace(':', '-'));
}

describe("a store with another program's blobs in it", () => {
  it('gives what lies there, and counts and deletes its own alone', async () => {
    await commit();
    expect((await readBytes(store.get(key) ?? store.open(key, 1))).equals(bytes)).toBe(true);
    expect(store.usage()).toEqual({ bytes: 0, blobs: 0 });
    await store.remove(key);
    expect(existsSync(content.pathOf(key))).toBe(true);
    expect(store.get(key)?.whole).toBe(true);
  });

  it('keeps no second copy of what lies there, and reads under way go on', async () => {
    store.setKeepTwice(false);
    await fill();
    expect([store.usage().bytes, existsSync(ownFile())]).toEqual([bytes.length, true]);
    await commit();
    await store.releaseTwice();
    expect([store.usage().bytes, existsSync(ownFile())]).toEqual([0, false]);
    expect(store).toMatchObject({ releasedBlobs: 1, releasedBytes: bytes.length });
    expect((await readBytes(store.get(key) ?? store.open(key, 1))).equals(bytes)).toBe(true);
    // The row says so after a restart, before anything is listed.
    const { directory } = opened;
    await end();
    await begin(directory);
    expect(store.get(key)?.whole).toBe(true);
    expect(existsSync(ownFile())).toBe(false);
  });

  it.each([
    [
      'that is being written to, or was promised',
      () => {
        busy = true;
      },
    ],
    [
      'whose bytes nobody may have from there',
      () => {
        borrowed.placed = () => false;
      },
    ],
    ['that is to be kept twice', () => store.setKeepTwice(true)],
    ['whose other file has gone meanwhile', () => content.remove(key)],
  ])('keeps its own copy of a blob %s', async (_, arrange) => {
    store.setKeepTwice(false);
    await fill();
    await commit();
    arrange();
    await store.releaseTwice();
    expect([opened.store.get(key)?.whole, existsSync(ownFile())]).toEqual([true, true]);
  });

  it('gives up its own copy when what kept it has ended', async () => {
    store.setKeepTwice(false);
    await fill();
    busy = true;
    await commit();
    await store.releaseTwice();
    expect(existsSync(ownFile())).toBe(true);
    busy = false;
    await store.releaseTwice();
    expect(existsSync(ownFile())).toBe(false);
  });

  it('still has its own copy when the other one goes', async () => {
    await fill();
    await commit();
    content.remove(key);
    await borrowed.look(key);
    expect((await readBytes(store.get(key) ?? store.open(key, 1))).equals(bytes)).toBe(true);
  });

  it('has nothing once both are gone', async () => {
    store.setKeepTwice(false);
    await fill();
    await commit();
    await store.releaseTwice();
    content.remove(key);
    await borrowed.look(key);
    expect(store.get(key)).toBeUndefined();
  });

  it('gives up the pieces of a blob that came whole to the other one', async () => {
    store.setKeepTwice(false);
    const own = opened.store.open(key, bytes.length);
    await writePiece(opened.store, own, bytes, 1);
    await commit();
    await store.releaseTwice();
    expect([opened.store.get(key), store.usage().bytes]).toEqual([undefined, 0]);
  });
});
