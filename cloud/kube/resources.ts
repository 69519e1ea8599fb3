/** What the hub reads of the cluster: where each resource is found, and what of an object is kept. */
import { createHash } from 'node:crypto';
import type { LocatedYaml } from '../../shared/config-file.ts';
import { type Projection, project, TUNING_CONFIG_MAP } from '../desired/documents.ts';
import type {
  DesiredNode,
  DesiredPool,
  DesiredPrefetch,
  DesiredTuning,
  DesiredWorkload,
  Problem,
} from '../desired/types.ts';
import { findVersion } from './discovery.ts';
import type { KubeApi, Query } from './kube-client.ts';
import { at, canonical, isRecord, recordAt, stringAt } from './objects.ts';
import { workloadOf } from './workloads.ts';

export const PREFETCH_PATH = '/apis/tidepool.dev/v1alpha1/imageprefetches';

/** Where a resource is found in this cluster. */
export interface Endpoint {
  readonly path: string;
  readonly query: Query;
  /** `v1`, `apps.openyurt.io/v1beta2`: lists leave it out of their items. */
  readonly apiVersion: string;
  readonly listAccept?: string;
  readonly watchAccept?: string;
}

/** What is kept of an object beside its projection. */
export interface About {
  readonly uid: string;
  /** Of its status: a hash of the content, and the fields it has. */
  readonly status?: { readonly hash: string; readonly fields: readonly string[] };
}

export interface Entry<T> {
  /** The last good projection; undefined for an object that was never right. */
  readonly value: T | undefined;
  readonly problems: readonly Problem[];
  readonly about: About;
}

export interface Resource<T> {
  /** Empty for the core group. */
  readonly group: string;
  readonly plural: string;
  /** Undefined where the cluster has no such kind. @throws KubeError */
  locate(client: KubeApi, signal: AbortSignal): Promise<Endpoint | undefined>;
  /** Undefined for an object that is none of the hub's business. */
  project(object: unknown, endpoint: Endpoint, before: T | undefined): Entry<T> | undefined;
}

/** `namespace/name`, or the name alone. */
export function keyOf(object: unknown): string {
  const name = stringAt(object, 'metadata', 'name') ?? '';
  const namespace = stringAt(object, 'metadata', 'namespace');
  return namespace === undefined ? name : `${namespace}/${name}`;
}

export const nodes: Resource<DesiredNode> = {
  group: '',
  plural: 'nodes',
  locate: async () => ({ path: '/api/v1/nodes', query: {}, apiVersion: 'v1' }),
  project: (object, endpoint, before) =>
    projected('Node', object, endpoint, (found) => (found.kind === 'Node' ? found.node : undefined), before),
};

/** Of pools only the name matters, and the status of one with 1,000 nodes has 60 KB: the server is asked for metadata. */
const METADATA = {
  listAccept: 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json',
  watchAccept: 'application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json',
};
const POOL_GROUP = 'apps.openyurt.io';
const POOL_VERSIONS = ['v1beta2', 'v1beta1', 'v1alpha1'];

export const nodePools: Resource<DesiredPool> = {
  group: POOL_GROUP,
  plural: 'nodepools',
  locate: async (client, signal) => {
    const version = await findVersion(client, POOL_GROUP, POOL_VERSIONS, 'nodepools', signal);
    if (version === undefined) return undefined;
    const apiVersion = `${POOL_GROUP}/${version}`;
    return { path: `/apis/${apiVersion}/nodepools`, query: {}, apiVersion, ...METADATA };
  },
  project: (object, endpoint, before) =>
    projected(
      'NodePool',
      object,
      endpoint,
      (found) => (found.kind === 'NodePool' ? found.pool : undefined),
      before,
    ),
};

export function tuningMap(namespace: string): Resource<DesiredTuning> {
  return {
    group: '',
    plural: 'configmaps',
    locate: async () => ({
      path: `/api/v1/namespaces/${namespace}/configmaps`,
      query: { fieldSelector: `metadata.name=${TUNING_CONFIG_MAP}` },
      apiVersion: 'v1',
    }),
    project: (object, endpoint, before) =>
      projected(
        'ConfigMap',
        object,
        endpoint,
        (found) => (found.kind === 'ConfigMap' ? found.tuning : undefined),
        before,
      ),
  };
}

export const imagePrefetches: Resource<DesiredPrefetch> = {
  group: 'tidepool.dev',
  plural: 'imageprefetches',
  locate: async (client, signal) => {
    const version = await findVersion(client, 'tidepool.dev', ['v1alpha1'], 'imageprefetches', signal);
    if (version === undefined) return undefined;
    return { path: PREFETCH_PATH, query: {}, apiVersion: 'tidepool.dev/v1alpha1' };
  },
  project: (object, endpoint, before) =>
    projected(
      'ImagePrefetch',
      object,
      endpoint,
      (found) => (found.kind === 'ImagePrefetch' ? found.prefetch : undefined),
      before,
    ),
};

const apps = (kind: DesiredWorkload['kind'], plural: string): Resource<DesiredWorkload> => ({
  group: 'apps',
  plural,
  locate: async () => ({ path: `/apis/apps/v1/${plural}`, query: {}, apiVersion: 'apps/v1' }),
  project: (object) => workloadEntry(kind, object),
});

export const workloads: readonly Resource<DesiredWorkload>[] = [
  apps('Deployment', 'deployments'),
  apps('DaemonSet', 'daemonsets'),
  apps('StatefulSet', 'statefulsets'),
  {
    group: POOL_GROUP,
    plural: 'yurtappsets',
    locate: async (client, signal) => {
      const versions = ['v1beta1', 'v1alpha1'];
      const version = await findVersion(client, POOL_GROUP, versions, 'yurtappsets', signal);
      if (version === undefined) return undefined;
      const apiVersion = `${POOL_GROUP}/${version}`;
      return { path: `/apis/${apiVersion}/yurtappsets`, query: {}, apiVersion };
    },
    project: (object) => workloadEntry('YurtAppSet', object),
  },
];

function workloadEntry(kind: DesiredWorkload['kind'], object: unknown): Entry<DesiredWorkload> {
  return { value: workloadOf(kind, object), problems: [], about: { uid: uidOf(object) } };
}

/** Through the very schemas that YAML files go through, so that both sources take the same and say the same. */
function projected<T>(
  kind: Projection['kind'],
  object: unknown,
  endpoint: Endpoint,
  pick: (projection: Projection) => T | undefined,
  before: T | undefined,
): Entry<T> | undefined {
  const source = `${kind} ${keyOf(object)}`;
  const about = aboutOf(object);
  const value = isRecord(object) ? { ...object, apiVersion: endpoint.apiVersion, kind } : object;
  const document: LocatedYaml = { line: 1, errors: [], value, lineOf: () => 1 };
  const result = project(document, source);
  if ('offences' in result) {
    const ending = before === undefined ? '' : ' (its last good form stays in force)';
    const problems = result.offences.map(({ message }) => ({ source, message: `${message}${ending}` }));
    return { value: before, problems, about };
  }
  const { projection } = result;
  const found = projection === undefined ? undefined : pick(projection);
  return found === undefined ? undefined : { value: found, problems: [], about };
}

function aboutOf(object: unknown): About {
  const uid = uidOf(object);
  // Of a Node the status is large, and nobody asks for it.
  if (stringAt(object, 'spec', 'podCIDR') !== undefined || at(object, 'status', 'nodeInfo') !== undefined) {
    return { uid };
  }
  const status = recordAt(object, 'status');
  const fields = Object.keys(status);
  return fields.length === 0 ? { uid } : { uid, status: { hash: hashOf(status), fields } };
}

function uidOf(object: unknown): string {
  return stringAt(object, 'metadata', 'uid') ?? '';
}

/** Equal for equal content, however the keys are ordered. */
export function hashOf(value: unknown): string {
  return createHash('sha1').update(canonical(value)).digest('base64');
}
