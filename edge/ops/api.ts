/** Shapes of the agent's own HTTP API, as `tidepool-agent status|pull` and people read them. Bytes, and ms since 1970. */
import type { PrefetchProgress } from '../../shared/wire/messages/prefetch.ts';
import type { IdentityStatus } from '../identity/types.ts';
import type { BeaconCounts } from '../peers/beacon-guard.ts';
import type { ContentStatus } from './content-status.ts';
import type { StoreHealth } from './store-health.ts';

export interface HealthCheck {
  readonly name: string;
  readonly ok: boolean;
  /** Why not, or what is known. */
  readonly detail: string;
}

/** `GET /healthz` and `GET /readyz`; 503 where `ok` is false. */
export interface HealthView {
  readonly ok: boolean;
  readonly checks: readonly HealthCheck[];
}

export interface MemberStatus {
  readonly node: string;
  readonly address: string;
  /** It answers. */
  readonly live: boolean;
  /** It sent wrong bytes, and is not asked for a while. */
  readonly setAside: boolean;
  readonly source: string;
}

export interface LinkStatus {
  readonly urls: readonly string[];
  readonly connected: boolean;
  readonly since: number;
  readonly lastError: string | null;
  /** Where it stands; an agent of before leaves it out. */
  readonly state?: LinkStateView;
}

/** One state machine's; times are ms since 1970. */
export interface LinkStateView {
  /** `offline`: no answer; `refused`: the answer is no, and somebody has to see to it. */
  readonly kind: 'none' | 'connecting' | 'online' | 'offline' | 'refused' | 'stopped';
  readonly since?: number;
  readonly url?: string;
  readonly why?: string;
  readonly retryAt?: number;
  readonly attempts?: number;
}

/** A host that no request is sent to for now. */
export interface BreakerStatus {
  readonly registry: string;
  readonly origin: string;
  readonly since: number;
  readonly why: string;
  /** When the next request may try, ms since 1970; null while one does. */
  readonly probeAt: number | null;
}

/** What the hub has not heard of yet. */
export interface EventStatus {
  readonly waiting: number;
  /** There was no room to keep so many. */
  readonly lost: number;
  /** Since the start of the agent, by kind. */
  readonly noted: Readonly<Record<string, number>>;
}

export interface TransferStatus {
  readonly digest: string;
  readonly registry: string;
  readonly repository: string;
  readonly size: number;
  readonly pieces: number;
  readonly have: number;
  readonly wanBytes: number;
  readonly peerBytes: number;
  readonly localBytes: number;
  readonly seconds: number;
}

export interface RegistryStatus {
  readonly registry: string;
  readonly url: string;
  /** Null while it answers, or has not been asked. */
  readonly downSince: number | null;
}

export interface CounterView {
  readonly wanBytes: number;
  readonly peerBytes: number;
  readonly servedPeerBytes: number;
  readonly servedRuntimeBytes: number;
  readonly storedBytes: number;
  readonly blobs: number;
  readonly originPieces: number;
  readonly peerPieces: number;
  readonly hedges: number;
  readonly corruptPieces: number;
  readonly digestMismatches: number;
  readonly staleAnswers: number;
}

/** The node's container runtime, as the last self-test through CRI found it. */
export interface RuntimeStatus {
  /** Null where CRI is switched off. */
  readonly socket: string | null;
  /** There is something at the socket's path now. */
  readonly present: boolean;
  /** Name and version. */
  readonly runtime: string | null;
  /** Whether pods are pulled by way of the mirror; see the report to the hub. */
  readonly mirror: 'yes' | 'no' | 'not-configured' | 'unknown';
  readonly checkedAt: number | null;
  readonly reason: string | null;
  /** What a person has to do. */
  readonly fix: string | null;
}

/** `GET /v1/status` */
export interface AgentStatus {
  readonly node: string;
  readonly pool: string;
  readonly address: string;
  readonly version: string;
  readonly platform: string;
  readonly bootId: string;
  readonly startedAt: number;
  /** Where the command line asks for what is not answered on a port. */
  readonly adminSocket?: string | undefined;
  readonly mirror: string;
  readonly peers: string;
  /** Null with `--insecure`. */
  readonly identity?: IdentityStatus | null;
  /** What became of beacons; null where none are sent. */
  readonly beacons?: BeaconCounts | null;
  /** Null where no hub is set. */
  readonly hub: LinkStatus | null;
  /** Null before the hub has said anything. */
  readonly tuningHash: string | null;
  readonly members: readonly MemberStatus[];
  readonly registries: readonly RegistryStatus[];
  /** Registries, and hosts that they send us to, which do not answer. */
  readonly breakers?: readonly BreakerStatus[];
  readonly events?: EventStatus;
  readonly runtime: RuntimeStatus;
  readonly store?: StoreHealth;
  readonly cache?: CacheStatus;
  readonly bundles?: BundleStatus;
  /** Where containerd's own content is shared. */
  readonly content?: ContentStatus;
  readonly counters: CounterView;
  readonly transfers: readonly TransferStatus[];
  readonly prefetches: readonly PrefetchProgress[];
  /** Images that stay for a time after their prefetch, also when that is gone; an agent of before leaves it out. */
  readonly kept?: readonly {
    readonly id: string;
    readonly images: readonly string[];
    readonly leftMs: number;
  }[];
}

/** What keeps the store within its bounds. */
export interface CacheStatus {
  /** Bytes; null without one. */
  readonly quota: number | null;
  readonly minReplicas: number;
  readonly evictedBlobs: number;
  readonly evictedBytes: number;
  /** Of these, blobs that no neighbour had either. */
  readonly lastCopies: number;
  /** Bytes too many that could not go: in use, or perhaps the last copies in the pool. */
  readonly shortBytes: number;
  /** Wall clock ms since when there is no room to keep anything; null while there is. */
  readonly fullSince?: number | null;
  /** Times that it came to that since the start. */
  readonly timesFull?: number;
  /** Bytes that runtimes were given without being kept. */
  readonly passedBytes?: number;
}

/** `GET /v1/blobs?limit=`, the one longest unused first. */
export interface BlobListView {
  readonly total: number;
  readonly blobs: readonly {
    readonly digest: string;
    readonly size: number;
    readonly pieces: number;
    readonly have: number;
    readonly whole: boolean;
  }[];
}

/** `POST /v1/pull`; the answer is one JSON object a line. */
export interface PullRequest {
  readonly image: string;
  readonly platforms?: readonly string[] | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** From the store into the container runtime too, where kubelet finds it. */
  readonly runtime?: boolean | undefined;
}

export interface PullCounts {
  readonly totalBytes: number;
  readonly doneBytes: number;
  readonly wanBytes: number;
  readonly peerBytes: number;
  readonly blobs: number;
  readonly blobsDone: number;
}

export type PullEvent =
  | ({ readonly type: 'progress' } & PullCounts)
  | ({
      readonly type: 'done';
      readonly image: string;
      readonly digest: string;
      readonly manifests: readonly string[];
      readonly staleSince?: number | undefined;
      /** What the container runtime calls it, where it was brought there. */
      readonly imageId?: string | undefined;
      readonly seconds: number;
    } & PullCounts)
  | { readonly type: 'error'; readonly code: string; readonly message: string };

/** Of the body of `POST /v1/bundles/import` and of the answer of `POST /v1/bundles/export`. */
export const BUNDLE_TYPE = 'application/x-tar';
/** Of the latter: `true` where the hub has signed for each of its images. */
export const BUNDLE_SIGNED_HEADER = 'tidepool-signed';

/** `POST /v1/bundles/export` */
export interface BundleExportRequest {
  readonly images: readonly string[];
  readonly platforms?: readonly string[] | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
}

/** Since the agent started. */
export interface BundleStatus {
  readonly imported: number;
  /** Of blobs that were not here before. */
  readonly importedBytes: number;
  readonly refused: number;
  readonly importing: boolean;
}

export interface BundleImported {
  readonly images: readonly { readonly name: string; readonly digest: string }[];
  /** Whose word it is: the hub's for all of it, the hub's for each image, or nobody's. */
  readonly word: 'hub' | 'images' | 'nobody';
  readonly bytes: number;
  /** Of blobs that were not here before. */
  readonly newBytes: number;
  readonly blobs: number;
}

/** Lines of the answer of `POST /v1/bundles/import`. */
export type BundleEvent =
  | { readonly type: 'progress'; readonly doneBytes: number; readonly totalBytes: number }
  | ({ readonly type: 'done'; readonly seconds: number } & BundleImported)
  | { readonly type: 'error'; readonly code: string; readonly message: string };

/** Header of `GET /v1/manifest?image=` that tells the digest; the body is the manifest, byte for byte. */
export const DIGEST_HEADER = 'docker-content-digest';
/** Of the same: ISO time of a record that answered because the origin could not be asked. */
export const STALE_HEADER = 'tidepool-stale-since';
