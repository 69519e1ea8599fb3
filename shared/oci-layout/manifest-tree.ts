/** Which manifests and blobs belong to an image, from its manifests' own bytes. */
import { isTidepoolError } from '../errors.ts';
import type { Digest } from '../ids.ts';
import { type Descriptor, readDescriptors } from '../registry/descriptors.ts';
import { MAX_DEPTH, MAX_MANIFEST_BYTES } from './constants.ts';
import { FOREIGN_TYPE, isIndexType, isManifestType, type ManifestType } from './media-types.ts';
import { bundleRefused } from './refusal.ts';

export interface TreeNode {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: ManifestType;
}

export interface ImageTree {
  /** The image's own first; each once. */
  readonly manifests: readonly (TreeNode & { readonly bytes: Uint8Array })[];
  /** Manifests that an index names and that are not at hand. */
  readonly absent: readonly Descriptor[];
  readonly blobs: readonly Descriptor[];
}

/**
 * Follows an image down to its blobs, over the manifests at hand.
 * @throws TidepoolError BUNDLE_REFUSED for manifests that are none, or that name what no registry holds
 */
export function treeOf(root: TreeNode, find: (digest: Digest) => Uint8Array | undefined): ImageTree {
  const manifests = new Map<Digest, TreeNode & { readonly bytes: Uint8Array }>();
  const absent = new Map<Digest, Descriptor>();
  const blobs = new Map<Digest, Descriptor>();
  const visit = (node: TreeNode, depth: number): void => {
    if (manifests.has(node.digest)) return;
    if (depth > MAX_DEPTH) throw bundleRefused(`${root.digest} is an index of indexes of indexes`);
    const bytes = find(node.digest);
    if (bytes === undefined) {
      const { digest, size, mediaType } = node;
      absent.set(digest, { digest, size, mediaType, platform: undefined });
      return;
    }
    if (bytes.length !== node.size)
      throw bundleRefused(`${node.digest} does not have the size that is named`);
    manifests.set(node.digest, { ...node, bytes });
    const named = readManifest(node, bytes);
    for (const child of named.manifests) visit(childOf(node, child), depth + 1);
    for (const blob of named.blobs) note(blobs, blob);
  };
  visit(root, 1);
  if (absent.has(root.digest)) throw bundleRefused(`the manifest of ${root.digest} is missing`);
  for (const digest of blobs.keys()) {
    if (manifests.has(digest) || absent.has(digest)) {
      throw bundleRefused(`${digest} is named as a manifest and as a blob`);
    }
  }
  return { manifests: [...manifests.values()], absent: [...absent.values()], blobs: [...blobs.values()] };
}

/** What one manifest names; it has to be of the kind that it is said to be. */
export function readManifest(
  { digest, mediaType }: Pick<TreeNode, 'digest' | 'mediaType'>,
  bytes: Uint8Array,
): { readonly manifests: readonly Descriptor[]; readonly blobs: readonly Descriptor[] } {
  const json = parseObject(digest, bytes);
  if (json.mediaType !== undefined && json.mediaType !== mediaType) {
    throw bundleRefused(`${digest} is not of the type that it is said to be`);
  }
  const [wanted, other] = isIndexType(mediaType)
    ? [['manifests'], ['config', 'layers', 'blobs', 'fsLayers']]
    : [
        ['config', 'layers'],
        ['manifests', 'blobs', 'fsLayers'],
      ];
  const isKind =
    wanted.every((key) => json[key] !== undefined) && other.every((key) => json[key] === undefined);
  if (!isKind)
    throw bundleRefused(`${digest} is no ${isIndexType(mediaType) ? 'index' : 'manifest of an image'}`);
  checkNoAddresses(digest, [json.config, json.layers, json.manifests].flat());
  const named = descriptorsOf(digest, bytes);
  if (named.blobs.some(({ mediaType: type }) => FOREIGN_TYPE.test(type))) throw foreign(digest);
  return named;
}

/** The type of a manifest, as it says itself, else by what it names. @throws TidepoolError BUNDLE_REFUSED */
export function typeOf(digest: Digest, bytes: Uint8Array): ManifestType {
  const { mediaType, manifests } = parseObject(digest, bytes);
  if (typeof mediaType === 'string' && isManifestType(mediaType)) return mediaType;
  if (mediaType !== undefined) throw bundleRefused(`${digest} is of a type that bundles do not carry`);
  return manifests === undefined
    ? 'application/vnd.oci.image.manifest.v1+json'
    : 'application/vnd.oci.image.index.v1+json';
}

function childOf(parent: TreeNode, { digest, size, mediaType }: Descriptor): TreeNode {
  if (!isManifestType(mediaType))
    throw bundleRefused(`${parent.digest} names ${digest}, which is no manifest`);
  if (size > MAX_MANIFEST_BYTES) throw bundleRefused(`manifest ${digest} has ${size} bytes`);
  return { digest, size, mediaType };
}

function note(blobs: Map<Digest, Descriptor>, blob: Descriptor): void {
  const known = blobs.get(blob.digest);
  if (known !== undefined && known.size !== blob.size) {
    throw bundleRefused(`${blob.digest} is named with ${known.size} bytes and with ${blob.size}`);
  }
  blobs.set(blob.digest, blob);
}

function descriptorsOf(digest: Digest, bytes: Uint8Array): ReturnType<typeof readDescriptors> {
  try {
    return readDescriptors({ digest, bytes });
  } catch (error) {
    if (isTidepoolError(error, 'ORIGIN_LIED')) throw bundleRefused(error.message, error);
    throw error;
  }
}

/** Content that lies at an address of its own is not in any registry, and in no bundle. */
function checkNoAddresses(digest: Digest, descriptors: readonly unknown[]): void {
  for (const each of descriptors) {
    if (typeof each !== 'object' || each === null || !('urls' in each)) continue;
    if (Array.isArray(each.urls) && each.urls.length === 0) continue;
    throw foreign(digest);
  }
}

function foreign(digest: Digest): ReturnType<typeof bundleRefused> {
  return bundleRefused(`${digest} names layers that its registry does not hold itself`);
}

function parseObject(digest: Digest, bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw bundleRefused(`manifest ${digest} is no JSON`, error);
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw bundleRefused(`manifest ${digest} is no JSON object`);
  }
  return { ...json };
}
