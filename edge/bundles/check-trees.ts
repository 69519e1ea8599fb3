/** Whether a bundle is what it says: each image followed down from its own bytes. */
import type { Digest } from '../../shared/ids.ts';
import { type ImageTree, treeOf } from '../../shared/oci-layout/manifest-tree.ts';
import { isIndexType } from '../../shared/oci-layout/media-types.ts';
import { bundleRefused } from '../../shared/oci-layout/refusal.ts';
import { type BundleImage, nameOf, type Statement } from '../../shared/oci-layout/statement.ts';
import { readDescriptors } from '../../shared/registry/descriptors.ts';
import {
  formatPlatform,
  type Platform,
  parsePlatform,
  selectPlatform,
} from '../../shared/registry/platform.ts';

export interface CheckedImage {
  readonly image: BundleImage;
  readonly tree: ImageTree;
  /** Blobs of it that the bundle counts on. */
  readonly base: readonly Digest[];
}

/**
 * Everything that images name is in the bundle or left out knowingly, with the same size, and nothing else is in it.
 * @throws TidepoolError BUNDLE_REFUSED
 */
export function checkTrees(said: Statement, manifests: ReadonlyMap<Digest, Uint8Array>): CheckedImage[] {
  const sizes = new Map([...said.manifests, ...said.blobs].map(({ digest, size }) => [digest, size]));
  const left = new Map(said.leftOut.map((each) => [each.digest, each]));
  const used = new Set<Digest>();
  const blobs = new Set(said.blobs.map(({ digest }) => digest));
  const found = said.images.map((image): CheckedImage => {
    const tree = treeOf(image, (digest) => manifests.get(digest));
    for (const { digest } of tree.manifests) used.add(digest);
    for (const { digest, size } of tree.absent) {
      const known = left.get(digest);
      if (known?.why !== 'platform' || known.size !== size) throw missing(image, digest);
      used.add(digest);
    }
    const base: Digest[] = [];
    for (const { digest, size } of tree.blobs) {
      const known = left.get(digest);
      const isBase = known?.why === 'base' && known.size === size;
      if (!isBase && !(blobs.has(digest) && sizes.get(digest) === size)) throw missing(image, digest);
      if (isBase) base.push(digest);
      used.add(digest);
    }
    return { image, tree, base };
  });
  checkTypes(said, found);
  for (const digest of [...sizes.keys(), ...left.keys()]) {
    if (!used.has(digest)) throw bundleRefused(`none of its images names ${digest}`);
  }
  return found;
}

/** @throws TidepoolError BUNDLE_REFUSED for an image that has nothing that runs on this platform */
export function checkPlatform(images: readonly CheckedImage[], platform: Platform): void {
  for (const { image, tree } of images) {
    const offered = offeredBy(image, tree);
    if (offered.length === 0 || selectPlatform(offered, platform) !== undefined) continue;
    const names = offered.flatMap(({ platform: each }) => (each === undefined ? [] : [formatPlatform(each)]));
    throw bundleRefused(
      `${nameOf(image)} in it is for ${[...new Set(names)].join(', ')}, and this node is ${formatPlatform(platform)}; --any-platform takes it for other nodes of the pool`,
    );
  }
}

/** What the bundle has of an image; empty for one that does not say what it is for. */
function offeredBy(image: BundleImage, tree: ImageTree): { readonly platform: Platform | undefined }[] {
  if (!isIndexType(image.mediaType)) {
    return image.platform === undefined ? [] : [{ platform: parsePlatform(image.platform) }];
  }
  const here = new Set(tree.manifests.map(({ digest }) => digest));
  return tree.manifests
    .filter(({ mediaType }) => isIndexType(mediaType))
    .flatMap((index) => readDescriptors(index).manifests)
    .filter(({ digest, mediaType }) => here.has(digest) && !mediaType.includes('index'));
}

/** The kind that is stated of a manifest is what neighbours and runtimes are told of it. */
function checkTypes(said: Statement, images: readonly CheckedImage[]): void {
  const types = new Map(said.manifests.map(({ digest, mediaType }) => [digest, mediaType]));
  for (const { tree } of images) {
    for (const { digest, mediaType } of tree.manifests) {
      if (types.get(digest) !== mediaType) throw bundleRefused(`${digest} is said to be of two types`);
    }
  }
}

function missing(image: BundleImage, digest: Digest): ReturnType<typeof bundleRefused> {
  return bundleRefused(`${nameOf(image)} needs ${digest}, which is not in it as it should be`);
}
