import { createHash } from 'node:crypto';
import type { Subject } from '../desired/types.ts';
import { MAX_NOTE_CHARS } from './constants.ts';
import type { JsonObject } from './objects.ts';

const API_VERSIONS: Readonly<Record<Subject['kind'], string>> = {
  ImagePrefetch: 'tidepool.dev/v1alpha1',
  ConfigMap: 'v1',
  Node: 'v1',
  NodePool: 'apps.openyurt.io/v1beta2',
};
/** Where Kubernetes wants Events of things without a namespace. */
const CLUSTER_NAMESPACE = 'default';

export function eventsPath(subject: Subject, namespace: string): string {
  return `/api/v1/namespaces/${namespaceOf(subject, namespace)}/events`;
}

export function eventObject(init: {
  readonly subject: Subject;
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
  /** Of the ConfigMap. */
  readonly namespace: string;
  readonly instance: string;
  readonly uid: string | undefined;
  /** Unlike that of every other Event of this process. */
  readonly name: string;
  /** Wall clock, ms. */
  readonly at: number;
}): JsonObject {
  const { subject, type, reason, message, uid, instance } = init;
  const namespace = namespaceOf(subject, init.namespace);
  const time = new Date(init.at).toISOString().replace(/\.\d+Z$/, 'Z');
  const unique = createHash('sha1').update(`${instance} ${init.name}`).digest('hex').slice(0, 16);
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { namespace, name: `${subject.name.slice(0, 200)}.${unique}` },
    involvedObject: {
      apiVersion: API_VERSIONS[subject.kind],
      kind: subject.kind,
      name: subject.name,
      ...(subject.kind === 'ConfigMap' ? { namespace } : {}),
      // kubectl describe looks Events up by it; of Nodes kubelet has the name there.
      ...(subject.kind === 'Node' ? { uid: subject.name } : uid === undefined ? {} : { uid }),
    },
    reason,
    message: message.length > MAX_NOTE_CHARS ? `${message.slice(0, MAX_NOTE_CHARS - 1)}…` : message,
    type,
    source: { component: 'tidepool-hub', host: instance },
    reportingComponent: 'tidepool.dev/hub',
    reportingInstance: instance.slice(0, 128),
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
}

function namespaceOf(subject: Subject, namespace: string): string {
  return subject.kind === 'ConfigMap' ? namespace : CLUSTER_NAMESPACE;
}
