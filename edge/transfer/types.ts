import type { Digest } from '../../shared/ids.ts';
import type { ManifestRecord } from '../index/types.ts';
import type { Credentials, OriginAnswer } from '../origin/types.ts';
import type { Lease } from '../store/types.ts';

/** Order in which work gets bandwidth and slots: lower first. */
export const PRIORITY = { onDemand: 0, prefetch: 1, background: 2 } as const;
export type Priority = (typeof PRIORITY)[keyof typeof PRIORITY];

export interface ContentRequest {
  /** As the runtime names it (`ns=`, the path, or the listener's default). */
  readonly registry: string;
  readonly repository: string;
  readonly credentials?: Credentials | undefined;
  readonly priority?: Priority;
  readonly signal?: AbortSignal;
}

export interface ManifestAnswer extends ManifestRecord {
  /** Set when the answer to a tag comes from a record because the origin could not be asked: when the origin gave it. */
  readonly staleSince?: number;
}

/** Where bytes of one reader's blob came from; grows while it reads. */
export interface TransferCounts {
  wanBytes: number;
  peerBytes: number;
  /** Bytes that were on this node before. */
  localBytes: number;
}

export interface BlobView {
  readonly size: number;
  /**
   * Bytes [start, end) in order, in leases of at most 1 MiB, each released by the reader before or after it asks for the next.
   * 'whole' joins the swarm and fills the blob; 'range' fetches what is read and no further. The last bytes of a blob that
   * is being filled are held back until its digest is verified. Returning early or aborting is normal.
   * @throws TidepoolError DIGEST_MISMATCH, BLOB_UNKNOWN, UNAUTHORIZED, ORIGIN_UNREACHABLE …
   */
  read(range: {
    start: number;
    end: number;
    mode: 'whole' | 'range';
    signal?: AbortSignal;
  }): AsyncIterable<Lease>;
  /**
   * `Clock.mono()` when the node last got a byte that brings this blob nearer, also while it waits behind others on a thin
   * uplink: at 256 kbit/s one piece takes half a minute, and that is no stall. Absent: only leases count.
   */
  progressAt?(): number | undefined;
}

/** All that mirror, prefetch and command line know of the pool: ask by name, get verified content. */
export interface Content {
  /** `reference`: tag or digest. Bytes always match the digest. */
  manifest(request: ContentRequest & { reference: string }): Promise<ManifestAnswer>;
  /** Only what can be served now: held here, by a live member, or by an origin that answers. */
  blob(request: ContentRequest & { digest: Digest }): Promise<BlobView>;
  /** Fills a blob into the store; resolves when it is whole. */
  fill(
    request: ContentRequest & {
      digest: Digest;
      onProgress?: (counts: Readonly<TransferCounts>, size: number) => void;
    },
  ): Promise<TransferCounts>;
  passThrough(
    request: ContentRequest & { path: string; query: string; method: 'GET' | 'HEAD' },
  ): Promise<OriginAnswer>;
}
