import { TidepoolError } from '../../shared/errors.ts';
import type { Digest } from '../../shared/ids.ts';
import { formatImageRef, type ImageRef } from '../../shared/image-ref.ts';
import { bundleSource, writeBundleFile } from '../../shared/oci-layout/bundle-file.ts';
import { bundleBytes } from '../../shared/oci-layout/layout-files.ts';
import { BundleReader } from '../../shared/oci-layout/read-bundle.ts';
import { bundleRefused } from '../../shared/oci-layout/refusal.ts';
import { nameOf, type Statement, writeStatement } from '../../shared/oci-layout/statement.ts';
import { readStatementFile, unsignedStatement } from '../../shared/oci-layout/statement-file.ts';
import { bundleTar } from '../../shared/oci-layout/write-bundle.ts';
import type { Platform } from '../../shared/registry/platform.ts';
import { blobsOf, type CollectComponents, type CollectInit, collectImages } from './collect.ts';

/** The bundle's first file, signed, for one that is not. */
export type StatementSigner = (unsigned: Buffer) => Promise<Uint8Array>;

export interface CreateComponents extends CollectComponents {
  /** Undefined: nobody signs it. */
  readonly sign: StatementSigner | undefined;
}

export interface PoolHoldings {
  readonly pool: string;
  readonly images: readonly ImageRef[];
  readonly platforms: readonly Platform[];
}

export interface CreateInit {
  readonly images: readonly ImageRef[];
  readonly platforms: readonly Platform[];
  /** Bundles that whoever imports this one has had. */
  readonly since: readonly string[];
  /** What all nodes of the pool that it is for have. */
  readonly held?: PoolHoldings | undefined;
  readonly file: string;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

export interface CreatedBundle {
  readonly bytes: number;
  readonly images: readonly string[];
  readonly platforms: readonly string[];
  readonly blobs: number;
  /** Because whoever imports it has them. */
  readonly leftOutBytes: number;
  /** When the signature ends, ms since 1970. */
  readonly expires?: number;
}

/** Writes a bundle from registries. Memory is bounded by the manifests, whatever the layers weigh. */
export async function createBundle(components: CreateComponents, init: CreateInit): Promise<CreatedBundle> {
  const { registry, sign } = components;
  const { file, signal, onProgress } = init;
  const { statement, manifests, sources } = await collectImages(components, {
    ...init,
    base: await baseOf(components, init),
  });
  const unsigned = unsignedStatement(statement);
  const first = readStatementFile(sign === undefined ? unsigned : await sign(unsigned));
  requireSame(statement, first.statement);
  const bytes = bundleBytes(first.bytes, first.statement);
  let done = 0;
  const tar = bundleTar(first, {
    manifest: (digest) => manifests.get(digest),
    blob: ({ digest }) => {
      const source = sources.get(digest);
      if (source === undefined) throw new TidepoolError('INTERNAL', `nobody has named ${digest}`);
      return registry.blob(source.image, digest, source.account, signal);
    },
  });
  await writeBundleFile(file, tar, (count) => {
    done += count;
    onProgress(done, bytes);
  });
  const { images, platforms, blobs, leftOut, expires } = first.statement;
  const left = leftOut.filter(({ why }) => why === 'base').reduce((sum, { size }) => sum + size, 0);
  return {
    bytes,
    images: images.map(nameOf),
    platforms,
    blobs: blobs.length,
    leftOutBytes: left,
    ...(expires === undefined ? {} : { expires }),
  };
}

/** All that the bundles before have, or count on, and what the pool has. */
async function baseOf(
  components: CollectComponents,
  { since, held, signal }: CreateInit,
): Promise<CollectInit['base']> {
  const blobs = new Set<Digest>();
  const names: string[] = [];
  if (held !== undefined && held.images.length > 0) {
    for (const digest of await blobsOf(components, { ...held, signal })) blobs.add(digest);
    names.push(...held.images.map(formatImageRef));
  }
  for (const file of since) {
    const reader = new BundleReader(bundleSource(file));
    try {
      const { statement } = await reader.statement();
      for (const { digest } of statement.blobs) blobs.add(digest);
      for (const { digest, why } of statement.leftOut) if (why === 'base') blobs.add(digest);
      names.push(...statement.images.map(nameOf));
    } finally {
      await reader.close();
    }
  }
  const [first, ...more] = names;
  if (first === undefined) return undefined;
  return {
    name: `what came with ${first}${more.length === 0 ? '' : ` and ${more.length} more`}`.slice(0, 300),
    blobs,
  };
}

/** What was signed has to be what was asked for: times and the hub's words aside. */
function requireSame(asked: Statement, signed: Statement): void {
  const { created: _, expires: __, ...rest } = signed;
  const bare = { ...rest, images: signed.images.map(({ word: _word, ...image }) => image) };
  if (!writeStatement(bare).equals(writeStatement(asked))) {
    throw bundleRefused('the hub has signed something else than it was asked to');
  }
}
