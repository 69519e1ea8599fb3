import { TidepoolError } from '../../shared/errors.ts';
import type { Digest } from '../../shared/ids.ts';
import { formatImageRef, type ImageRef } from '../../shared/image-ref.ts';
import { bundleBytes } from '../../shared/oci-layout/layout-files.ts';
import { readManifest, type TreeNode, treeOf, typeOf } from '../../shared/oci-layout/manifest-tree.ts';
import { isIndexType } from '../../shared/oci-layout/media-types.ts';
import { type BundleImage, type LeftOut, nameOf, type Statement } from '../../shared/oci-layout/statement.ts';
import {
  readStatementFile,
  type StatementFile,
  unsignedStatement,
} from '../../shared/oci-layout/statement-file.ts';
import { bundleTar } from '../../shared/oci-layout/write-bundle.ts';
import { formatPlatform, type Platform, selectPlatform } from '../../shared/registry/platform.ts';
import type { ScopeTable } from '../index/types.ts';
import type { Credentials } from '../origin/types.ts';
import type { BlobStore } from '../store/types.ts';
import type { ImageWords } from '../transfer/image-words.ts';
import { type Content, PRIORITY } from '../transfer/types.ts';

const READ_BYTES = 1024 * 1024;

interface ExporterComponents {
  readonly content: Pick<Content, 'manifest' | 'fill'>;
  readonly store: Pick<BlobStore, 'get'>;
  readonly scope: Pick<ScopeTable, 'access'>;
  readonly words: Pick<ImageWords, 'signed' | 'get'>;
}

export interface ExportInit {
  readonly images: readonly ImageRef[];
  readonly platforms: readonly Platform[];
  readonly credentials: Credentials | undefined;
  readonly signal: AbortSignal;
}

export interface ExportedBundle {
  readonly bytes: number;
  /** The hub has signed for each of its images. */
  readonly isSigned: boolean;
  readonly images: readonly string[];
  readonly tar: AsyncIterable<Uint8Array>;
}

interface ExportedImage {
  readonly image: BundleImage;
  readonly manifests: ReadonlyMap<Digest, Uint8Array>;
  readonly tree: ReturnType<typeof treeOf>;
}

/** Writes bundles of what the pool has. What the hub has signed of an image goes along, so that another pool takes it too. */
export class BundleExporter {
  readonly #c: ExporterComponents;

  constructor(components: ExporterComponents) {
    this.#c = components;
  }

  /**
   * Everything is in this node's store when it resolves; the bytes come as they are read.
   * @throws TidepoolError what a pull throws, NOT_FOUND where an image has none of the platforms
   */
  async open(init: ExportInit): Promise<ExportedBundle> {
    const found = new Map<string, ExportedImage>();
    for (const wanted of init.images) {
      const one = await this.#resolve(wanted, init);
      found.set(nameOf(one.image), one);
    }
    const all = [...found.values()];
    for (const { image, tree } of all) {
      const { registry, repository } = image;
      for (const { digest } of tree.blobs) {
        await this.#c.content.fill({ ...requestOf(init), registry, repository, digest });
      }
    }
    const file = readStatementFile(unsignedStatement(statementOf(all)));
    const manifests = new Map(all.flatMap((each) => [...each.manifests]));
    return {
      bytes: bundleBytes(file.bytes, file.statement),
      isSigned: all.every(({ image }) => image.word !== undefined),
      images: all.map(({ image }) => nameOf(image)),
      tar: this.#tar(file, manifests, init.signal),
    };
  }

  #tar(
    file: StatementFile,
    manifests: ReadonlyMap<Digest, Uint8Array>,
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array> {
    return bundleTar(file, {
      manifest: (digest) => manifests.get(digest),
      blob: ({ digest, size }) => this.#blob(digest, size, signal),
    });
  }

  async *#blob(digest: Digest, size: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const stored = this.#c.store.get(digest);
    if (stored?.whole !== true) {
      throw new TidepoolError('PIECE_NOT_HELD', `${digest} is no longer here; export it again`);
    }
    for (let position = 0; position < size; ) {
      signal.throwIfAborted();
      const lease = await stored.lease(position, Math.min(READ_BYTES, size - position));
      // The bytes are on loan, and whoever sends them may still have them when the next come.
      const chunk = Buffer.from(lease.bytes);
      lease.release();
      position += chunk.length;
      yield chunk;
    }
  }

  async #resolve(wanted: ImageRef, init: ExportInit): Promise<ExportedImage> {
    const { registry, repository, tag } = wanted;
    const manifest = (reference: string): Promise<{ digest: Digest; bytes: Uint8Array }> =>
      this.#c.content.manifest({ ...requestOf(init), registry, repository, reference });
    const { digest, bytes } = await manifest(wanted.digest ?? tag ?? 'latest');
    const root: TreeNode = { digest, size: bytes.length, mediaType: typeOf(digest, bytes) };
    const manifests = new Map<Digest, Uint8Array>([[digest, bytes]]);
    if (isIndexType(root.mediaType)) {
      for (const child of childrenOf(wanted, root, bytes, init.platforms)) {
        manifests.set(child, (await manifest(child)).bytes);
      }
    }
    const tree = treeOf(root, (each) => manifests.get(each));
    const image = { registry, repository, ...(tag === undefined ? {} : { tag }), ...root };
    return { image: { ...image, ...this.#openness(image) }, manifests, tree };
  }

  #openness(image: Omit<BundleImage, 'open' | 'word'>): Pick<BundleImage, 'open' | 'word'> {
    const { registry, repository, tag, digest } = image;
    const name = tag === undefined ? undefined : { registry, repository, tag };
    const text = name && this.#c.words.signed(name);
    const word = name && this.#c.words.get(name);
    if (text !== undefined && word?.digest === digest) return { open: word.open, word: text };
    const { openAt = 0, closedAt = 0 } = this.#c.scope.access({ registry, repository });
    return { open: openAt > closedAt };
  }
}

function childrenOf(
  wanted: ImageRef,
  root: TreeNode,
  bytes: Uint8Array,
  platforms: readonly Platform[],
): ReadonlySet<Digest> {
  const { manifests: named } = readManifest(root, bytes);
  const chosen = platforms.flatMap((platform) => selectPlatform(named, platform)?.digest ?? []);
  if (chosen.length > 0) return new Set(chosen);
  throw new TidepoolError(
    'NOT_FOUND',
    `${formatImageRef(wanted)} has nothing for ${platforms.map(formatPlatform).join(', ')}`,
  );
}

function statementOf(all: readonly ExportedImage[]): Statement {
  const manifests = new Map(all.flatMap(({ tree }) => tree.manifests).map((node) => [node.digest, node]));
  const blobs = new Map(all.flatMap(({ tree }) => tree.blobs).map((blob) => [blob.digest, blob.size]));
  const leftOut = new Map<Digest, LeftOut>();
  for (const { digest, size } of all.flatMap(({ tree }) => tree.absent)) {
    if (!manifests.has(digest)) leftOut.set(digest, { digest, size, why: 'platform' });
  }
  return {
    version: 1,
    platforms: [],
    images: all.map(({ image }) => image),
    manifests: [...manifests.values()].map(({ digest, size, mediaType }) => ({ digest, size, mediaType })),
    blobs: [...blobs].map(([digest, size]) => ({ digest, size })),
    leftOut: [...leftOut.values()],
  };
}

function requestOf({ credentials, signal }: ExportInit): {
  readonly credentials: Credentials | undefined;
  readonly priority: typeof PRIORITY.prefetch;
  readonly signal: AbortSignal;
} {
  return { credentials, priority: PRIORITY.prefetch, signal };
}
