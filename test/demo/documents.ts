/** The documents that the demo's hub works from, as an administrator would write them. */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const PREFETCH_ID = 'demo-image';

export interface DocumentedNode {
  readonly node: string;
  readonly pool: string;
  /** Address with the peer port. */
  readonly address: string;
}

/** Nodes, pools and tuning. */
export function writeCluster(directory: string, nodes: readonly DocumentedNode[]): void {
  mkdirSync(directory, { recursive: true });
  const pools = [...new Set(nodes.map(({ pool }) => pool))];
  put(
    directory,
    'nodes.yaml',
    nodes.map(
      ({ node, pool, address }) => `apiVersion: v1
kind: Node
metadata:
  name: ${node}
  labels: {apps.openyurt.io/nodepool: ${pool}}
  annotations: {tidepool.dev/address: "${address}"}
`,
    ),
  );
  put(
    directory,
    'pools.yaml',
    pools.map(
      (pool) => `apiVersion: apps.openyurt.io/v1beta2
kind: NodePool
metadata: {name: ${pool}}
spec: {type: Edge}
`,
    ),
  );
  put(directory, 'tuning.yaml', [
    `apiVersion: v1
kind: ConfigMap
metadata: {name: tidepool-tuning, namespace: kube-system}
data:
  tags: |
    - {name: everyone, settings: {policy: stale-if-offline}}
  prefetch: |
    - {name: everyone, settings: {concurrency: 2}}
`,
  ]);
}

/** The job: an image into whole pools. */
export function writePrefetch(directory: string, image: string, pools: readonly string[]): void {
  put(directory, 'prefetch.yaml', [
    `apiVersion: tidepool.dev/v1alpha1
kind: ImagePrefetch
metadata: {name: ${PREFETCH_ID}}
spec:
  images: [{image: "${image}"}]
  selector: {nodePools: [${pools.join(', ')}]}
`,
  ]);
}

/** Whole or not at all: the hub watches the directory. */
function put(directory: string, name: string, documents: readonly string[]): void {
  const hidden = join(directory, `.${name}.new`);
  writeFileSync(hidden, documents.join('---\n'));
  renameSync(hidden, join(directory, name));
}
