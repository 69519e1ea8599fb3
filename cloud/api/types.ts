import type { Clock } from '../../shared/clock.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { MqttSessionState } from '../../shared/mqtt/session.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import type { Problem, PullSecrets } from '../desired/types.ts';
import type { NodeEvents } from '../pools/node-events.ts';
import type { ObservedNodes } from '../pools/observed-nodes.ts';
import type { ParsedTuning } from '../pools/tuning-parse.ts';
import type { HubView } from '../prefetch/hub-view.ts';
import type { JobStore } from '../prefetch/job-store.ts';
import type { Planner } from '../prefetch/planner.ts';
import type { OutsideTokens } from '../trust/access.ts';
import type { ApiTokens } from '../trust/api-tokens.ts';
import type { AuditLog } from '../trust/audit-log.ts';
import type { HandedCredentials } from '../trust/handed-credentials.ts';
import type { HookRouteComponents } from './hook-routes.ts';
import type { TrustParts } from './trust-routes.ts';

/** What the API reads, and the one thing it changes: the jobs. */
export interface ApiComponents {
  readonly clock: Clock;
  readonly log: Logger;
  /** Absent: connections are plain, and everybody may do everything. */
  readonly identity?: TlsIdentity | undefined;
  /** Who may do what; needed where there is an identity. */
  readonly tokens?: ApiTokens | undefined;
  /** Who lets nodes in; goes with the identity. */
  readonly trust?: TrustParts | undefined;
  /** The cluster's tokens, where there is a cluster. */
  readonly outside?: OutsideTokens | undefined;
  /** Which node has had which account; absent: nodes get none. */
  readonly handed?: HandedCredentials | undefined;
  /** Where accounts come from, where there is a cluster. */
  readonly secrets?: PullSecrets | undefined;
  /** Every change is written there before it is made. */
  readonly audit?: AuditLog | undefined;
  readonly reconciler: {
    readonly view: HubView;
    /** In force. */
    readonly tuning: ParsedTuning;
    /** Resolves when the view has every change made before the call. */
    now(): Promise<void>;
  };
  readonly observed: Pick<ObservedNodes, 'get' | 'all'>;
  /** What nodes have told of themselves. */
  readonly events?: Pick<NodeEvents, 'of' | 'all' | 'missed' | 'counts'> | undefined;
  readonly jobs: JobStore;
  /** Answers what a prefetch would cost. */
  readonly planner: Pick<Planner, 'plan'>;
  readonly link: { readonly state: MqttSessionState };
  /** Retained messages. */
  readonly publisher: {
    readonly pending: number;
    readonly published: number;
    messages(prefix: string): readonly (readonly [topic: string, payload: Buffer])[];
  };
  /** Messages of nodes. */
  readonly inbox: { readonly received: number; readonly bad: number };
  readonly problems: () => readonly Problem[];
  readonly brokerConnections: () => number;
  /** Where registries tell of pushes. */
  readonly hook: HookRouteComponents['hook'];
  /** Forgets a node that is gone for good; false for one that is online or unknown. */
  readonly forget: (node: NodeName) => boolean;
  /** In words why this hub is not ready yet, its broker aside. */
  readonly notReady?: () => string | undefined;
  /** In words where to ask while another hub leads; undefined where this one answers. */
  readonly standby?: () => string | undefined;
}
