import { describe, expect, it } from 'vitest';
import { openIndex } from '../../../../../edge/index/sqlite-index.ts';
import { ContentScope } from '../../../../../edge/transfer/access/content-scope.ts';
import { digestOf } from '../../../../../shared/ids.ts';
import { silentLogger } from '../../../../../shared/log.ts';

const NAME = { registry: 'r.example', repository: 'app' };
const named = (text: string) => ({ digest: digestOf(Buffer.from(text)), size: text.length });
const LAYER = named('layer');
const FOREIGN = {
  ...named('foreign'),
  mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
};
const CHILD = named('child manifest');

function manifest(fields: object) {
  const bytes = Buffer.from(JSON.stringify(fields));
  return { digest: digestOf(bytes), mediaType: 'application/vnd.oci.image.manifest.v1+json', bytes };
}

describe('a repository', () => {
  const index = openIndex(':memory:', { log: silentLogger() });
  const scope = new ContentScope({ table: index.scope });
  const image = manifest({ config: named('config'), layers: [LAYER, FOREIGN] });

  it('has a manifest that was answered with, and the blobs that it names', () => {
    expect(scope.has(NAME, LAYER.digest)).toBe(false);
    scope.addManifest(NAME, image);
    for (const each of [scope, new ContentScope({ table: index.scope })]) {
      expect(each.hasManifest(NAME, image.digest)).toBe(true);
      expect(each.get(NAME, LAYER.digest)).toEqual({ ...LAYER, kind: 'blob', via: image.digest });
      expect(each.has(NAME, named('config').digest)).toBe(true);
      expect(each.hasManifest(NAME, LAYER.digest)).toBe(false);
    }
  });

  it('has neither layers from elsewhere, nor manifests that an index names', () => {
    expect(scope.has(NAME, FOREIGN.digest)).toBe(false);
    scope.addManifest(NAME, manifest({ manifests: [CHILD] }));
    expect(scope.has(NAME, CHILD.digest)).toBe(false);
  });

  it('has nothing of another repository or registry', () => {
    for (const other of [
      { ...NAME, repository: 'other' },
      { ...NAME, registry: 'evil.example' },
    ]) {
      expect(scope.has(other, LAYER.digest)).toBe(false);
      expect(scope.has(other, image.digest)).toBe(false);
    }
    expect([scope.shownBy('r.example', image.digest), scope.shownBy('evil.example', image.digest)]).toEqual([
      true,
      false,
    ]);
  });

  it('says no other size of a blob than its own manifests do', () => {
    const evil = { registry: 'evil.example', repository: 'app' };
    scope.addManifest(evil, manifest({ layers: [{ ...LAYER, size: 999 }] }));
    expect(scope.get(NAME, LAYER.digest)?.size).toBe(LAYER.size);
    expect(scope.get(evil, LAYER.digest)?.size).toBe(999);
  });

  it('may be asked for far more than is kept in memory', () => {
    for (let n = 0; n < 5_000; n++) scope.addBlob(NAME, named(`blob ${n}`).digest, n);
    for (let n = 0; n < 5_000; n++) expect(scope.get(NAME, named(`blob ${n}`).digest)?.size).toBe(n);
  });
});
