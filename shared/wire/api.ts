/** Shapes of the HTTP APIs that both sides know: the hub's `/v1/…` answers. */
import type { NodeCounters, PrefetchProgress, PrefetchState, RuntimeReport } from './messages.ts';

export interface ApiError {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly details?: Readonly<Record<string, unknown>>;
  };
}

/** `GET /v1/pools` */
export interface PoolView {
  readonly pool: string;
  readonly nodes: number;
  readonly online: number;
  readonly tuningHash: string;
  /** Members that have applied it. */
  readonly tuned: number;
  readonly wanBytes: number;
  readonly peerBytes: number;
}

/** `GET /v1/nodes` */
export interface NodeView {
  readonly node: string;
  readonly pool: string | null;
  readonly online: boolean;
  readonly address: string | null;
  readonly version: string | null;
  readonly platform: string | null;
  readonly tuningHash: string | null;
  readonly lastSeen: number | null;
  readonly counters: NodeCounters | null;
  /** Whether its pods are pulled by way of the agent; null before it has said so. */
  readonly runtime: RuntimeReport | null;
}

/** `GET /v1/prefetches`; `GET /v1/prefetches/<id>` adds `nodes`. */
export interface PrefetchView {
  readonly id: string;
  readonly images: readonly string[];
  readonly suspend: boolean;
  readonly desired: number;
  readonly active: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Nodes that have no use for it, such as those of another platform. */
  readonly skipped: number;
  readonly waiting: number;
  /** Not finished and out of reach: they start when they are back. */
  readonly offline: number;
  readonly bytes: {
    readonly total: number;
    readonly done: number;
    readonly wan: number;
    readonly peer: number;
  };
  /** At most 100 rows; `poolCount` says how many there are. */
  readonly pools: readonly PrefetchPoolView[];
  readonly poolCount: number;
  /** A sample, at most 20. */
  readonly failedNodes: readonly { readonly node: string; readonly code: string; readonly message: string }[];
  /** Why nothing happens, where nothing can: an unknown pool, a selector that matches nobody. */
  readonly problems: readonly string[];
}

export interface PrefetchPoolView {
  readonly pool: string;
  readonly desired: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly totalBytes: number;
  readonly doneBytes: number;
  readonly wanBytes: number;
  readonly peerBytes: number;
}

export interface PrefetchNodeView extends PrefetchProgress {
  readonly node: string;
  readonly pool: string;
  readonly online: boolean;
}

/** `GET /v1/prefetches/<id>` */
export interface PrefetchDetailView extends PrefetchView {
  /** At most 10,000. */
  readonly nodes: readonly PrefetchNodeView[];
}

/** `GET /v1/problems`: what a person has to mend; the last good state stays in force meanwhile. */
export interface ProblemView {
  /** Where it stands: `nodes.yaml:12`, `prefetch web-2.1`. */
  readonly source: string;
  readonly message: string;
}

/** `POST /v1/prefetches` */
export interface PrefetchRequest {
  readonly id?: string;
  readonly images: readonly {
    readonly image: string;
    readonly digest?: string;
    readonly platforms?: readonly string[];
  }[];
  readonly pools?: readonly string[];
  readonly nodes?: readonly string[];
}

export type { NodeCounters, PrefetchProgress, PrefetchState };
