/** Kubernetes-style documents to projections; the same schemas for YAML files and for what the API is asked to keep. */
import * as z from 'zod';
import { checkYaml, type LocatedYaml, type Offence, suggest } from '../../shared/config-file.ts';
import { quote } from '../../shared/ids.ts';
import { nodeName, poolName } from '../../shared/wire/messages/fields.ts';
import { prefetchId, prefetchSpec, toPrefetch } from './prefetch-spec.ts';
import type { DesiredNode, DesiredPool, DesiredPrefetch, DesiredTuning, DesiredWorkload } from './types.ts';
import { isWorkloadKind, projectWorkload } from './workloads.ts';

export const TUNING_CONFIG_MAP = 'tidepool-tuning';
/** Peer port of agents whose Node document has an address without one. */
const DEFAULT_PEER_PORT = 6181;
/** On a Node: literal address with the peer port, where it is not the node's InternalIP with the default port. */
const ADDRESS_ANNOTATION = 'tidepool.dev/address';

export type Projection =
  | { readonly kind: 'Node'; readonly name: string; readonly node: DesiredNode }
  | { readonly kind: 'NodePool'; readonly name: string; readonly pool: DesiredPool }
  | { readonly kind: 'ConfigMap'; readonly name: string; readonly tuning: DesiredTuning }
  | { readonly kind: 'ImagePrefetch'; readonly name: string; readonly prefetch: DesiredPrefetch }
  /** `name` has the namespace before it. */
  | { readonly kind: DesiredWorkload['kind']; readonly name: string; readonly workload: DesiredWorkload };

/** What a document claims to be, readable even when the rest of it is not. */
export interface Identity {
  readonly kind: string;
  readonly name: string;
}

const KINDS: readonly Projection['kind'][] = [
  'Node',
  'NodePool',
  'ConfigMap',
  'ImagePrefetch',
  'Deployment',
  'DaemonSet',
  'StatefulSet',
  'YurtAppSet',
];

const labels = z.record(z.string(), z.string());
const metadata = z.looseObject({
  name: z.string().min(1).max(253),
  labels: labels.optional(),
  annotations: labels.optional(),
});
const head = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string(), namespace: z.string().optional() }),
});

const nodeDocument = z.looseObject({
  apiVersion: z.literal('v1'),
  kind: z.literal('Node'),
  metadata: metadata.extend({ name: nodeName }),
  status: z
    .looseObject({
      addresses: z.array(z.looseObject({ type: z.string(), address: z.string() })).optional(),
    })
    .optional(),
});
const nodePoolDocument = z.looseObject({
  apiVersion: z.string().startsWith('apps.openyurt.io/', 'expected apps.openyurt.io/<version>'),
  kind: z.literal('NodePool'),
  metadata: metadata.extend({ name: poolName }),
});
const configMapDocument = z.looseObject({
  apiVersion: z.literal('v1'),
  kind: z.literal('ConfigMap'),
  metadata,
  data: z.record(z.string(), z.string()).default({}),
});

const prefetchDocument = z.looseObject({
  apiVersion: z.literal('tidepool.dev/v1alpha1'),
  kind: z.literal('ImagePrefetch'),
  metadata: metadata.extend({
    name: prefetchId,
    generation: z.number().int().nonnegative().optional(),
    uid: z.string().max(100).optional(),
    creationTimestamp: z.string().max(100).optional(),
  }),
  spec: prefetchSpec,
});

export function identityOf(document: LocatedYaml): Identity | undefined {
  const result = head.safeParse(document.value);
  if (!result.success) return undefined;
  const { kind, metadata: about } = result.data;
  return { kind, name: isWorkloadKind(kind) ? `${about.namespace ?? 'default'}/${about.name}` : about.name };
}

/**
 * One document's projection; undefined for a document that is well but none of the hub's business (another ConfigMap).
 * @param source where it stands, for later messages about it
 */
export function project(
  document: LocatedYaml,
  source: string,
): { readonly projection: Projection | undefined } | { readonly offences: readonly Offence[] } {
  const outline = checkYaml(head, document);
  if ('offences' in outline) return outline;
  const { kind } = outline.value;
  if (isWorkloadKind(kind)) {
    const result = projectWorkload(kind, document, source);
    if ('offences' in result) return result;
    const { workload } = result;
    return { projection: { kind, name: `${workload.namespace}/${workload.name}`, workload } };
  }
  switch (kind) {
    case 'Node': {
      const node = checkYaml(nodeDocument, document);
      if ('offences' in node) return node;
      return {
        projection: { kind: 'Node', name: node.value.metadata.name, node: toNode(node.value, source) },
      };
    }
    case 'NodePool': {
      const pool = checkYaml(nodePoolDocument, document);
      if ('offences' in pool) return pool;
      const name = pool.value.metadata.name;
      return { projection: { kind: 'NodePool', name, pool: { name, source } } };
    }
    case 'ConfigMap': {
      const map = checkYaml(configMapDocument, document);
      if ('offences' in map) return map;
      const name = map.value.metadata.name;
      if (name !== TUNING_CONFIG_MAP) return { projection: undefined };
      return { projection: { kind: 'ConfigMap', name, tuning: { data: map.value.data, source } } };
    }
    case 'ImagePrefetch': {
      const job = checkYaml(prefetchDocument, document);
      if ('offences' in job) return job;
      const { name, ...about } = job.value.metadata;
      return {
        projection: {
          kind: 'ImagePrefetch',
          name,
          prefetch: toPrefetch(name, job.value.spec, source, about),
        },
      };
    }
    default: {
      const near = suggest(kind, KINDS);
      const hint = near === undefined ? `the hub reads ${KINDS.join(', ')}` : `did you mean ${near}?`;
      const message = `unknown kind ${quote(kind)}; ${hint}`;
      return { offences: [{ line: document.lineOf(['kind']), message }] };
    }
  }
}

function toNode(document: z.infer<typeof nodeDocument>, source: string): DesiredNode {
  const { name, labels: own = {}, annotations = {} } = document.metadata;
  const internal = document.status?.addresses?.find(({ type }) => type === 'InternalIP')?.address;
  const host = internal?.includes(':') ? `[${internal}]` : internal;
  const address = annotations[ADDRESS_ANNOTATION] ?? (host && `${host}:${DEFAULT_PEER_PORT}`);
  return { name, labels: own, source, ...(address === undefined ? {} : { address }) };
}
