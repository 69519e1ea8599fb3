/** Where a hub's documents come from, and what comes with that: who leads, and the way back to whoever wrote them. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Clock } from '../shared/clock.ts';
import type { Startable } from '../shared/lifecycle.ts';
import type { Logger } from '../shared/log.ts';
import type { HubSettings } from './config/settings.ts';
import { nextEpoch } from './data/epoch.ts';
import {
  type DesiredSource,
  EMPTY_STATE,
  type Feedback,
  type Leadership,
  type Problem,
  type PullSecrets,
} from './desired/types.ts';
import { DocumentDirectory } from './documents/document-directory.ts';
import { inClusterAccess } from './kube/access.ts';
import { KubeApiCallers } from './kube/api-callers.ts';
import { KubeClient } from './kube/kube-client.ts';
import { KubeFeedback } from './kube/kube-feedback.ts';
import { KubeSource } from './kube/kube-source.ts';
import { kubeconfigAccess } from './kube/kubeconfig.ts';
import { LeaseLeadership } from './kube/lease-leadership.ts';
import { KubePullSecrets } from './kube/pull-secrets.ts';
import type { OutsideTokens } from './trust/access.ts';

const LEASE_NAME = 'tidepool-hub';

export interface Sources {
  readonly source: DesiredSource;
  readonly feedback: Feedback;
  /** Undefined outside of Kubernetes. */
  readonly secrets: PullSecrets | undefined;
  /** The cluster's tokens at the API; undefined outside of Kubernetes. */
  readonly outside: OutsideTokens | undefined;
  readonly leadership: Leadership & { readonly epoch: number | undefined };
  /** Whether everything that is desired is known; nothing is published before. */
  readonly decided: () => boolean;
  /** Started before everything else, in this order; `source` is among them. */
  readonly parts: readonly Startable[];
  /** Beside those of the source. */
  readonly problems: () => readonly Problem[];
  /** In words why nothing can be said yet. */
  readonly notReady: () => string | undefined;
  /** In words who leads, where that is another hub. */
  readonly standby: () => string | undefined;
}

export interface SourcesInit {
  readonly version: string;
  /** Where this hub's API can be reached by others. */
  readonly api: () => string;
  /** Whether anything depends on workloads now. */
  readonly workloads: () => boolean;
}

/** @throws TidepoolError INVALID_CONFIG when there is no way to the cluster, STORE_CORRUPT */
export async function makeSources(
  components: {
    readonly clock: Clock;
    readonly log: Logger;
    readonly env: Readonly<Record<string, string | undefined>>;
  },
  settings: HubSettings,
  init: SourcesInit,
): Promise<Sources> {
  const { clock, log, env } = components;
  const { kubernetes } = settings;
  if (kubernetes === undefined) {
    const source =
      settings.documents === undefined
        ? nothing()
        : new DocumentDirectory({ clock, log }, { path: settings.documents });
    return alone(source, await nextEpoch(settings.data, clock), log);
  }
  const { namespace } = kubernetes;
  const access =
    kubernetes.kubeconfig === undefined
      ? await inClusterAccess(clock, env)
      : await kubeconfigAccess(clock, kubernetes.kubeconfig, env);
  const client = new KubeClient({ clock, access }, { userAgent: `tidepool-hub/${init.version}` });
  const instance = hostname();
  const leadership = new LeaseLeadership(
    { clock, log, client, nextEpoch: (floor) => nextEpoch(settings.data, clock, floor) },
    { namespace, name: LEASE_NAME, identity: `${instance}_${randomUUID()}`, api: init.api },
  );
  const source = new KubeSource({ clock, log, client }, { namespace, workloads: init.workloads });
  const feedback = new KubeFeedback(
    { clock, log, client, leadership, about: (subject) => source.about(subject) },
    { namespace, instance },
  );
  // Jobs that cannot be read have no status of their own making; their Events tell.
  const tell = (): void => {
    if (!leadership.leads) return;
    for (const { subject, message } of source.flaws())
      feedback.notice(subject, 'Warning', 'Invalid', message);
  };
  source.onChange(tell);
  leadership.onChange(tell);
  return {
    source,
    feedback,
    secrets: new KubePullSecrets({ client }, { namespace }),
    outside: new KubeApiCallers({ clock, client }),
    leadership,
    decided: () => source.decided,
    parts: [client, leadership, feedback, source],
    problems: () => [
      ...feedback.problems(),
      ...(leadership.problem === undefined ? [] : [leadership.problem]),
    ],
    notReady: () => {
      if (!source.decided) return `not everything was listed yet at ${client.server}`;
      return leadership.decided ? undefined : 'it is not decided yet which hub leads';
    },
    standby: () => {
      if (leadership.leads) return undefined;
      const { leader } = leadership;
      if (leader === undefined) return 'no hub leads yet; ask again in some seconds';
      return `this hub stands by; ${leader.identity} leads${(leader.api ?? '') === '' ? '' : ` and answers at ${leader.api}`}`;
    },
  };
}

/** A hub without others: it leads from start to end, under one epoch. */
function alone(source: DesiredSource, epoch: number, log: Logger): Sources {
  return {
    source,
    feedback: {
      prefetchStatus: () => undefined,
      notice: (subject, type, reason, message) =>
        log.info({ subject, type, reason, notice: message }, 'notice'),
      removePrefetch: () => undefined,
    },
    secrets: undefined,
    outside: undefined,
    leadership: { leads: true, epoch, onChange: () => () => undefined },
    decided: () => true,
    parts: [source],
    problems: () => [],
    notReady: () => undefined,
    standby: () => undefined,
  };
}

/** No documents: pools and jobs come from births and the API alone. */
function nothing(): DesiredSource {
  return {
    name: 'no documents',
    start: async () => undefined,
    stop: async () => undefined,
    current: () => EMPTY_STATE,
    onChange: () => () => undefined,
  };
}
