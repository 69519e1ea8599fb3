import type { Logger } from '../../shared/log.ts';
import type { MqttSessionState } from '../../shared/mqtt/session.ts';
import type { Inbox } from '../broker/inbox.ts';
import type { Publisher } from '../broker/publisher.ts';
import type { Reconciler } from '../broker/reconciler.ts';
import type { Problem } from '../desired/types.ts';
import type { ObservedNodes } from '../pools/observed-nodes.ts';
import type { JobStore } from '../prefetch/job-store.ts';

/** What the API reads, and the one thing it changes: the jobs. */
export interface ApiComponents {
  readonly log: Logger;
  readonly reconciler: Pick<Reconciler, 'view' | 'now'>;
  readonly observed: Pick<ObservedNodes, 'get' | 'all'>;
  readonly jobs: JobStore;
  readonly link: { readonly state: MqttSessionState };
  readonly publisher: Pick<Publisher, 'pending' | 'published'>;
  readonly inbox: Pick<Inbox, 'received' | 'bad'>;
  readonly problems: () => readonly Problem[];
  readonly brokerConnections: () => number;
}
