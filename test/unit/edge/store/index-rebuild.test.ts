import { copyFileSync, existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openIndex } from '../../../../edge/index/sqlite-index.ts';
import { systemIo } from '../../../../edge/store/io.ts';
import { PieceStore } from '../../../../edge/store/piece-store.ts';
import { type BlobKey, parseDigest } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { NodeEvent } from '../../../../shared/wire/events.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import {
  blobOf,
  READER,
  readBytes,
  TempDirectories,
  writeAll,
  writePiece,
} from '../../../support/store-fixture.ts';

const PIECE = 256 * 1024;
const MIB = 1024 * 1024;
const log = silentLogger();

const temp = new TempDirectories();
afterAll(() => temp.removeAll());

async function openNode(directory: string) {
  const clock = new ManualClock();
  const index = openIndex(join(directory, 'index.db'), { log });
  const events: NodeEvent[] = [];
  const { blobs, documents } = index;
  const store = new PieceStore(
    { blobs, documents, clock, log, events: { note: (event) => events.push(event) } },
    { directory, node: READER },
  );
  await store.start();
  return {
    clock,
    index,
    store,
    events,
    /** Lets the background work through, however slowly it may. */
    async settled() {
      let done = false;
      void store.swept().then(() => {
        done = true;
      });
      while (!done) {
        clock.advance(1_000);
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    async close() {
      await store.stop();
      index.close();
    },
  };
}

function fileOf(directory: string, key: BlobKey): string {
  return join(directory, 'blobs', key.slice(7, 9), key.replace(':', '-'));
}

function loseIndex(directory: string): void {
  for (const end of ['', '-wal', '-shm']) rmSync(join(directory, `index.db${end}`), { force: true });
}

const a = blobOf(3 * PIECE - 9, 1);
const b = blobOf(PIECE / 2, 2);
const half = blobOf(3 * PIECE, 3);

/** Two whole blobs and half of a third, and no index that knows of them. */
async function lost(): Promise<string> {
  const directory = temp.make();
  const node = await openNode(directory);
  for (const { bytes, key } of [a, b]) {
    const blob = node.store.open(key, bytes.length);
    await writeAll(node.store, blob, bytes);
    await blob.verify();
  }
  await writePiece(node.store, node.store.open(half.key, half.bytes.length), half.bytes, 1);
  await node.close();
  loseIndex(directory);
  return directory;
}

describe('an agent whose index is gone', () => {
  it('finds its blobs by their files, with the claim of every piece, and deletes what proves nothing', async () => {
    const directory = await lost();
    const node = await openNode(directory);
    await node.settled();
    expect(node.store.usage()).toEqual({ bytes: a.bytes.length + b.bytes.length, blobs: 2 });
    for (const { bytes, key } of [a, b]) {
      const blob = node.store.get(key);
      expect(blob?.whole).toBe(true);
      expect(blob?.claim(0)).toMatchObject({ reader: READER, verified: true });
      if (blob !== undefined) expect((await readBytes(blob)).equals(bytes)).toBe(true);
    }
    expect(node.store.get(half.key)).toBeUndefined();
    expect(existsSync(fileOf(directory, half.key))).toBe(false);
    expect(node.store.rebuild).toMatchObject({ running: false, files: 3, found: 2 });
    expect(node.events).toMatchObject([{ kind: 'index-rebuilt' }]);
    await node.close();
    // From here on it is an index like any other.
    const again = await openNode(directory);
    await again.settled();
    expect([again.store.usage().blobs, again.store.rebuild]).toEqual([2, undefined]);
    await again.close();
  });

  it('looks at once at the blob that somebody asks for, and goes on after a stop in the middle', async () => {
    const directory = await lost();
    const big = blobOf(2 * MIB, 9);
    writeFileSync(fileOf(directory, big.key), big.bytes);
    const node = await openNode(directory);
    // Time stands still: after the first file nothing is read of itself.
    expect(node.store.get(big.key)).toBeUndefined();
    await Promise.all([node.store.reach(big.key), node.store.reach(big.key)]);
    expect(node.store.get(big.key)?.whole).toBe(true);
    await node.store.reach(blobOf(7, 7).key);
    await node.close();
    const again = await openNode(directory);
    expect(again.store.get(big.key)?.whole).toBe(true);
    await again.settled();
    expect(again.store.usage().blobs).toBe(3);
    await again.close();
  });

  it('leaves alone what is being fetched again meanwhile', async () => {
    const directory = await lost();
    const node = await openNode(directory);
    const blob = node.store.open(half.key, half.bytes.length);
    await writeAll(node.store, blob, half.bytes);
    await node.settled();
    expect(await blob.verify()).toBe('whole');
    expect((await readBytes(blob)).equals(half.bytes)).toBe(true);
    await node.close();
  });

  it('keeps no file whose name is no hash of its bytes, and none whose bytes are others', async () => {
    const directory = await lost();
    const named = join(directory, 'blobs', 'ab', `file-ab${'0'.repeat(62)}`);
    mkdirSync(dirname(named), { recursive: true });
    writeFileSync(named, 'whatever');
    copyFileSync(fileOf(directory, b.key), fileOf(directory, a.key));
    const node = await openNode(directory);
    await node.settled();
    expect(existsSync(named)).toBe(false);
    expect([node.store.get(a.key), node.store.get(b.key)?.whole]).toEqual([undefined, true]);
    await node.close();
  });

  it('marks nothing before it is durable', async () => {
    const directory = await lost();
    const synced: string[] = [];
    const clock = new ManualClock();
    const index = openIndex(join(directory, 'index.db'), { log });
    const { blobs, documents } = index;
    const paths = new Map<number, string>();
    const io = {
      ...systemIo,
      open: async (path: string, flags: number, mode?: number) => {
        const fd = await systemIo.open(path, flags, mode);
        paths.set(fd, path);
        return fd;
      },
      syncData: async (fd: number) => {
        expect(blobs.totals().blobs).toBe(synced.length / 2);
        synced.push(paths.get(fd) ?? '');
      },
      syncDirectory: async (path: string) => {
        synced.push(path);
      },
    };
    const store = new PieceStore({ blobs, documents, clock, log, io }, { directory, node: READER });
    await store.start();
    await store.reach(a.key);
    expect(synced).toEqual([fileOf(directory, a.key), dirname(fileOf(directory, a.key))]);
    expect(store.get(a.key)?.whole).toBe(true);
    await store.stop();
    index.close();
  });
});

describe('a copy of the index', () => {
  it('gives back names and documents, and no word of blobs that it could be wrong about', async () => {
    const directory = temp.make();
    const first = await openNode(directory);
    await first.settled();
    const blob = first.store.open(b.key, b.bytes.length);
    await writeAll(first.store, blob, b.bytes);
    await blob.verify();
    const tag = {
      registry: 'reg.example',
      repository: 'lab/app',
      tag: 'one',
      digest: parseDigest(a.key),
      originAt: 5,
    } as const;
    first.index.tags.put(tag);
    first.index.documents.put('roster', [1]);
    first.index.provenance.begin(b.key, 'reg.example');
    first.index.provenance.begin(half.key, 'reg.example');
    first.index.provenance.prove(a.key, 'reg.example');
    await first.store.flush();
    await first.index.copy();
    first.index.documents.put('roster', [2]);
    await first.store.remove(b.key);
    await first.close();
    expect(statSync(join(directory, 'index-copy.db')).mode & 0o077).toBe(0);

    loseIndex(directory);
    const again = await openNode(directory);
    await again.settled();
    expect(again.index.tags.list('reg.example', 'lab/app', 'one')).toEqual([tag]);
    expect(again.index.documents.get('roster')).toEqual([1]);
    expect(again.index.provenance.list(a.key)).toEqual([{ registry: 'reg.example', proven: true }]);
    // It was whole, so every byte of it had come from there.
    expect(again.index.provenance.list(b.key)).toEqual([{ registry: 'reg.example', proven: true }]);
    expect(again.index.provenance.list(half.key)).toEqual([]);
    expect(again.store.get(b.key)).toBeUndefined();
    await again.close();
  });

  it('that is damaged is as good as none', async () => {
    const directory = temp.make();
    writeFileSync(join(directory, 'index-copy.db'), 'no database '.repeat(1_000));
    const node = await openNode(directory);
    node.index.documents.put('roster', [3]);
    await node.settled();
    await node.index.copy();
    await node.close();
    loseIndex(directory);
    const again = await openNode(directory);
    expect(again.index.documents.get('roster')).toEqual([3]);
    await again.close();
  });
});
