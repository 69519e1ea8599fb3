import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Custody } from '../../../../edge/retention/custody.ts';
import { diskOf } from '../../../../edge/retention/disk.ts';
import { silentLogger } from '../../../../shared/log.ts';
import {
  blobOf,
  type OpenStore,
  openStore,
  TempDirectories,
  writeAll,
  writePiece,
} from '../../../support/store-fixture.ts';

describe('custody', () => {
  const directories = new TempDirectories();
  let directory: string;
  let open: OpenStore;
  let custody: Custody;

  beforeEach(async () => {
    directory = directories.make();
    await reopen();
  });
  afterEach(async () => {
    await open.close();
    directories.removeAll();
  });

  async function reopen(): Promise<void> {
    open = await openStore(directory);
    custody = new Custody({ store: open.store, book: open.index.custody, log: silentLogger() });
  }

  it('promises what is here whole, and makes it durable first', async () => {
    const { bytes, key } = blobOf(700_000);
    const stored = open.store.open(key, bytes.length);
    await writeAll(open.store, stored, bytes);
    expect(await custody.keep([key])).toEqual(['absent']);
    await stored.verify();
    expect(open.index.blobs.find(key)?.whole).toBe(false);
    expect(await custody.keep([key])).toEqual(['kept']);
    // Nothing was flushed by time: it was the promise that did it.
    expect(open.index.blobs.find(key)?.whole).toBe(true);
    await open.close();
    await reopen();
    expect(open.index.custody.has(key)).toBe(true);
    expect(await custody.keep([key])).toEqual(['kept']);
  });

  it('promises nothing of a part, of what is leaving, and of what is not here', async () => {
    const part = blobOf(700_000, 2);
    await writePiece(open.store, open.store.open(part.key, part.bytes.length), part.bytes, 0);
    const whole = blobOf(1_000, 3);
    const stored = open.store.open(whole.key, whole.bytes.length);
    await writeAll(open.store, stored, whole.bytes);
    await stored.verify();
    const stay = custody.leave([whole.key]);
    const other = blobOf(10, 4).key;
    expect(await custody.keep([part.key, whole.key, other])).toEqual(['absent', 'leaving', 'absent']);
    expect(open.index.custody.has(whole.key)).toBe(false);
    stay();
    expect(await custody.keep([whole.key])).toEqual(['kept']);
  });

  it('ends with the blob', async () => {
    const { bytes, key } = blobOf(1_000);
    const stored = open.store.open(key, bytes.length);
    await writeAll(open.store, stored, bytes);
    await stored.verify();
    await custody.keep([key]);
    await open.store.remove(key);
    expect(open.index.custody.has(key)).toBe(false);
    expect(await custody.keep([key])).toEqual(['absent']);
  });

  it('promises nothing that the disk did not take', async () => {
    const { bytes, key } = blobOf(1_000);
    const stored = open.store.open(key, bytes.length);
    await writeAll(open.store, stored, bytes);
    await stored.verify();
    const failing = new Custody({
      store: { get: (each) => open.store.get(each), flush: () => Promise.reject(new Error('no space left')) },
      book: open.index.custody,
      log: silentLogger(),
    });
    expect(await failing.keep([key])).toEqual(['leaving']);
    expect(open.index.custody.has(key)).toBe(false);
  });

  it('knows the file system', async () => {
    const { totalBytes, freeBytes } = await diskOf(directory);
    expect(totalBytes).toBeGreaterThan(freeBytes);
    expect(freeBytes).toBeGreaterThan(0);
  });
});
