import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, expect, it } from 'vitest';
import { openIndex } from '../../../../edge/index/sqlite-index.ts';
import { type Digest, digestOf } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { TempDirectories } from '../../../support/store-fixture.ts';

const temp = new TempDirectories();
afterAll(() => temp.removeAll());

const log = silentLogger();
const digest = (text: string): Digest => digestOf(Buffer.from(text));
const described = (text: string) => ({ digest: digest(text), size: text.length });
const mediaType = 'application/vnd.oci.image.manifest.v1+json';

/** Those of the first schema; every later step makes its own. */
const FIRST_TABLES = ['manifests', 'sizes', 'tags', 'documents', 'blobs', 'claims', 'readers'];

function documentOf(fields: object) {
  const bytes = Buffer.from(JSON.stringify(fields));
  return { digest: digestOf(bytes), mediaType, bytes };
}

it('an index of before scopes learns them from its tags', () => {
  const path = join(temp.make(), 'index.db');
  const image = documentOf({
    config: described('config'),
    layers: [described('layer'), described('shared')],
  });
  const list = documentOf({ manifests: [{ digest: image.digest, size: 1 }, described('never fetched')] });
  const evil = documentOf({ layers: [described('shared')] });
  const stray = documentOf({ layers: [described('stray')] });
  const odd = documentOf({ config: 'odd', layers: ['odd', 7, null, {}], manifests: 'odd' });
  const broken = { ...documentOf({ broken: true }), bytes: Buffer.from('{"layers": [') };
  const before = openIndex(path, { log });
  for (const record of [image, list, evil, stray, odd, broken]) before.manifests.put(record);
  const tag = { registry: 'r.example', repository: 'app', originAt: 5 };
  before.tags.put({ ...tag, tag: 'v1', digest: list.digest });
  before.tags.put({ ...tag, tag: 'odd', digest: odd.digest });
  before.tags.put({ ...tag, tag: 'broken', digest: broken.digest });
  before.tags.put({ ...tag, registry: 'evil.example', tag: 'v1', digest: evil.digest });
  before.close();
  const database = new Database(path);
  const later = database
    .prepare<[], { type: string; name: string }>(
      "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'trigger') AND name NOT LIKE 'sqlite_%'",
    )
    .all()
    .filter(({ name }) => !FIRST_TABLES.includes(name));
  for (const { type, name } of later) database.exec(`DROP ${type} IF EXISTS ${name}`);
  database.pragma('user_version = 1');
  database.close();

  const { scope, provenance } = openIndex(path, { log });
  const app = { registry: 'r.example', repository: 'app' };
  expect(scope.get(app, list.digest)?.kind).toBe('manifest');
  expect(scope.get(app, image.digest)?.kind).toBe('manifest');
  for (const text of ['config', 'layer', 'shared']) {
    expect(scope.get(app, digest(text))).toEqual({ ...described(text), kind: 'blob', via: image.digest });
  }
  expect([scope.get(app, digest('never fetched')), scope.get(app, digest('stray'))]).toEqual([
    undefined,
    undefined,
  ]);
  expect(provenance.list(digest('layer'))).toEqual([{ registry: 'r.example', proven: true }]);
  // Which of the two gave the bytes that are here is not known: neither counts until it shows them.
  expect(provenance.list(digest('shared'))).toEqual([]);
  // Nobody was asked whether it is open.
  expect(scope.access(app)).toEqual({});
});
