import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readdirSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { pino } from 'pino';
import { afterAll, describe, expect, it } from 'vitest';
import { openIndex } from '../../../../edge/index/sqlite-index.ts';
import { type Digest, digestOf, parseBlobKey, parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { TempDirectories } from '../../../support/store-fixture.ts';

const temp = new TempDirectories();
afterAll(() => temp.removeAll());

const log = silentLogger();
const digest = (n: number): Digest => digestOf(Buffer.from(`content ${n}`));

/** A logger that keeps its lines. */
function listeningLog() {
  const lines: { level: number; msg: string; aside?: string }[] = [];
  return { lines, log: pino({ level: 'debug' }, { write: (line: string) => lines.push(JSON.parse(line)) }) };
}

describe('openIndex', () => {
  it('sets what the connection needs', () => {
    const path = join(temp.make(), 'deep', 'er', 'index.db');
    openIndex(path, { log }).close();
    const database = new Database(path);
    expect(database.pragma('journal_mode', { simple: true })).toBe('wal');
    expect(database.pragma('user_version', { simple: true })).toBeGreaterThanOrEqual(4);
    const strict = database.prepare<[], { strict: number }>(
      "SELECT strict FROM pragma_table_list WHERE name = 'blobs'",
    );
    expect(strict.get()).toEqual({ strict: 1 });
    database.close();
  });

  it('refuses what a newer program has written, and leaves it as it is', () => {
    const path = join(temp.make(), 'index.db');
    openIndex(path, { log }).close();
    const database = new Database(path);
    database.pragma('user_version = 99');
    database.close();
    expect(() => openIndex(path, { log })).toThrow(
      expect.objectContaining({ code: 'CONFLICT', message: expect.stringContaining('schema version 99') }),
    );
    expect(readdirSync(join(path, '..')).filter((name) => name.includes('corrupt'))).toEqual([]);
  });

  it('moves a file that is no database aside, says so, and starts anew', () => {
    const directory = temp.make();
    const path = join(directory, 'index.db');
    for (const n of [1, 2]) {
      writeFileSync(path, 'this is no database, whatever it was before '.repeat(100));
      const { lines, log } = listeningLog();
      const index = openIndex(path, { log });
      index.documents.put('roster', { n });
      index.close();
      // One is kept, not one for each time.
      expect(readdirSync(directory).filter((name) => name.includes('corrupt'))).toEqual(['index.db.corrupt']);
      expect(lines).toEqual([
        expect.objectContaining({
          level: 50,
          aside: `${path}.corrupt`,
          msg: expect.stringContaining('damaged'),
        }),
      ]);
    }
    const again = openIndex(path, { log });
    expect(again.documents.get('roster')).toEqual({ n: 2 });
    again.close();
  });

  it.each(['overwritten', 'cut', 'overwritten in an index'])(
    'moves a database aside whose pages are %s',
    (how) => {
      const path = join(temp.make(), 'index.db');
      const index = openIndex(path, { log });
      for (let n = 0; n < 2_000; n++) {
        index.blobs.insert({
          key: digest(n),
          size: 1,
          pieceSize: 256 * 1024,
          bitmap: new Uint8Array(1),
          lastUsed: n,
        });
      }
      index.close();
      const database = new Database(path);
      const root = database
        .prepare<[], { rootpage: number }>(
          "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_blobs_1'",
        )
        .get()?.rootpage;
      database.close();
      const fd = openSync(path, 'r+');
      if (how === 'cut') ftruncateSync(fd, 64 * 1024);
      else if (how !== 'overwritten')
        writeSync(fd, Buffer.alloc(4096, 0x5a), 0, 4096, ((root ?? 0) - 1) * 4096);
      else
        for (let page = 12; page < 60; page++) writeSync(fd, Buffer.alloc(4096, 0x5a), 0, 4096, page * 4096);
      closeSync(fd);
      const again = openIndex(path, { log });
      expect(again.blobs.totals()).toEqual({ bytes: 0, blobs: 0 });
      again.close();
      expect(existsSync(`${path}.corrupt`)).toBe(true);
    },
  );

  it('tells once that a statement has found it damaged, copies it no more, and is another one when it is opened again', async () => {
    const path = join(temp.make(), 'index.db');
    const index = openIndex(path, { log });
    // More than stays in memory, and than is looked through at the opening.
    const manifests = Array.from({ length: 20 }, (_, n) => Buffer.alloc(1_000_000, n));
    for (const bytes of manifests)
      index.manifests.put({ digest: digestOf(bytes), mediaType: 'application/a+json', bytes });
    index.documents.put('store/complete', true);
    index.close();
    const fd = openSync(path, 'r+');
    for (let page = 100; page < 200; page++) writeSync(fd, Buffer.alloc(4096, 0xff), 0, 4096, page * 4096);
    closeSync(fd);

    const again = openIndex(path, { log });
    const told: string[] = [];
    again.onDamaged = ({ code }) => void told.push(code);
    const failed = manifests.filter((bytes) => {
      try {
        return again.manifests.get(digestOf(bytes)) === undefined;
      } catch (error) {
        expect(error).toMatchObject({ code: 'STORE_CORRUPT' });
        return true;
      }
    });
    expect(failed.length).toBeGreaterThan(0);
    expect(() => again.manifests.get(digestOf(failed[0] ?? Buffer.alloc(0)))).toThrow();
    expect(told).toEqual(['STORE_CORRUPT']);
    await again.copy();
    again.close();
    expect(readdirSync(join(path, '..')).sort()).toEqual(['index.db', 'index.db.damaged']);

    const other = openIndex(path, { log });
    expect(other.documents.get('store/complete')).toBeUndefined();
    other.close();
    expect(readdirSync(join(path, '..')).sort()).toEqual(['index.db', 'index.db.corrupt']);
    openIndex(path, { log }).close();
  });

  it('opens 100,000 blobs at once', () => {
    const path = join(temp.make(), 'index.db');
    openIndex(path, { log }).close();
    const database = new Database(path);
    database.exec(`
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
      INSERT INTO blobs (id, key, size, piece_size, held_bytes, whole, last_used, bitmap)
      SELECT i, 'sha256:' || printf('%064x', i), 1000000000, 1048576, 1000000000, 1, i, NULL FROM n`);
    database.close();
    const before = performance.now();
    const index = openIndex(path, { log });
    expect(index.blobs.totals()).toEqual({ bytes: 1e14, blobs: 100_000 });
    expect(index.blobs.find(parseBlobKey(`sha256:${'f'.padStart(64, '0')}`))?.id).toBe(15);
    expect(performance.now() - before).toBeLessThan(1_000);
    index.close();
  });
});

describe('tables', () => {
  it('keep their rows over a reopening', () => {
    const path = join(temp.make(), 'index.db');
    const first = openIndex(path, { log });
    const bytes = Buffer.from('{"schemaVersion": 2}');
    first.manifests.put({ digest: digestOf(bytes), mediaType: 'application/a+json', bytes });
    first.sizes.put([
      [digest(1), 10],
      [digest(2), 2 ** 40],
    ]);
    first.documents.put('job/1', { name: 'ä', list: [1, null] });
    first.tags.put({ registry: 'r', repository: 'a/b', tag: 't', digest: digest(1), originAt: 5 });
    first.close();

    const second = openIndex(path, { log });
    expect(second.manifests.get(digestOf(bytes))).toEqual({
      digest: digestOf(bytes),
      mediaType: 'application/a+json',
      bytes,
    });
    expect(second.manifests.get(digest(9))).toBeUndefined();
    expect([1, 2, 3].map((n) => second.sizes.get(digest(n)))).toEqual([10, 2 ** 40, undefined]);
    expect(second.documents.get('job/1')).toEqual({ name: 'ä', list: [1, null] });
    expect(second.tags.list('r', 'a/b', 't')).toEqual([
      { registry: 'r', repository: 'a/b', tag: 't', digest: digest(1), originAt: 5 },
    ]);
    second.close();
  });

  it('learn a better media type and a corrected size', () => {
    const index = openIndex(':memory:', { log });
    const record = { digest: digest(1), mediaType: 'a', bytes: Buffer.from('x') };
    index.manifests.put(record);
    index.manifests.put({ ...record, mediaType: 'b' });
    expect(index.manifests.get(digest(1))?.mediaType).toBe('b');
    index.sizes.put([[digest(1), 1]]);
    index.sizes.put([[digest(1), 2]]);
    expect(index.sizes.get(digest(1))).toBe(2);
    index.close();
  });

  it('take all sizes or none', () => {
    const index = openIndex(':memory:', { log });
    function* broken(): Generator<readonly [Digest, number]> {
      yield [digest(1), 1];
      throw new Error('the manifest ends here');
    }
    expect(() => index.sizes.put(broken())).toThrow('the manifest ends here');
    expect(index.sizes.get(digest(1))).toBeUndefined();
    index.close();
  });

  it('keep the last two digests of a tag', () => {
    const index = openIndex(':memory:', { log });
    const put = (n: number, originAt: number, tag = 't'): void =>
      index.tags.put({ registry: 'r', repository: 'a', tag, digest: digest(n), originAt });
    const list = (tag = 't') =>
      index.tags.list('r', 'a', tag).map((record) => [record.digest, record.originAt]);
    put(1, 10);
    put(1, 20);
    put(7, 15, 'other');
    expect(list()).toEqual([[digest(1), 20]]);
    put(2, 30);
    put(2, 40);
    // A digest that is confirmed again does not push the one before it out.
    expect(list()).toEqual([
      [digest(2), 40],
      [digest(1), 20],
    ]);
    put(3, 50);
    expect(list()).toEqual([
      [digest(3), 50],
      [digest(2), 40],
    ]);
    // Old news change nothing.
    put(1, 20);
    put(3, 45);
    expect(list()).toEqual([
      [digest(3), 50],
      [digest(2), 40],
    ]);
    // A tag that moves back.
    put(2, 60);
    expect(list()).toEqual([
      [digest(2), 60],
      [digest(3), 50],
    ]);
    // Within one second of the origin's clock the later put is the newer.
    put(4, 60);
    expect(list()).toEqual([
      [digest(4), 60],
      [digest(2), 60],
    ]);
    expect(list('other')).toEqual([[digest(7), 15]]);
    index.close();
  });

  it('list documents by prefix, literally', () => {
    const index = openIndex(':memory:', { log });
    for (const name of ['job/2', 'job/1', 'job', 'jobs/3', 'job%', 'roster']) index.documents.put(name, name);
    expect(index.documents.list('job/').map(({ name }) => name)).toEqual(['job/1', 'job/2']);
    expect(index.documents.list('job%')).toEqual([{ name: 'job%', value: 'job%' }]);
    expect(index.documents.list('')).toHaveLength(6);
    index.documents.delete('job/1');
    index.documents.delete('never there');
    expect(index.documents.get('job/1')).toBeUndefined();
    expect(() => index.documents.put('x', undefined)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
    index.close();
  });

  it('number readers once', () => {
    const path = join(temp.make(), 'index.db');
    const first = openIndex(path, { log });
    const a = first.blobs.readers.idOf(parseNodeName('a'));
    const b = first.blobs.readers.idOf(parseNodeName('b'));
    expect(a).not.toBe(b);
    first.close();
    const second = openIndex(path, { log });
    expect(second.blobs.readers.idOf(parseNodeName('b'))).toBe(b);
    expect(second.blobs.readers.nameOf(a)).toBe('a');
    expect(second.blobs.readers.nameOf(99)).toBeUndefined();
    second.close();
  });

  it('forget blobs of which nothing is marked, with their claims', () => {
    const path = join(temp.make(), 'index.db');
    const index = openIndex(path, { log });
    const rows = [1, 2, 3].map((n) =>
      index.blobs.insert({
        key: digest(n),
        size: 8,
        pieceSize: 8,
        bitmap: new Uint8Array(1),
        lastUsed: 10 - n,
      }),
    );
    const marks = { whole: false, bitmap: Uint8Array.of(1), heldBytes: 8, lastUsed: 1 };
    const chunks: [number, Uint8Array][] = [[0, new Uint8Array(36)]];
    index.blobs.mark(rows.map(({ id }) => ({ ...marks, id, chunks })));
    index.blobs.unmark({
      ...marks,
      id: rows[1]?.id ?? 0,
      bitmap: Uint8Array.of(0),
      heldBytes: 0,
      chunks: [],
    });
    expect(index.blobs.removeEmpty()).toBe(1);
    expect([...index.blobs.list()].map(({ key }) => key)).toEqual([digest(1), digest(3)]);
    expect(index.blobs.chunk(rows[1]?.id ?? 0, 0)).toBeUndefined();
    expect(index.blobs.chunk(rows[0]?.id ?? 0, 0)).toHaveLength(36);
    index.blobs.remove(rows[0]?.id ?? 0);
    expect(index.blobs.totals()).toEqual({ bytes: 8, blobs: 1 });
    index.close();
  });
});
