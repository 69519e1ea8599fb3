/**
 * What operators want, as the hub's rooms use it. A source (a directory of YAML now, Kubernetes beside it) turns its
 * documents into these projections; nobody behind it knows where they came from.
 */
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { MatchExpression } from '../../shared/wire/messages/fields.ts';
import type { PrefetchMessage } from '../../shared/wire/messages/prefetch.ts';

/** Something a person has to mend. It never stops the hub: the last good state of the thing stays in force. */
export interface Problem {
  /** Where it stands: `nodes.yaml:12`, `tuning`, `prefetch web-2.1`. */
  readonly source: string;
  readonly message: string;
}

export interface DesiredNode {
  readonly name: NodeName;
  readonly labels: Readonly<Record<string, string>>;
  /** Literal address and peer port, until the node says its own. */
  readonly address?: string;
  readonly source: string;
}

export interface DesiredPool {
  readonly name: PoolName;
  readonly source: string;
}

/** The tuning ConfigMap: a kind and its YAML a key. */
export interface DesiredTuning {
  readonly data: Readonly<Record<string, string>>;
  readonly source: string;
}

/** Which nodes a prefetch is for; see {@link DesiredPrefetch.selector}. */
export interface NodeSelector {
  readonly nodePools?: readonly PoolName[];
  readonly names?: readonly NodeName[];
  readonly match: readonly MatchExpression[];
  /** Only nodes that pods of this workload may come to. */
  readonly workloadRef?: Pick<DesiredWorkload, 'kind' | 'namespace' | 'name'>;
}

/** How a job ends. */
export interface CompletionPolicy {
  /** `Always`: over when every selected node is through; `Never`: in force for nodes that come later. */
  readonly type: 'Always' | 'Never';
  /** A finished job is deleted after so long. */
  readonly ttlMs?: number;
  /** A node that has been online for so long and is not through has failed. */
  readonly activeDeadlineMs?: number;
}

export interface DesiredPrefetch {
  readonly id: string;
  readonly images: PrefetchMessage['images'];
  /** Nodes of `nodePools` and nodes of `names`, everyone when both are absent; of these the ones that `match` holds for. */
  readonly selector: NodeSelector;
  readonly suspend: boolean;
  readonly timeoutMs: number;
  readonly retries: number;
  /** How many at a time; unbounded where absent. */
  readonly parallelism?: { readonly pools?: number; readonly nodesPerPool?: number };
  /** Failed nodes, a number or `10%` of all, beyond which no further ones start. */
  readonly failureTolerance?: number | string;
  /** Absent: `Always`, without limits. */
  readonly completion?: CompletionPolicy;
  /** Five cron fields and an IANA time zone, as written: what is wrong with them stands in the status. */
  readonly schedule?: { readonly cron: string; readonly timeZone: string };
  /** Nodes keep the images for so long after they are through, whatever becomes of the job; absent: while it stands. */
  readonly retainMs?: number;
  /** Names of secrets by which the hub may read tags. */
  readonly pullSecrets?: readonly string[];
  readonly dryRun?: boolean;
  /** `metadata.generation`; absent outside Kubernetes. */
  readonly observedGeneration?: number;
  /** `metadata.uid`: another object of the same name is another job. */
  readonly uid?: string;
  /** `metadata.creationTimestamp`, ms. */
  readonly createdAt?: number;
  readonly source: string;
}

/** A workload whose pods name images; read only where a pool follows workloads. */
export interface DesiredWorkload {
  readonly kind: 'Deployment' | 'DaemonSet' | 'StatefulSet' | 'YurtAppSet';
  readonly namespace: string;
  readonly name: string;
  /** As the pod templates name them, init containers included. */
  readonly images: readonly string[];
  /** The pod template's `nodeSelector`: its pods come to these nodes only. */
  readonly nodeSelector: Readonly<Record<string, string>>;
  /** Names of the pod template's `imagePullSecrets`. */
  readonly pullSecrets: readonly string[];
  readonly source: string;
}

export interface DesiredState {
  readonly nodes: readonly DesiredNode[];
  readonly pools: readonly DesiredPool[];
  /** Undefined when there is no such document: everything at its default. */
  readonly tuning: DesiredTuning | undefined;
  readonly prefetches: readonly DesiredPrefetch[];
  /** Absent where the source knows no workloads. */
  readonly workloads?: readonly DesiredWorkload[];
  readonly problems: readonly Problem[];
}

/** Where desired state comes from. `current` is whole and valid at any time after `start`. */
export interface DesiredSource extends Startable {
  current(): DesiredState;
  /** Runs after each change; the answer takes the listener off. */
  onChange(listener: () => void): () => void;
}

/** `status` of an ImagePrefetch: counters, at most 100 pool rows and 20 failed nodes; the API has the rest. */
export interface PrefetchStatus {
  readonly observedGeneration: number;
  readonly desired: number;
  readonly active: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly waiting: number;
  readonly offline: number;
  readonly skipped: number;
  readonly bytes: { readonly wan: number; readonly peer: number };
  /** Digest that each image's tag was resolved to, pinned for the job. */
  readonly images?: readonly { readonly image: string; readonly digest: string }[];
  readonly pools: readonly {
    readonly name: string;
    readonly desired: number;
    readonly succeeded: number;
    readonly failed: number;
    readonly offline: number;
    readonly bytes: { readonly wan: number; readonly peer: number };
  }[];
  readonly failedNodes: readonly { readonly node: string; readonly code: string; readonly message: string }[];
  /** Of a dry run: what would cross each uplink. */
  readonly dryRun?: DryRunStatus;
  /** RFC 3339. */
  readonly startTime?: string;
  readonly completionTime?: string;
  /** When the last node lets go of the images, where the job says how long they stay. */
  readonly retainedUntil?: string;
  /** Of a job with a schedule. */
  readonly nextRunTime?: string;
  readonly conditions: readonly StatusCondition[];
}

/** Bytes that a job would move over uplinks. `upperBound`: what the pool holds already is not known of all of it. */
export interface DryRunStatus {
  readonly wanBytes: number;
  readonly upperBound: boolean;
  /** At most 100. */
  readonly pools: readonly {
    readonly name: string;
    readonly nodes: number;
    readonly wanBytes: number;
    readonly upperBound: boolean;
  }[];
}

/** As Kubernetes has it; `lastTransitionTime` moves only when `status` does. */
export interface StatusCondition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
  readonly lastTransitionTime: string;
}

/** What a notice is about: a document of the source. */
export interface Subject {
  readonly kind: 'ImagePrefetch' | 'ConfigMap' | 'Node' | 'NodePool';
  readonly name: string;
}

/**
 * The way back to whoever wrote the documents. Calls return at once: the newest status of each job counts, equal
 * notices are said once, and all of it is dropped while this hub does not lead.
 */
export interface Feedback {
  prefetchStatus(id: string, status: PrefetchStatus): void;
  /** An Event on Kubernetes. `reason` is one CamelCase word. */
  notice(subject: Subject, type: 'Normal' | 'Warning', reason: string, message: string): void;
  /** Deletes a finished job whose time to live is over. */
  removePrefetch(id: string): void;
}

/** Account of a registry, out of a pull secret of the hub's own namespace. */
export interface RegistryAccount {
  readonly username: string;
  readonly password: string;
}

export interface PullSecrets {
  /**
   * The entry for `registry` (host as images name it) in the first of the named secrets that has one; undefined when
   * none has. @throws TidepoolError NOT_FOUND for a secret that does not exist, UNAUTHORIZED when it may not be read
   */
  account(
    secrets: readonly string[],
    registry: string,
    signal?: AbortSignal,
  ): Promise<RegistryAccount | undefined>;
}

/** Whether this hub may write and publish now; one of several replicas. */
export interface Leadership {
  readonly leads: boolean;
  onChange(listener: () => void): () => void;
}

export const EMPTY_STATE: DesiredState = {
  nodes: [],
  pools: [],
  tuning: undefined,
  prefetches: [],
  problems: [],
};
