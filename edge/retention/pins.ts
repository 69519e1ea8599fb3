import { describeError } from '../../shared/errors.ts';
import { type BlobKey, type Digest, isDigest } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import type { Logger } from '../../shared/log.ts';
import { readDescriptors } from '../../shared/registry/descriptors.ts';
import type { ManifestTable, TagTable } from '../index/types.ts';
import { MAX_PINNED, PINS_ASK_MS } from './constants.ts';

export interface PinsComponents {
  readonly index: { readonly manifests: Pick<ManifestTable, 'get'>; readonly tags: Pick<TagTable, 'list'> };
  /** Images that jobs are to keep here. */
  readonly prefetched: () => readonly { readonly image: string; readonly digest?: Digest | undefined }[];
  /** Images that the runtime has containers of; undefined where it cannot be asked at all. */
  readonly inUse: (
    signal: AbortSignal,
  ) => Promise<readonly { readonly id: string; readonly digests: readonly string[] }[] | undefined>;
  readonly log: Logger;
}

/** An index names platforms, a platform names layers: nothing that is right goes deeper. */
const MAX_DEPTH = 4;

/** Blobs and manifests that have to stay: of images kept for a prefetch, and of images that containers were made of. */
export class Pins {
  readonly #c: PinsComponents;
  #pinned: ReadonlySet<BlobKey> = new Set();
  /** What the runtime used when it last said so: an answer that fails to come lets nothing go. */
  #inUse: readonly Digest[] = [];

  constructor(components: PinsComponents) {
    this.#c = components;
  }

  has(key: BlobKey): boolean {
    return this.#pinned.has(key);
  }

  get size(): number {
    return this.#pinned.size;
  }

  /** Looks again what has to stay. */
  async refresh(): Promise<void> {
    try {
      const images = await this.#c.inUse(AbortSignal.timeout(PINS_ASK_MS));
      if (images !== undefined)
        this.#inUse = images.flatMap(({ id, digests }) => [id, ...digests].flatMap(toDigest));
    } catch (error) {
      this.#c.log.debug({ why: describeError(error) }, 'the runtime does not say which images it uses');
    }
    const pinned = new Set<BlobKey>();
    for (const root of [...this.#prefetched(), ...this.#inUse]) this.#reach(root, pinned, MAX_DEPTH);
    this.#pinned = pinned;
  }

  /** Of a tag both records: until the newer one is here, what the older one names is what there is. */
  #prefetched(): Digest[] {
    return this.#c.prefetched().flatMap(({ image, digest }) => {
      if (digest !== undefined) return [digest];
      const ref = parseImageRef(image);
      if (ref.digest !== undefined) return [ref.digest];
      const records = this.#c.index.tags.list(ref.registry, ref.repository, ref.tag ?? 'latest');
      return records.map((record) => record.digest);
    });
  }

  #reach(digest: Digest, pinned: Set<BlobKey>, depth: number): void {
    if (depth === 0 || pinned.has(digest) || pinned.size >= MAX_PINNED) return;
    pinned.add(digest);
    const record = this.#c.index.manifests.get(digest);
    if (record === undefined) return;
    try {
      const { blobs, manifests } = readDescriptors(record);
      for (const blob of blobs) pinned.add(blob.digest);
      for (const child of manifests) this.#reach(child.digest, pinned, depth - 1);
    } catch (error) {
      this.#c.log.debug(
        { digest, why: describeError(error) },
        'a manifest cannot be read, nothing of it is pinned',
      );
    }
  }
}

/** `sha256:…`, or `repository@sha256:…`. */
function toDigest(name: string): Digest[] {
  const digest = name.slice(name.indexOf('@') + 1);
  return isDigest(digest) ? [digest] : [];
}
