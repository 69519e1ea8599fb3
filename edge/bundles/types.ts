import type { Digest } from '../../shared/ids.ts';
import type { RepositoryName } from '../index/types.ts';

/** Whose word a bundle is: the hub's for all of it, the hub's for each of its images, or nobody's. */
export type BundleWord = 'hub' | 'images' | 'nobody';

export interface ImportInit {
  /** A bundle that nobody has signed is taken too. */
  readonly unsigned: boolean;
  /** Images that this node cannot run are taken too, for neighbours. */
  readonly anyPlatform: boolean;
  /** Everything is read and checked, and nothing kept. */
  readonly check: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

export interface BundleState {
  readonly imported: number;
  readonly importedBytes: number;
  readonly refused: number;
  readonly importing: boolean;
}

export interface Imported {
  readonly images: readonly { readonly name: string; readonly digest: Digest }[];
  readonly word: BundleWord;
  /** Of the bundle. */
  readonly bytes: number;
  /** Of blobs that were not here before. */
  readonly newBytes: number;
  readonly blobs: number;
}

/** Which of these are to be had in the pool without a registry, this node included. */
export type HeldInPool = (
  digests: readonly Digest[],
  name: RepositoryName,
  signal: AbortSignal,
) => Promise<ReadonlySet<Digest>>;
