/** What other rooms of the hub see of trust. */
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { KeyId } from '../../shared/trust/types.ts';

/** What a pool is told on `tidepool/v1/pools/<pool>/trust`; whoever publishes adds the epoch. */
export interface PoolTrust {
  /** Grows with every change of anything below, of all pools; never falls, also over restarts. */
  readonly version: number;
  /** PEM, one authority each; the first issues. */
  readonly roots: readonly string[];
  /** The pool's own first, of these the newest first; bounded to fit a message. */
  readonly revoked: readonly KeyId[];
}

export interface PoolTrustSource {
  trustOf(pool: PoolName): PoolTrust;
  /** Told after each change; the answer ends that. */
  onChange(listener: () => void): () => void;
}

/** Nodes that hold certificates, and the pools they belong to: labels do not count for them. */
export interface EnrolledNodes {
  poolOf(node: NodeName): PoolName | undefined;
  /** A new map after each change, the same one otherwise. */
  enrolled(): ReadonlyMap<NodeName, PoolName>;
  onChange(listener: () => void): () => void;
}

/** Whom the cluster says that a pod's token belongs to. */
export interface ServiceAccountNode {
  readonly node: NodeName;
  /** `namespace/name` of the ServiceAccount. */
  readonly account: string;
}

/** Says where the pod of a projected ServiceAccount token runs. */
export interface ServiceAccountReviewer {
  /** @throws TidepoolError TOKEN_REFUSED, KUBE_UNREACHABLE, KUBE_ERROR */
  review(token: string, signal?: AbortSignal): Promise<ServiceAccountNode>;
}

/** One text that is replaced as a whole; in a directory, or where all hubs of a cluster see it. */
export interface Vault<T> {
  /** In words, for messages. */
  readonly place: string;
  /** @throws TidepoolError STORE_CORRUPT, KUBE_UNREACHABLE … */
  read(signal?: AbortSignal): Promise<Versioned<T> | undefined>;
  /**
   * Durable when it resolves; the answer is the new version.
   * @param expected of what is replaced; undefined where there shall be none yet
   * @throws TidepoolError CONFLICT when another hub has written meanwhile
   */
  write(content: T, expected: string | undefined, signal?: AbortSignal): Promise<string>;
}

export interface Versioned<T> {
  readonly content: T;
  readonly version: string;
}

/** PEM. */
export interface AuthorityContent {
  /** The first is the one that issues. */
  readonly roots: string;
  /** In any order; those of roots that are trusted and held elsewhere are missing. */
  readonly keys: string;
}
