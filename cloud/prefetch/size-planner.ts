import type { Digest, NodeName, PoolName } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import { readDescriptors } from '../../shared/registry/descriptors.ts';
import {
  formatPlatform,
  type Platform,
  parsePlatform,
  selectPlatform,
} from '../../shared/registry/platform.ts';
import type { DryRunStatus } from '../desired/types.ts';
import type { Account, RegistryReader } from '../registry/types.ts';

const MAX_POOL_ROWS = 100;
/** Manifests kept: a plan over many pools asks for the same few. */
const MAX_KEPT = 64;
/** Manifests read of one index at most. */
const MAX_PLATFORMS = 16;

/** Bytes of one image on one platform: its manifests, config and layers, by digest. */
export type Parts = ReadonlyMap<Digest, number>;

export interface PoolToFill {
  readonly pool: PoolName;
  readonly nodes: readonly NodeName[];
  /** `linux/arm64`, of the nodes that said so. */
  readonly platforms: readonly string[];
  /** Manifests that the pool is known to hold with all they name. */
  readonly held: ReadonlySet<string>;
}

export interface ImageToPlan {
  readonly image: string;
  readonly digest: Digest;
  readonly platforms?: readonly string[] | undefined;
}

/** Works out how many bytes images would move over each pool's uplink: once a pool, whatever its number of nodes. */
export class SizePlanner {
  readonly #registry: RegistryReader;
  readonly #kept = new Map<string, ReturnType<typeof readDescriptors> & { readonly size: number }>();

  constructor(components: { readonly registry: RegistryReader }) {
    this.#registry = components.registry;
  }

  /** Throws what the registry throws, or TidepoolError ORIGIN_LIED for a manifest that is none. */
  async plan(
    images: readonly ImageToPlan[],
    pools: readonly PoolToFill[],
    account: (registry: string) => Promise<Account | undefined>,
    signal: AbortSignal,
  ): Promise<DryRunStatus> {
    const rows: DryRunStatus['pools'][number][] = [];
    const total = { wanBytes: 0, upperBound: false };
    for (const { pool, nodes, platforms, held } of pools) {
      const parts = new Map<Digest, number>();
      for (const each of images) {
        if (held.has(each.digest)) continue;
        for (const [digest, size] of await this.#parts(each, platforms, account, signal)) {
          parts.set(digest, size);
        }
      }
      const wanBytes = [...parts.values()].reduce((sum, size) => sum + size, 0);
      // Layers that came with other images are not known here, so whatever is left is a bound.
      const upperBound = wanBytes > 0;
      total.wanBytes += wanBytes;
      total.upperBound ||= upperBound;
      if (rows.length < MAX_POOL_ROWS) rows.push({ name: pool, nodes: nodes.length, wanBytes, upperBound });
    }
    return { ...total, pools: rows };
  }

  async #parts(
    { image, digest, platforms: only = [] }: ImageToPlan,
    nodePlatforms: readonly string[],
    account: (registry: string) => Promise<Account | undefined>,
    signal: AbortSignal,
  ): Promise<Parts> {
    const ref = parseImageRef(image);
    const as = await account(ref.registry);
    const read = async (wanted: Digest) => {
      const key = `${ref.registry}/${ref.repository} ${wanted}`;
      const known = this.#kept.get(key);
      if (known !== undefined) return known;
      const manifest = await this.#registry.manifest({ ...ref, digest: wanted }, as, signal);
      const entry = { ...readDescriptors(manifest), size: manifest.bytes.length };
      this.#kept.set(key, entry);
      const [oldest] = this.#kept.keys();
      if (this.#kept.size > MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest);
      return entry;
    };
    const root = await read(digest);
    const parts = new Map<Digest, number>([[digest, root.size]]);
    for (const blob of root.blobs) parts.set(blob.digest, blob.size);
    for (const child of chosen(root.manifests, wantedPlatforms(nodePlatforms, only))) {
      const manifest = await read(child.digest);
      parts.set(child.digest, manifest.size);
      for (const blob of manifest.blobs) parts.set(blob.digest, blob.size);
    }
    return parts;
  }
}

/** Platforms that a pool's nodes will take; undefined when nobody knows: then all of them are counted. */
function wantedPlatforms(nodes: readonly string[], only: readonly string[]): readonly Platform[] | undefined {
  const offered = only.map((text) => ({ platform: parsePlatform(text) }));
  const known = [...new Set(nodes)].map(parsePlatform);
  if (known.length === 0) return only.length === 0 ? undefined : offered.map(({ platform }) => platform);
  return only.length === 0
    ? known
    : known.filter((platform) => selectPlatform(offered, platform) !== undefined);
}

function chosen<T extends { readonly platform: Platform | undefined; readonly digest: Digest }>(
  entries: readonly T[],
  wanted: readonly Platform[] | undefined,
): readonly T[] {
  if (wanted === undefined) {
    const real = entries.filter(
      ({ platform }) => platform === undefined || !formatPlatform(platform).startsWith('unknown/'),
    );
    return real.slice(0, MAX_PLATFORMS);
  }
  const found = new Map<Digest, T>();
  for (const platform of wanted) {
    const entry = selectPlatform(entries, platform);
    if (entry !== undefined) found.set(entry.digest, entry);
  }
  return [...found.values()];
}
