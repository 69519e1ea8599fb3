/** Shapes of the HTTP APIs that both sides know: the hub's `/v1/…` answers. */
import type { PrefetchProgress, PrefetchState } from './messages/prefetch.ts';
import type { NodeCounters, RuntimeReport } from './messages/report.ts';

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
  /** Whether that is the pool's tuning as it is now; null before the node has said so. A hub of before leaves it out. */
  readonly tuned?: boolean | null;
  readonly lastSeen: number | null;
  readonly counters: NodeCounters | null;
  /** Whether its pods are pulled by way of the agent; null before it has said so. */
  readonly runtime: RuntimeReport | null;
}

/** `GET /v1/nodes/<node>` */
export interface NodeDetailView extends NodeView {
  readonly labels: Readonly<Record<string, string>>;
  /** What the node was told and has not in force, in words. */
  readonly tuningProblems: readonly string[];
  /** Of jobs that are in force, the latest 100. */
  readonly prefetches: readonly PrefetchProgress[];
  /** Events that the node had no room to keep until the hub was there again. */
  readonly missedEvents?: number;
}

/** `GET /v1/nodes/<node>/events`, and of all nodes or a pool's `GET /v1/events?pool=&limit=`: the newest last. */
export interface NodeEventView {
  readonly node: string;
  /** As `tag-stale`, `blob-damaged`, `store-full`; agents of other versions may know other kinds. */
  readonly kind: string;
  /** What it happened to. */
  readonly key: string | null;
  readonly detail: string | null;
  /** So many became one while the hub was away. */
  readonly count: number;
  /** By the node's clock, ms. */
  readonly firstAt: number;
  readonly lastAt: number;
  /** By the hub's clock, ms. */
  readonly heardAt: number;
}

/** An entry of the tuning ConfigMap. */
export interface TuningEntryName {
  readonly kind: string;
  readonly entry: string;
}

export interface TuningSettingView {
  /** As `wan.download`. */
  readonly setting: string;
  /** As it was written; a default in words where it is no value. */
  readonly value: unknown;
  /** Null for a default. */
  readonly from: TuningEntryName | null;
  /** What earlier entries said, the last of them first. */
  readonly over: readonly { readonly value: unknown; readonly from: TuningEntryName }[];
}

/** `GET /v1/nodes/<node>/tuning` */
export interface NodeTuningView {
  readonly node: string;
  readonly pool: string | null;
  readonly gateway: boolean;
  /** Of the pool's tuning as it is now, and of what the node has in force. */
  readonly tuningHash: string | null;
  readonly applied: string | null;
  readonly settings: readonly TuningSettingView[];
  /** What the node says that it does not have in force. */
  readonly problems: readonly string[];
}

/** `GET /v1/pools/<pool>/tuning` */
export interface PoolTuningView {
  readonly pool: string;
  readonly tuningHash: string;
  readonly nodes: number;
  readonly tuned: number;
  readonly gateways: readonly string[];
  /** As the agents of the pool are told. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** What single nodes are told besides; at most 1,000. */
  readonly byNode: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** `POST /v1/tuning-checks`, a body of `{data: {<kind>: <yaml>}}`: what that tuning would change. */
export interface TuningCheckView {
  readonly problems: readonly ProblemView[];
  /** At most 1,000 rows; `changeCount` says how many there are. */
  readonly changes: readonly TuningChangeView[];
  readonly changeCount: number;
}

export interface TuningChangeView {
  readonly pool: string;
  readonly setting: string;
  /** Null where no entry says anything. */
  readonly before: unknown;
  readonly after: unknown;
  readonly nodes: number;
  /** At most 5. */
  readonly sample: readonly string[];
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
  /** Where it stands, as Kubernetes has it: Complete, Failed, Suspended, Waiting, Progressing. */
  readonly conditions?: readonly PrefetchCondition[];
  /** Of a dry run: what would cross each uplink. */
  readonly dryRun?: PrefetchPlanView;
  /** When the last node lets go of the images, where the job says how long they stay; RFC 3339. */
  readonly retainedUntil?: string;
}

export interface PrefetchCondition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
  readonly lastTransitionTime: string;
}

/** `POST /v1/prefetch-plans` */
export interface PrefetchPlanView {
  readonly wanBytes: number;
  /** True where the pools may hold some of it already, and nobody knows how much. */
  readonly upperBound: boolean;
  /** At most 100. */
  readonly pools: readonly {
    readonly name: string;
    readonly nodes: number;
    readonly wanBytes: number;
    readonly upperBound: boolean;
  }[];
  /** Digest that each tag names now. */
  readonly images?: readonly { readonly image: string; readonly digest: string }[];
}

export interface PrefetchPoolView {
  readonly pool: string;
  readonly desired: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Not finished and out of reach. */
  readonly offline?: number;
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
  /** As `30d`: nodes keep the images for so long after they are through, also when the job is gone. */
  readonly retain?: string;
}

/** Answer to `POST /v1/hooks/registry`: 202 where pushes become prefetches, 200 where none does. */
export interface RegistryHookAnswer {
  readonly jobs: readonly { readonly id: string; readonly image: string; readonly digest: string }[];
  /** Events that nothing comes of, and why; at most 50. */
  readonly ignored: readonly { readonly what: string; readonly reason: string }[];
}

export type { NodeCounters, PrefetchProgress, PrefetchState };

/** What a caller may do, each role what those before it may: look, work with prefetches, change who is trusted. */
export const ROLES = ['view', 'operate', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** `GET /v1/api-tokens` */
export interface ApiTokenView {
  readonly name: string;
  readonly role: Role;
  /** Wall clock, ms. */
  readonly createdAt: number;
  /** Null: never. */
  readonly expiresAt: number | null;
  readonly expired: boolean;
}

/** `POST /v1/api-tokens` */
export interface ApiTokenRequest {
  readonly name: string;
  readonly role: Role;
  readonly ttlMs?: number;
}

/** Its answer: the only time that the token itself is told. */
export interface ApiTokenMade extends ApiTokenView {
  readonly token: string;
}

/** `GET /v1/audit`: one change that somebody made, or tried to. */
export interface AuditEntryView {
  readonly id: string;
  /** Wall clock, ms. */
  readonly at: number;
  /** As `token:ci`, `kubernetes:system:serviceaccount:a:b`, `node:n1`, `hook`, `anyone`. */
  readonly who: string;
  /** Address. */
  readonly from: string;
  /** As `DELETE /v1/prefetches/:id`. */
  readonly action: string;
  /** What it was done to. */
  readonly object: string;
  /** `begun`: how it ended was not written, because the hub stopped meanwhile. */
  readonly outcome: 'begun' | 'done' | 'refused' | 'failed';
  /** HTTP status of the answer. */
  readonly status?: number;
}

/** `GET /v1/nodes/<node>/credentials`: an account that was handed to the node; never its password. */
export interface HandedCredentialView {
  readonly secret: string;
  readonly registry: string;
  readonly username: string;
  /** Wall clock, ms: the first and the last time. */
  readonly firstAt: number;
  readonly lastAt: number;
}

/** `GET /v1/tokens` */
export interface JoinTokenView {
  readonly id: string;
  readonly pool: string;
  /** Wall clock, ms. */
  readonly createdAt: number;
  readonly expiresAt: number;
  readonly uses: number;
  readonly used: number;
  /** Used up, or its time is. */
  readonly over: boolean;
}

/** `POST /v1/tokens` */
export interface JoinTokenRequest {
  readonly pool: string;
  readonly ttlMs?: number;
  readonly uses?: number;
}

/** Its answer: the only time that the token itself is told. */
export interface JoinTokenMade extends JoinTokenView {
  readonly token: string;
}

/** `GET /v1/ca` */
export interface AuthorityView {
  /** The one that issues first, then the others that are trusted. */
  readonly roots: readonly RootView[];
}

export interface RootView {
  /** Of its key: hex sha256. */
  readonly id: string;
  readonly issues: boolean;
  /** The hub's own certificate is of it, and join tokens name it. */
  readonly ofHub: boolean;
  /** Wall clock, ms. */
  readonly notAfter: number;
  /** Of nodes, not ended and not followed by a later one. */
  readonly certificates: number;
  readonly pem: string;
}

/** `POST /v1/nodes/<node>/revoke` */
export interface NodeRevokedView {
  readonly node: string;
  /** So many keys of it are worth nothing now. */
  readonly keys: number;
  /** Accounts that it was given: they have to be changed where they come from. */
  readonly credentials: readonly HandedCredentialView[];
}

/** `POST /v1/nodes/<node>/move` */
export interface NodeMovedView {
  readonly node: string;
  readonly pool: string;
  /** False: it cannot be reached now, and is told when it can. */
  readonly told: boolean;
}

/** Brokers that the hub writes rules for: Mosquitto's acl_file, its dynamic security plugin, EMQX's acl.conf. */
export const BROKER_ACL_FORMATS = ['mosquitto', 'dynsec', 'emqx'] as const;
export type BrokerAclFormat = (typeof BROKER_ACL_FORMATS)[number];

/** `GET /v1/broker/acl?format=` */
export interface BrokerAclView {
  readonly format: BrokerAclFormat;
  readonly text: string;
  /** Nodes that a broker could not tell from others, and that are not let in. */
  readonly leftOut: readonly string[];
}
