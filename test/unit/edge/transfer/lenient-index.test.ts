import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { migrate } from '../../../../edge/index/schema.ts';
import { SqliteIndex } from '../../../../edge/index/sqlite-index.ts';
import { LenientIndex } from '../../../../edge/transfer/lenient-index.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';

const NAME = { registry: 'reg.example', repository: 'lab/app' };
const FULL = expect.objectContaining({ code: 'STORE_FULL' });

let database: Database.Database;
let index: SqliteIndex;
let lenient: LenientIndex;
let made: number;
beforeEach(() => {
  database = new Database(':memory:');
  migrate(database);
  index = new SqliteIndex(database);
  made = 0;
  const room = {
    make: async () => {
      made++;
      return false;
    },
  };
  lenient = new LenientIndex({ index, room, log: silentLogger() });
});
afterEach(() => database.close());

/** Rows until there is no place for one more. */
function fill(): void {
  database.pragma(`max_page_count = ${Number(database.pragma('page_count', { simple: true }))}`);
  const record = (n: number) => {
    const bytes = Buffer.alloc(3_000, n);
    return { digest: digestOf(bytes), mediaType: 'x/y', bytes };
  };
  expect(() => {
    for (let n = 0; n < 200; n++) {
      index.manifests.put(record(n % 256));
      index.scope.put(NAME, [{ digest: digestOf(Buffer.from(`filler ${n}`)), kind: 'blob', size: n }]);
    }
  }).toThrow(FULL);
}

describe('an index whose disk takes no row more', () => {
  it('serves what was to be written, and asks for room', () => {
    fill();
    const bytes = Buffer.alloc(20_000, 'm');
    const manifest = { digest: digestOf(bytes), mediaType: 'x/y', bytes };
    expect(() => index.manifests.put(manifest)).toThrow(FULL);
    lenient.manifests.put(manifest);
    expect(lenient.manifests.get(manifest.digest)).toEqual(manifest);
    const entries = Array.from({ length: 500 }, (_, n) => ({
      ...{
        digest: digestOf(Buffer.from(`layer ${n}`)),
        kind: 'blob' as const,
        size: n,
        via: manifest.digest,
      },
    }));
    lenient.scope.put(NAME, entries);
    for (const entry of entries) expect(lenient.scope.get(NAME, entry.digest)).toEqual(entry);
    expect(lenient.scope.get({ ...NAME, repository: 'other' }, manifest.digest)).toBeUndefined();
    expect(made).toBe(2);
  });

  it('remembers so much and no more', () => {
    fill();
    const records = Array.from({ length: 5 }, (_, n) => {
      const bytes = Buffer.alloc(3 * 1024 * 1024, n);
      return { digest: digestOf(bytes), mediaType: 'x/y', bytes };
    });
    for (const record of records) lenient.manifests.put(record);
    expect(records.map(({ digest }) => lenient.manifests.get(digest) !== undefined)).toEqual([
      ...[false, false, false, true, true],
    ]);
  });

  it('writes again as soon as it can', () => {
    fill();
    database.pragma('max_page_count = 1000000');
    const bytes = Buffer.alloc(20_000, 'm');
    const manifest = { digest: digestOf(bytes), mediaType: 'x/y', bytes };
    lenient.manifests.put(manifest);
    expect(index.manifests.get(manifest.digest)?.bytes).toEqual(bytes);
    expect(made).toBe(0);
  });

  it('does not pass over any other failure', () => {
    database.close();
    expect(() =>
      lenient.manifests.put({ digest: digestOf(Buffer.from('')), mediaType: 'x', bytes: Buffer.from('') }),
    ).toThrow();
  });
});
