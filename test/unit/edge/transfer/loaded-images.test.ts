import { beforeEach, describe, expect, it } from 'vitest';
import type { ManifestRecord, RepositoryAccess, RepositoryName } from '../../../../edge/index/types.ts';
import type { GivenBy } from '../../../../edge/transfer/access/runtime-word.ts';
import { LoadedImages } from '../../../../edge/transfer/loaded-images.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { type Digest, digestOf } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { memoryIndex } from '../../../support/memory-index.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const NAME = { registry: 'a.example', repository: 'team/app' };
const { signal } = new AbortController();

let files: Map<Digest, Buffer>;
let given: Map<Digest, GivenBy>;
let kept: string[];
let adopted: string[];
let asked: string[];
let access: Map<string, RepositoryAccess>;
let answer: () => void;
let clock: ManualClock;
let images: LoadedImages;
let index: ReturnType<typeof memoryIndex>;

beforeEach(() => {
  files = new Map();
  given = new Map();
  [kept, adopted, asked] = [[], [], []];
  access = new Map();
  answer = () => access.set('a.example/team/app', { openAt: 1 });
  clock = new ManualClock();
  index = memoryIndex();
  images = new LoadedImages({
    index,
    scope: { access: ({ registry, repository }) => access.get(`${registry}/${repository}`) ?? {} },
    manifests: {
      keep: ({ registry, repository }: RepositoryName, record: ManifestRecord) => {
        kept.push(`${registry}/${repository}@${record.digest}`);
        return record;
      },
    },
    provenance: { adopt: (registries, digest) => void adopted.push(`${[...registries].join()} ${digest}`) },
    gate: {
      check: async ({ registry, repository }) => {
        asked.push(`${registry}/${repository}`);
        answer();
      },
    },
    read: async (digest) => files.get(digest),
    present: (key) => files.has(key as Digest),
    clock,
    log: silentLogger(),
  });
});

function file(bytes: Buffer): { digest: Digest; size: number } {
  const digest = digestOf(bytes);
  files.set(digest, bytes);
  return { digest, size: bytes.length };
}

function json(value: unknown): { digest: Digest; size: number } {
  return file(Buffer.from(JSON.stringify(value)));
}

function manifest(seed: string) {
  const config = json({ seed });
  const layer = file(Buffer.from(`layer ${seed}`));
  return { ...json({ mediaType: MANIFEST, config, layers: [layer] }), config, layer };
}

function update(...names: readonly (readonly [string, Digest, string?])[]): Promise<void> {
  return images.update(
    names.map(([name, digest, mediaType = MANIFEST]) => ({ name, digest, mediaType })),
    async (digest) => given.get(digest) ?? new Map(),
    signal,
  );
}

describe('images that a runtime has', () => {
  it('are kept under their names, with a tag that is older than every answer of a registry', async () => {
    const { digest, config, layer } = manifest('x');
    await update(
      ['a.example/team/app:v1', digest],
      [`a.example/team/app@${digest}`, digest],
      [config.digest, digest],
    );
    expect(new Set(kept)).toEqual(new Set([`a.example/team/app@${digest}`]));
    expect(new Set(adopted)).toEqual(new Set([`a.example ${config.digest}`, `a.example ${layer.digest}`]));
    expect(index.tags.list('a.example', 'team/app', 'v1')).toEqual([
      { ...NAME, tag: 'v1', digest, originAt: 0 },
    ]);
    expect([asked, images.counts]).toEqual([['a.example/team/app'], { images: 2, sharedImages: 2 }]);
    await update(['a.example/team/app:v1', digest]);
    expect([asked.length, kept.length, images.counts.images]).toEqual([1, 2, 1]);
  });

  it('of several platforms are kept with what is there of them', async () => {
    const [here, other] = [manifest('here'), manifest('elsewhere')];
    for (const { digest } of [other, other.config, other.layer]) files.delete(digest);
    const root = json({
      mediaType: INDEX,
      manifests: [here, other].map(({ digest, size }) => ({ digest, size, mediaType: MANIFEST })),
    });
    await update(['a.example/team/app:v1', root.digest, INDEX]);
    expect(kept).toEqual([`a.example/team/app@${here.digest}`, `a.example/team/app@${root.digest}`]);
    expect(images.counts.sharedImages).toBe(1);
  });

  it('are looked at again while something of them is missing', async () => {
    const { digest, layer } = manifest('x');
    const bytes = files.get(layer.digest) ?? Buffer.alloc(0);
    files.delete(layer.digest);
    await update(['a.example/team/app:v1', digest]);
    expect(images.counts).toEqual({ images: 1, sharedImages: 0 });
    expect(adopted).not.toContain(`a.example ${layer.digest}`);
    files.set(layer.digest, bytes);
    await update(['a.example/team/app:v1', digest]);
    expect(images.counts.sharedImages).toBe(1);
    expect(adopted).toContain(`a.example ${layer.digest}`);
  });

  it('that two registries are named for are told of under neither, and their neighbours are', async () => {
    const [one, two] = [manifest('one'), manifest('two')];
    for (const { digest } of [one, one.config, one.layer]) {
      given.set(digest, new Map([['private.example', ['secret']]]));
    }
    await update(['evil.example/x:1', one.digest], ['a.example/team/app:v1', two.digest]);
    expect(kept).toEqual([`a.example/team/app@${two.digest}`]);
    expect(adopted.some((each) => each.startsWith('evil'))).toBe(false);
    expect(images.counts).toEqual({ images: 2, sharedImages: 1 });
  });

  it('whose files are not what their names say, or no manifests, do not stop the others', async () => {
    const good = manifest('good');
    const bad = digestOf(Buffer.from('bad'));
    files.set(bad, Buffer.from('other bytes'));
    const none = file(Buffer.from('no JSON'));
    await update(
      ['a.example/bad:1', bad],
      ['a.example/none:1', none.digest],
      ['a.example/team/app:v1', good.digest],
    );
    expect(kept).toEqual([`a.example/team/app@${good.digest}`]);
  });

  it('are asked about once where the registry says no, and again while it says nothing', async () => {
    const { digest } = manifest('x');
    answer = () => {
      throw new TidepoolError('UNAUTHORIZED', 'away', { details: { offline: true } });
    };
    await update(['a.example/team/app:v1', digest], ['a.example/team/other:v1', digest]);
    // The second is of the same registry, which has just not answered.
    expect(asked).toEqual(['a.example/team/app']);
    answer = () => {
      throw new TidepoolError('UNAUTHORIZED', 'no');
    };
    for (let n = 0; n < 3; n++) await update(['a.example/team/app:v1', digest]);
    expect(asked).toHaveLength(2);
    clock.advance(3_600_000);
    await update(['a.example/team/app:v1', digest]);
    expect(asked).toHaveLength(3);
  });
});
