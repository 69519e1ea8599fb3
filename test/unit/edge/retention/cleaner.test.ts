import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IN_MEMORY } from '../../../../edge/index/database.ts';
import { openIndex, type SqliteIndex } from '../../../../edge/index/sqlite-index.ts';
import { Cleaner } from '../../../../edge/retention/cleaner.ts';
import { IDLE_MANIFEST_MS } from '../../../../edge/retention/constants.ts';
import { Pins } from '../../../../edge/retention/pins.ts';
import { type Digest, digestOf } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { SkippingClock } from '../../../support/skipping-clock.ts';

const NAME = { registry: 'reg.example', repository: 'lab/app' };
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const SIZE = 100;
const blobOf = (name: string): Digest => digestOf(Buffer.from(name));

let index: SqliteIndex;
let clock: SkippingClock;
let prefetched: { image: string; digest?: Digest }[];
let inUse: { id: string; digests: string[] }[] | undefined;
let removed: number;
beforeEach(() => {
  index = openIndex(IN_MEMORY, { log: silentLogger() });
  clock = new SkippingClock();
  [prefetched, inUse, removed] = [[], undefined, 0];
});
afterEach(() => index.close());

function makePins(): Pins {
  return new Pins({ index, prefetched: () => prefetched, inUse: async () => inUse, log: silentLogger() });
}

async function clean(): Promise<void> {
  const { manifests, leftovers } = index;
  const cleaner = new Cleaner({
    ...{ manifests, leftovers, pins: makePins(), clock, log: silentLogger(), random: () => 0.5 },
    onRemoved: () => {
      removed++;
    },
  });
  await cleaner.clean(new AbortController().signal);
}

/** Two walks with the time between after which what nothing needs has to go. */
async function cleanLate(): Promise<void> {
  await clean();
  clock.advance(IDLE_MANIFEST_MS + 1);
  await clean();
}

function keep(json: object, mediaType: string, blobs: readonly Digest[]): Digest {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...json }));
  const digest = digestOf(bytes);
  index.manifests.put({ digest, mediaType, bytes });
  index.scope.put(NAME, [
    { digest, kind: 'manifest' },
    ...blobs.map((blob) => ({ digest: blob, kind: 'blob' as const, size: SIZE, via: digest })),
  ]);
  index.sizes.put(blobs.map((blob) => [blob, SIZE] as const));
  for (const blob of blobs) index.provenance.prove(blob, NAME.registry);
  return digest;
}

function image(...names: string[]): Digest {
  const blobs = names.map(blobOf);
  const [config, ...layers] = blobs.map((digest) => ({ digest, size: SIZE, mediaType: 'application/x' }));
  return keep({ config, layers }, MANIFEST, blobs);
}

function hold(name: string): number {
  const { id } = index.blobs.insert({
    ...{ key: blobOf(name), size: SIZE, pieceSize: 256, bitmap: new Uint8Array([1]), lastUsed: 0 },
  });
  return id;
}

function tag(name: string, digest: Digest, at = 1): void {
  index.tags.put({ ...NAME, tag: name, digest, originAt: at });
}

const has = (digest: Digest): boolean => index.manifests.get(digest) !== undefined;

describe('what was written down of gone content', () => {
  it('goes with it after a while, with all that only it has put down', async () => {
    const gone = image('a', 'b');
    tag('v1', gone);
    await clean();
    clock.advance(IDLE_MANIFEST_MS - 60_000);
    await clean();
    expect(has(gone)).toBe(true);
    clock.advance(120_000);
    await clean();
    expect(has(gone)).toBe(false);
    expect(index.tags.list(NAME.registry, NAME.repository, 'v1')).toEqual([]);
    expect(index.scope.get(NAME, gone)).toBeUndefined();
    for (const blob of ['a', 'b'].map(blobOf)) {
      expect(index.scope.get(NAME, blob)).toBeUndefined();
      expect(index.sizes.get(blob)).toBeUndefined();
      expect(index.provenance.list(blob)).toEqual([]);
    }
    expect(removed).toBeGreaterThan(0);
  });

  it('stays while anything that it names is here, also by way of an index', async () => {
    const child = image('a', 'b');
    const root = keep({ manifests: [{ digest: child, size: 1, mediaType: MANIFEST }] }, INDEX, []);
    hold('b');
    await cleanLate();
    expect([has(child), has(root)]).toEqual([true, true]);
    expect(index.scope.get(NAME, blobOf('a'))).toBeDefined();
    expect(index.sizes.get(blobOf('a'))).toBe(SIZE);
  });

  it('stays when its content comes back in time', async () => {
    const back = image('a');
    await clean();
    const id = hold('a');
    clock.advance(IDLE_MANIFEST_MS + 1);
    await clean();
    index.blobs.remove(id);
    // It counts anew from here.
    await clean();
    expect(has(back)).toBe(true);
  });

  it('leaves what another manifest of the repository names, too', async () => {
    const stays = image('shared', 'new');
    const gone = image('shared', 'old');
    hold('new');
    await cleanLate();
    expect([has(stays), has(gone)]).toEqual([true, false]);
    expect(index.scope.get(NAME, blobOf('shared'))).toBeDefined();
    expect(index.scope.get(NAME, blobOf('old'))).toBeUndefined();
  });

  it('keeps both records of a tag while one of them is of use', async () => {
    const before = image('a');
    const now = image('b');
    tag('latest', before, 1);
    tag('latest', now, 2);
    hold('b');
    await cleanLate();
    expect(has(before)).toBe(true);
    expect(index.tags.list(NAME.registry, NAME.repository, 'latest')).toHaveLength(2);
  });

  it('forgets tags whose manifests never came', async () => {
    tag('v1', blobOf('never'), clock.now() - IDLE_MANIFEST_MS - 1);
    tag('v2', blobOf('not yet'), clock.now());
    await clean();
    expect(index.tags.list(NAME.registry, NAME.repository, 'v1')).toEqual([]);
    expect(index.tags.list(NAME.registry, NAME.repository, 'v2')).toHaveLength(1);
  });

  it('spares what is pinned', async () => {
    const kept = image('a');
    prefetched = [{ image: 'reg.example/lab/app@sha256:0', digest: kept }];
    await cleanLate();
    expect(has(kept)).toBe(true);
    prefetched = [];
    await cleanLate();
    expect(has(kept)).toBe(false);
  });
});

describe('pins', () => {
  it('reach all blobs of a prefetched image, by digest and by both records of its tag', async () => {
    const pins = makePins();
    const child = image('config', 'layer');
    const root = keep({ manifests: [{ digest: child, size: 1, mediaType: MANIFEST }] }, INDEX, []);
    const older = image('older');
    tag('v1', older, 1);
    tag('v1', root, 2);
    image('other');
    prefetched = [{ image: 'reg.example/lab/app:v1' }];
    await pins.refresh();
    for (const digest of [root, child, older, ...['config', 'layer', 'older'].map(blobOf)]) {
      expect(pins.has(digest)).toBe(true);
    }
    expect(pins.has(blobOf('other'))).toBe(false);
    prefetched = [];
    await pins.refresh();
    expect(pins.size).toBe(0);
  });

  it('reach what containers were made of, and stay while the runtime does not answer', async () => {
    const used = image('used');
    inUse = [{ id: blobOf('used'), digests: [`reg.example/lab/app@${used}`] }];
    let silent = false;
    const pins = new Pins({
      index,
      prefetched: () => prefetched,
      inUse: async () => (silent ? Promise.reject(new Error('no answer')) : inUse),
      log: silentLogger(),
    });
    await pins.refresh();
    expect(pins.has(blobOf('used'))).toBe(true);
    silent = true;
    await pins.refresh();
    expect(pins.has(blobOf('used'))).toBe(true);
    [silent, inUse] = [false, []];
    await pins.refresh();
    expect(pins.has(blobOf('used'))).toBe(false);
  });
});
