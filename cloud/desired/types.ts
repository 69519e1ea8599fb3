/**
 * What operators want, as the hub's rooms use it. A source (a directory of YAML now, Kubernetes beside it) turns its
 * documents into these projections; nobody behind it knows where they came from.
 */
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { MatchExpression, PrefetchMessage } from '../../shared/wire/messages.ts';

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
}

export interface DesiredPrefetch {
  readonly id: string;
  readonly images: PrefetchMessage['images'];
  /** Nodes of `nodePools` and nodes of `names`, everyone when both are absent; of these the ones that `match` holds for. */
  readonly selector: NodeSelector;
  readonly suspend: boolean;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly source: string;
}

export interface DesiredState {
  readonly nodes: readonly DesiredNode[];
  readonly pools: readonly DesiredPool[];
  /** Undefined when there is no such document: everything at its default. */
  readonly tuning: DesiredTuning | undefined;
  readonly prefetches: readonly DesiredPrefetch[];
  readonly problems: readonly Problem[];
}

/** Where desired state comes from. `current` is whole and valid at any time after `start`. */
export interface DesiredSource extends Startable {
  current(): DesiredState;
  /** Runs after each change; the answer takes the listener off. */
  onChange(listener: () => void): () => void;
}

export const EMPTY_STATE: DesiredState = {
  nodes: [],
  pools: [],
  tuning: undefined,
  prefetches: [],
  problems: [],
};
