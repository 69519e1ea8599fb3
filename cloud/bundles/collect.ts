import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { Digest } from '../../shared/ids.ts';
import { formatImageRef, type ImageRef } from '../../shared/image-ref.ts';
import {
  type ImageTree,
  readManifest,
  type TreeNode,
  treeOf,
  typeOf,
} from '../../shared/oci-layout/manifest-tree.ts';
import { isIndexType } from '../../shared/oci-layout/media-types.ts';
import { bundleRefused } from '../../shared/oci-layout/refusal.ts';
import { type BundleImage, type LeftOut, nameOf, type Statement } from '../../shared/oci-layout/statement.ts';
import type { Descriptor } from '../../shared/registry/descriptors.ts';
import { formatPlatform, type Platform, selectPlatform } from '../../shared/registry/platform.ts';
import type { Account, ContentReader } from '../registry/types.ts';
import { platformInConfig } from './image-config.ts';

export interface CollectComponents {
  readonly registry: ContentReader;
  /** Tried where a registry gives nothing without one. */
  readonly accountFor: (registry: string) => Account | undefined;
}

export interface CollectInit {
  readonly images: readonly ImageRef[];
  /** Of an index, these alone; none given: all that it has. */
  readonly platforms: readonly Platform[];
  /** What whoever imports it has already, and what that is in words. */
  readonly base?: { readonly name: string; readonly blobs: ReadonlySet<Digest> } | undefined;
  readonly signal: AbortSignal;
}

/** Under which name a blob is to be had, and as whom. */
export interface BlobSource {
  readonly image: ImageRef;
  readonly account: Account | undefined;
}

export interface Collected {
  readonly statement: Statement;
  readonly manifests: ReadonlyMap<Digest, Uint8Array>;
  readonly sources: ReadonlyMap<Digest, BlobSource>;
}

/** Blobs of images that are elsewhere already; of one that its registry no longer has, none. */
export async function blobsOf(
  components: CollectComponents,
  { images, ...init }: Omit<CollectInit, 'base'>,
): Promise<Set<Digest>> {
  const found = new Set<Digest>();
  for (const image of images) {
    try {
      const { statement } = await collectImages(components, { ...init, images: [image] });
      for (const { digest } of statement.blobs) found.add(digest);
    } catch (error) {
      const isGone = GONE.some((code) => isTidepoolError(error, code));
      if (!isGone) throw error;
    }
  }
  return found;
}

const GONE = ['NOT_FOUND', 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN'] as const;

interface CollectedImage {
  readonly image: BundleImage;
  readonly tree: ImageTree;
  readonly platforms: readonly string[];
  readonly source: BlobSource;
}

/**
 * Asks registries what the images are, down to the names of their blobs; the blobs themselves are read later.
 * @throws TidepoolError NOT_FOUND where an image has none of the platforms, BUNDLE_REFUSED, and what registries answer
 */
export async function collectImages(components: CollectComponents, init: CollectInit): Promise<Collected> {
  const manifests = new Map<Digest, Uint8Array>();
  const sources = new Map<Digest, BlobSource>();
  const blobs = new Map<Digest, number>();
  const found = new Map<string, CollectedImage>();
  for (const wanted of init.images) {
    const one = await collectOne(components, init, wanted, manifests);
    found.set(nameOf(one.image), one);
    for (const { digest, size } of one.tree.blobs) {
      blobs.set(digest, size);
      if (!sources.has(digest)) sources.set(digest, one.source);
    }
  }
  const all = [...found.values()];
  const leftOut = new Map<Digest, LeftOut>();
  for (const { tree } of all) {
    for (const { digest, size } of tree.absent) {
      if (!manifests.has(digest)) leftOut.set(digest, { digest, size, why: 'platform' });
    }
  }
  for (const [digest, size] of blobs) {
    if (init.base?.blobs.has(digest) === true) leftOut.set(digest, { digest, size, why: 'base' });
  }
  const nodes = new Map(all.flatMap(({ tree }) => tree.manifests).map((node) => [node.digest, node]));
  return {
    statement: {
      version: 1,
      platforms: [...new Set(all.flatMap(({ platforms }) => platforms))],
      ...(init.base === undefined ? {} : { base: init.base.name }),
      images: all.map(({ image }) => image),
      manifests: [...nodes.values()].map(({ digest, size, mediaType }) => ({ digest, size, mediaType })),
      blobs: [...blobs].flatMap(([digest, size]) => (leftOut.has(digest) ? [] : [{ digest, size }])),
      leftOut: [...leftOut.values()],
    },
    manifests,
    sources,
  };
}

async function collectOne(
  components: CollectComponents,
  init: CollectInit,
  wanted: ImageRef,
  manifests: Map<Digest, Uint8Array>,
): Promise<CollectedImage> {
  const { registry } = components;
  const { signal } = init;
  const { account, digest } = await resolved(components, wanted, signal);
  const pinned: ImageRef = { ...wanted, digest };
  const fetch = async (digest: Digest): Promise<Uint8Array> => {
    const known = manifests.get(digest);
    if (known !== undefined) return known;
    const { bytes } = await registry.manifest({ ...pinned, digest }, account, signal);
    manifests.set(digest, bytes);
    return bytes;
  };
  const bytes = await fetch(digest);
  const root: TreeNode = { digest, size: bytes.length, mediaType: typeOf(digest, bytes) };
  const chosen = new Set<Digest>();
  const platforms = isIndexType(root.mediaType)
    ? await fetchChildren({ root, bytes, fetch, chosen }, init, wanted)
    : [];
  const tree = treeOf(root, (each) =>
    each === digest || chosen.has(each) ? manifests.get(each) : undefined,
  );
  const source: BlobSource = { image: pinned, account };
  const own = isIndexType(root.mediaType) ? undefined : await ownPlatform(registry, source, tree, signal);
  const { tag } = wanted;
  return {
    image: {
      registry: wanted.registry,
      repository: wanted.repository,
      ...(tag === undefined ? {} : { tag }),
      ...root,
      ...(own === undefined ? {} : { platform: own }),
      open: account === undefined,
    },
    tree,
    platforms: own === undefined ? platforms : [own],
    source,
  };
}

/** Without an account first: whether that does, is what decides who may pull it offline. */
async function resolved(
  { registry, accountFor }: CollectComponents,
  wanted: ImageRef,
  signal: AbortSignal,
): Promise<{ readonly account: Account | undefined; readonly digest: Digest }> {
  const ask = async (account: Account | undefined): Promise<Digest> => {
    const digest = wanted.digest ?? (await registry.digest(wanted, account, signal));
    await registry.manifest({ ...wanted, digest }, account, signal);
    return digest;
  };
  try {
    return { account: undefined, digest: await ask(undefined) };
  } catch (error) {
    const account = accountFor(wanted.registry);
    const denied = isTidepoolError(error, 'UNAUTHORIZED') || isTidepoolError(error, 'DENIED');
    if (!denied || account === undefined) throw error;
    return { account, digest: await ask(account) };
  }
}

interface IndexAtHand {
  readonly root: TreeNode;
  readonly bytes: Uint8Array;
  readonly fetch: (digest: Digest) => Promise<Uint8Array>;
  readonly chosen: Set<Digest>;
}

/** Fetches what an index names of the platforms that are wanted; the answer says which these are. */
async function fetchChildren(
  { root, bytes, fetch, chosen }: IndexAtHand,
  { platforms }: CollectInit,
  wanted: ImageRef,
): Promise<string[]> {
  const { manifests: named } = readManifest(root, bytes);
  const children =
    platforms.length === 0 ? named : platforms.flatMap((platform) => selectPlatform(named, platform) ?? []);
  if (children.length === 0) throw noPlatform(wanted, platforms, named);
  for (const { digest, mediaType } of children) {
    if (mediaType !== '' && /index|list/.test(mediaType)) {
      throw bundleRefused(`${formatImageRef(wanted)} is an index of indexes, which bundles do not carry`);
    }
    chosen.add(digest);
    await fetch(digest);
  }
  return children.flatMap(({ platform }) =>
    platform === undefined || platform.os === 'unknown' ? [] : [formatPlatform(platform)],
  );
}

async function ownPlatform(
  registry: ContentReader,
  { image, account }: BlobSource,
  tree: ImageTree,
  signal: AbortSignal,
): Promise<string | undefined> {
  const [config] = tree.blobs;
  if (config === undefined) return undefined;
  return await platformInConfig(config, registry.blob(image, config.digest, account, signal));
}

function noPlatform(
  image: ImageRef,
  wanted: readonly Platform[],
  named: readonly Descriptor[],
): TidepoolError {
  const known = named.flatMap(({ platform }) => (platform === undefined ? [] : [formatPlatform(platform)]));
  return new TidepoolError(
    'NOT_FOUND',
    `${formatImageRef(image)} has nothing for ${wanted.map(formatPlatform).join(', ')}; it is for ${[...new Set(known)].join(', ')}`,
  );
}
