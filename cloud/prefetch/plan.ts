import type { Digest, NodeName, PoolName } from '../../shared/ids.ts';
import type { MatchExpression } from '../../shared/wire/messages/fields.ts';
import type { PrefetchMessage } from '../../shared/wire/messages/prefetch.ts';
import type {
  DesiredPrefetch,
  DesiredWorkload,
  DryRunStatus,
  PrefetchStatus,
  StatusCondition,
} from '../desired/types.ts';
import type { Member, Membership } from '../pools/membership.ts';
import { flawOf, matchesAll } from '../pools/selectors.ts';
import type { GenerationTable } from './generations.ts';
import type { Outcome } from './job-record.ts';

/** A job's message to one pool before the publisher gives it its epoch. */
export type PoolJob = Omit<PrefetchMessage, 'epoch'>;

export interface PlannedJob {
  readonly id: string;
  readonly generation: number;
  /** What there is to do, as a digest; it outlives the numbers. */
  readonly work?: string;
  /** Pools that have to do with the job: who is there goes on with what was said before, also while nothing is said now. */
  readonly standing?: ReadonlySet<PoolName>;
  readonly definition: DesiredPrefetch;
  /** Who shall run it, by pool; pools without a selected node are absent, or empty when named as a whole. */
  readonly targets: ReadonlyMap<PoolName, readonly NodeName[]>;
  readonly messages: ReadonlyMap<PoolName, PoolJob>;
  /** Pools that are meant as a whole, newcomers too. */
  readonly open: ReadonlySet<PoolName>;
  /** In words: an unknown pool, a node in no pool, a selector that nobody fits. */
  readonly problems: readonly string[];
  /** Digest by image as the job names it. */
  readonly pins?: ReadonlyMap<string, Digest>;
  /** How it ended on the nodes where it did. */
  readonly outcomes?: ReadonlyMap<string, Outcome>;
  readonly conditions?: readonly StatusCondition[];
  readonly dryRun?: DryRunStatus;
  readonly status?: PrefetchStatus;
}

/** Turns a job into messages to pools. A pool that is named as a whole is told so, and whoever joins it runs the job too. */
export function planJob(
  definition: DesiredPrefetch,
  generations: GenerationTable,
  membership: Membership,
  workloads?: readonly DesiredWorkload[],
): PlannedJob {
  const { id, images, suspend, timeoutMs, retries, retainMs, selector } = definition;
  const generation = generations[id]?.generation ?? 0;
  const { problems, whole, single } = select(definition, membership);
  const match = [...selector.match];
  const reach = reachOf(definition, workloads);
  if (typeof reach === 'string') problems.push(reach);
  else match.push(...reach);
  const nobody = typeof reach === 'string';
  const accounts = (definition.pullSecrets ?? []).length > 0 ? { credentials: true } : {};
  const retention = retainMs === undefined ? {} : { retainMs };
  const openPools = new Set<PoolName>();
  const targets = new Map<PoolName, readonly NodeName[]>();
  const messages = new Map<PoolName, PoolJob>();
  for (const [pool, members] of membership.pools) {
    const chosen = members.filter(
      ({ node, labels }) => (whole.has(pool) || single.has(node)) && !nobody && matchesAll(match, labels),
    );
    const open = whole.has(pool) && match.length === 0 && !nobody;
    if (open) openPools.add(pool);
    if (chosen.length === 0 && !open) continue;
    const names = chosen.map(({ node }) => node);
    targets.set(pool, names);
    const job: PoolJob = { id, generation, images, suspend, timeoutMs, retries, ...accounts, ...retention };
    messages.set(pool, open ? job : { ...job, nodes: names });
  }
  const anybody = [...targets.values()].some((names) => names.length > 0);
  if (!anybody && problems.length === 0) {
    problems.push('the selector fits no node; the job starts as soon as it fits one');
  }
  return { id, generation, definition, targets, messages, open: openPools, problems };
}

interface Selection {
  readonly problems: string[];
  /** Pools that are named as a whole. */
  readonly whole: ReadonlySet<PoolName>;
  readonly single: ReadonlySet<NodeName>;
}

function select({ selector }: DesiredPrefetch, membership: Membership): Selection {
  const problems: string[] = [];
  const { nodePools, names, match } = selector;
  for (const expression of match) {
    const flaw = flawOf(expression);
    if (flaw !== undefined) problems.push(`label ${expression.key}: ${flaw}`);
  }
  for (const pool of nodePools ?? []) {
    const members = membership.pools.get(pool);
    if (members === undefined)
      problems.push(`pool ${pool} is unknown: no NodePool document and no node names it`);
    else if (members.length === 0) problems.push(`pool ${pool} has no nodes yet`);
  }
  for (const node of names ?? []) {
    const member: Member | undefined = membership.nodes.get(node);
    if (member === undefined) problems.push(`node ${node} is unknown`);
    else if (member.pool === undefined)
      problems.push(`node ${node} is in no pool; its agent has not come up yet`);
  }
  const everyone = nodePools === undefined && names === undefined;
  return {
    problems,
    whole: new Set(everyone ? membership.pools.keys() : nodePools),
    single: new Set(names),
  };
}

/** Where pods of the job's workload may come to, as label expressions; text where nobody can tell. */
function reachOf(
  { selector: { workloadRef } }: DesiredPrefetch,
  workloads: readonly DesiredWorkload[] | undefined,
): readonly MatchExpression[] | string {
  if (workloadRef === undefined) return [];
  const { kind, namespace, name } = workloadRef;
  if (workloads === undefined) {
    return `workloadRef: this hub knows no workloads; it must run on Kubernetes and follow them`;
  }
  const workload = workloads.find(
    (each) => each.kind === kind && each.namespace === namespace && each.name === name,
  );
  if (workload === undefined) {
    return `workloadRef: there is no ${kind} ${namespace}/${name}, or no pool follows workloads; the job starts when it is seen`;
  }
  return Object.entries(workload.nodeSelector).map(([key, value]) => ({ key, operator: 'In', value }));
}
