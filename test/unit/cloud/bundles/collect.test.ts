import { describe, expect, it } from 'vitest';
import {
  blobsOf,
  type CollectComponents,
  type CollectInit,
  collectImages,
} from '../../../../cloud/bundles/collect.ts';
import type { Account, ContentReader } from '../../../../cloud/registry/types.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { parseImageRef } from '../../../../shared/image-ref.ts';
import { parsePlatform } from '../../../../shared/registry/platform.ts';
import { buildImage, buildIndex, type SampleImage } from '../../../support/registry/index.ts';

const ACCOUNT: Account = { username: 'puller', password: 'a secret' };
const PUBLIC = 'reg.example/open/app:v1';
const PRIVATE = 'reg.example/secret/app:v1';

async function imageFor(platform: string, seed: number): Promise<SampleImage> {
  return await buildImage({ platform: parsePlatform(platform), layers: [{ bytes: 2_000, seed }] });
}

/** A registry of one image, under a name that is open and one that is not. */
function registryOf(image: SampleImage): CollectComponents & { readonly asked: string[] } {
  const asked: string[] = [];
  const admit = (repository: string, account: Account | undefined): void => {
    if (repository.startsWith('secret') && account === undefined)
      throw new TidepoolError('UNAUTHORIZED', 'who are you');
    if (repository.startsWith('gone')) throw new TidepoolError('MANIFEST_UNKNOWN', 'not here');
  };
  const registry: ContentReader = {
    digest: async ({ repository }, account) => {
      admit(repository, account);
      return image.digest;
    },
    manifest: async ({ repository, digest }, account) => {
      admit(repository, account);
      const found = image.manifests.find((each) => each.digest === digest);
      if (found === undefined) throw new TidepoolError('MANIFEST_UNKNOWN', 'not here');
      return { digest: found.digest, bytes: found.bytes };
    },
    blob: async function* (_image, digest) {
      asked.push(digest);
      const blob = image.blobs.find((each) => each.digest === digest);
      if (blob !== undefined && 'bytes' in blob) yield blob.bytes;
    },
  };
  return { registry, accountFor: () => ACCOUNT, asked };
}

const init = (names: readonly string[], more: Partial<CollectInit> = {}): CollectInit => ({
  images: names.map(parseImageRef),
  platforms: [],
  signal: new AbortController().signal,
  ...more,
});

describe('what is collected for a bundle', () => {
  it('is an index with all that it names, or with the platforms that are wanted', async () => {
    const images = await Promise.all(['linux/amd64', 'linux/arm64/v8', 'linux/s390x'].map(imageFor));
    const index = buildIndex(images);
    const all = await collectImages(registryOf(index), init([PUBLIC]));
    expect(all.statement.manifests).toHaveLength(4);
    expect(all.statement.blobs).toHaveLength(6);
    expect(all.statement).toMatchObject({
      platforms: ['linux/amd64', 'linux/arm64/v8', 'linux/s390x'],
      leftOut: [],
    });
    const platforms = ['linux/arm64', 'linux/s390x'].map(parsePlatform);
    const some = await collectImages(registryOf(index), init([PUBLIC], { platforms }));
    expect(some.statement.manifests).toHaveLength(3);
    expect(some.statement.images).toMatchObject([{ digest: index.digest, tag: 'v1', open: true }]);
    expect(some.statement.leftOut).toMatchObject([{ digest: images[0]?.digest, why: 'platform' }]);
    const none = collectImages(
      registryOf(index),
      init([PUBLIC], { platforms: [parsePlatform('linux/386')] }),
    );
    await expect(none).rejects.toThrow(/has nothing for linux\/386; it is for linux\/amd64/);
  });

  it('says of an image without an index what its config says, and whether anybody may have it', async () => {
    const image = await imageFor('linux/arm64', 3);
    const { statement, sources } = await collectImages(registryOf(image), init([PUBLIC, PRIVATE]));
    expect(statement.images).toMatchObject([
      { repository: 'open/app', open: true, platform: 'linux/arm64' },
      { repository: 'secret/app', open: false, platform: 'linux/arm64' },
    ]);
    expect(statement.blobs).toHaveLength(2);
    const [first] = statement.blobs;
    expect(first && sources.get(first.digest)?.account).toBeUndefined();
  });

  it('leaves out what is there already, layers of the same name too', async () => {
    const image = await imageFor('linux/amd64', 4);
    const [config, layer] = image.blobs;
    if (config === undefined || layer === undefined) throw new Error('no blobs');
    const base = { name: 'the first', blobs: new Set([layer.digest, digestOf(Buffer.from('other'))]) };
    const { statement } = await collectImages(registryOf(image), init([PUBLIC], { base }));
    expect(statement.blobs).toEqual([{ digest: config.digest, size: config.size }]);
    expect(statement.leftOut).toEqual([{ digest: layer.digest, size: layer.size, why: 'base' }]);
    expect(statement.base).toBe('the first');
  });

  it('counts on nothing of images that their registry no longer has', async () => {
    const image = await imageFor('linux/amd64', 5);
    const components = registryOf(image);
    expect(await blobsOf(components, init(['reg.example/gone/app:v1']))).toEqual(new Set());
    const blobs = await blobsOf(components, init([PUBLIC, 'reg.example/gone/app:v1']));
    expect(blobs).toEqual(new Set(image.blobs.map(({ digest }) => digest)));
  });
});
