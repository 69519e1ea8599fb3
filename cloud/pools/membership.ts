import { lonePool, type NodeName, type PoolName, parsePoolName } from '../../shared/ids.ts';
import type { DesiredState, Problem } from '../desired/types.ts';
import type { Labels } from './selectors.ts';

export const POOL_LABEL = 'apps.openyurt.io/nodepool';
const HOSTNAME_LABEL = 'kubernetes.io/hostname';

/** What the hub knows of a node from the node itself. */
export interface KnownNode {
  readonly node: NodeName;
  readonly pool: PoolName;
  readonly address: string;
}

export interface Member {
  readonly node: NodeName;
  /** Undefined for a node that nobody put into a pool and that has not come up yet. */
  readonly pool: PoolName | undefined;
  /** With the labels that every node has, also where its document leaves them out. */
  readonly labels: Labels;
  /** Literal address and peer port, once known. */
  readonly address: string | undefined;
}

export interface Membership {
  readonly nodes: ReadonlyMap<NodeName, Member>;
  /** Members of every pool that a document names or a node is in, sorted by name; a pool may be empty. */
  readonly pools: ReadonlyMap<PoolName, readonly Member[]>;
  readonly problems: readonly Problem[];
}

/**
 * Who is in which pool. A Node document's label decides; a node without one is in the pool it says itself, and so is
 * a node without a document, where `open` lets such nodes in. Of a node that holds a certificate neither counts: it is
 * where that puts it, for a kubelet may change the labels of its own node.
 */
export function membershipOf(
  desired: Pick<DesiredState, 'nodes' | 'pools'>,
  known: ReadonlyMap<NodeName, KnownNode>,
  open: boolean,
  enrolled: ReadonlyMap<NodeName, PoolName> = new Map(),
): Membership {
  const nodes = new Map<NodeName, Member>();
  const problems: Problem[] = [];
  for (const document of desired.nodes) {
    const self = known.get(document.name);
    const certified = enrolled.get(document.name);
    const labelled = poolOf(document.labels[POOL_LABEL], document.name, document.source, problems);
    if (certified !== undefined) {
      if (labelled !== undefined && labelled !== certified) {
        problems.push({
          source: document.source,
          message: `Node ${document.name}: it is enrolled in pool ${certified}, and its label says ${labelled}, which does not count; move it with tidepool-hub nodes move ${document.name} --pool ${labelled}, or change the label`,
        });
      }
    } else if (labelled !== undefined && self !== undefined && self.pool !== labelled && !waits(self)) {
      problems.push({
        source: document.source,
        message: `Node ${document.name}: its agent runs in pool ${self.pool}, its label says ${labelled}; an agent with --pool-from-hub moves by itself, start others with --pool ${labelled}, or change the label`,
      });
    }
    nodes.set(
      document.name,
      member(
        document.name,
        certified ?? labelled ?? self?.pool,
        document.labels,
        self?.address ?? document.address,
      ),
    );
  }
  for (const [node, pool] of enrolled) {
    if (!nodes.has(node)) nodes.set(node, member(node, pool, {}, known.get(node)?.address));
  }
  if (open) {
    for (const self of known.values()) {
      if (!nodes.has(self.node)) nodes.set(self.node, member(self.node, self.pool, {}, self.address));
    }
  }
  const pools = new Map<PoolName, Member[]>(desired.pools.map(({ name }) => [name, []]));
  for (const each of [...nodes.values()].sort((a, b) => (a.node < b.node ? -1 : 1))) {
    if (each.pool === undefined) continue;
    const members = pools.get(each.pool);
    if (members === undefined) pools.set(each.pool, [each]);
    else members.push(each);
  }
  return { nodes, pools, problems };
}

/** Its agent leaves its pool to the hub and has not been told yet. */
function waits({ node, pool }: KnownNode): boolean {
  return pool === lonePool(node);
}

function member(node: NodeName, pool: PoolName | undefined, labels: Labels, address?: string): Member {
  return {
    node,
    pool,
    labels: { [HOSTNAME_LABEL]: node, ...labels, ...(pool === undefined ? {} : { [POOL_LABEL]: pool }) },
    address,
  };
}

function poolOf(
  label: string | undefined,
  node: NodeName,
  source: string,
  problems: Problem[],
): PoolName | undefined {
  if (label === undefined) return undefined;
  try {
    return parsePoolName(label);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    problems.push({ source, message: `Node ${node}: label ${POOL_LABEL}: ${why}` });
    return undefined;
  }
}
