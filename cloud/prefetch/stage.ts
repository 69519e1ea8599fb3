import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { JobRecord } from './job-record.ts';
import type { PlannedJob, PoolJob } from './plan.ts';
import { type Lookup, progressOf, type Standing, standingOf } from './progress.ts';

/** Names that fit a message beside its images; a pool with more keeps the open form. */
const MAX_NAMES_BYTES = 40_000;

export interface Staged {
  readonly messages: ReadonlyMap<PoolName, PoolJob>;
  /** More failures than the job bears: nothing further starts. */
  readonly halted: boolean;
  /** Nothing is left to do, or nothing will be done any more. */
  readonly over: boolean;
  /** Something of the record has changed. */
  readonly moved: boolean;
}

interface NodeRow {
  readonly node: NodeName;
  readonly standing: Standing;
  readonly online: boolean;
  /** It has begun: what it moved so far would be lost. */
  readonly begun: boolean;
}

/**
 * Which pools and nodes run the job now. Pools and nodes start as others end, no more at a time than the job says; those that
 * are out of reach hold nobody up and get their turn when they are back. Notes in the record what it starts.
 */
export function stageJob(job: PlannedJob, record: JobRecord, lookup: Lookup): Staged {
  const { parallelism = {}, completion } = job.definition;
  const rows = rowsOf(job, record, lookup);
  const all = [...rows.values()].flat();
  const failed = all.filter(({ standing }) => standing === 'failed').length;
  const halted = failed > 0 && failed > toleranceOf(job.definition.failureTolerance, all.length);
  const before = record.pools.size + record.nodes.size;
  if (!halted && record.completedAt === undefined) {
    start(job, record, rows, parallelism);
  }
  const ended = all.length > 0 && all.every(({ standing }) => isEnd(standing));
  // Those that have begun go on to their end; the rest never starts.
  const still = all.some(({ standing, online, begun }) => online && begun && !isEnd(standing));
  const over = ended || (halted && !still);
  const frozen = record.completedAt !== undefined || (ended && completion?.type !== 'Never');
  const messages = new Map<PoolName, PoolJob>();
  for (const [pool, message] of job.messages) {
    if (!record.pools.has(pool)) continue;
    const nodes = namesFor(pool, { job, record, rows, halted, frozen });
    const more = !halted && isMoreToCome(job, record, rows.get(pool) ?? []) ? { more: true } : {};
    messages.set(pool, nodes === undefined ? withoutNodes(message) : { ...message, nodes, ...more });
  }
  return { messages, halted, over, moved: record.pools.size + record.nodes.size !== before };
}

/** Failed nodes that a job bears. @param tolerance a number, or a percentage of all, rounded down */
export function toleranceOf(tolerance: number | string | undefined, all: number): number {
  if (tolerance === undefined) return Number.POSITIVE_INFINITY;
  if (typeof tolerance === 'number') return tolerance;
  return Math.floor((all * Number.parseInt(tolerance, 10)) / 100);
}

function rowsOf(job: PlannedJob, record: JobRecord, lookup: Lookup): Map<PoolName, NodeRow[]> {
  const identity = { id: job.id, generation: job.generation, work: job.work, outcomes: record.outcomes };
  const rows = new Map<PoolName, NodeRow[]>();
  for (const [pool, nodes] of job.targets) {
    rows.set(
      pool,
      nodes.map((node) => {
        const state = lookup(node);
        const progress = progressOf(identity, node, state);
        return {
          node,
          standing: standingOf(progress, state),
          online: state?.online === true,
          begun: progress?.state === 'active' || (progress?.doneBytes ?? 0) > 0,
        };
      }),
    );
  }
  return rows;
}

function start(
  job: PlannedJob,
  record: JobRecord,
  rows: ReadonlyMap<PoolName, readonly NodeRow[]>,
  { pools: maxPools = Number.POSITIVE_INFINITY, nodesPerPool }: { pools?: number; nodesPerPool?: number },
): void {
  const unfinished = (row: NodeRow): boolean => !isEnd(row.standing) && row.online;
  const names = [...job.messages.keys()].sort();
  // What has begun was started, if not by this record then by one that is lost: it must not be taken from who has it.
  for (const pool of names) {
    for (const { node, standing, begun } of rows.get(pool) ?? []) {
      if (!isEnd(standing) && !begun) continue;
      record.pools.add(pool);
      if (nodesPerPool !== undefined) record.nodes.add(node);
    }
  }
  let busy = names.filter((pool) => record.pools.has(pool) && rows.get(pool)?.some(unfinished)).length;
  for (const pool of names) {
    if (record.pools.has(pool)) continue;
    const due = rows.get(pool)?.some(unfinished) === true;
    // Without a limit everybody is told at once, also who is away.
    if (maxPools !== Number.POSITIVE_INFINITY) {
      if (!due || busy >= maxPools) continue;
      busy++;
    }
    record.pools.add(pool);
  }
  if (nodesPerPool === undefined) return;
  for (const pool of names) {
    if (!record.pools.has(pool)) continue;
    const waiting = (rows.get(pool) ?? []).filter(unfinished);
    let running = waiting.filter(({ node }) => record.nodes.has(node)).length;
    for (const { node } of waiting) {
      if (running >= nodesPerPool) break;
      if (record.nodes.has(node)) continue;
      record.nodes.add(node);
      running++;
    }
  }
}

/** Nodes to name in a pool's message; undefined for the whole pool. */
function namesFor(
  pool: PoolName,
  given: {
    readonly job: PlannedJob;
    readonly record: JobRecord;
    readonly rows: ReadonlyMap<PoolName, readonly NodeRow[]>;
    readonly halted: boolean;
    readonly frozen: boolean;
  },
): NodeName[] | undefined {
  const { job, record, halted, frozen } = given;
  const rows = given.rows.get(pool) ?? [];
  // The hub's own verdict over a node takes the job from it.
  const dropped = (node: NodeName): boolean => record.outcomes.get(node)?.final === true;
  if (halted) {
    return names(rows.filter((row) => !dropped(row.node) && (isEnd(row.standing) || row.begun)));
  }
  const oneByOne = job.definition.parallelism?.nodesPerPool !== undefined;
  if (oneByOne) return names(rows.filter(({ node }) => record.nodes.has(node) && !dropped(node)));
  const kept = rows.filter(({ node }) => !dropped(node));
  const open = job.open.has(pool) && kept.length === rows.length;
  if (!open) return names(kept);
  if (!frozen) return undefined;
  const listed = names(kept);
  return listed.join().length > MAX_NAMES_BYTES ? undefined : listed;
}

/** Whether nodes of the pool still wait for their turn. Where the hub took the job from one, only those count that are named. */
function isMoreToCome(job: PlannedJob, record: JobRecord, rows: readonly NodeRow[]): boolean {
  if (job.definition.parallelism?.nodesPerPool === undefined) return false;
  if (rows.some(({ node }) => record.outcomes.get(node)?.final === true)) return false;
  return rows.some(({ node }) => !record.nodes.has(node));
}

function names(rows: readonly NodeRow[]): NodeName[] {
  return rows.map(({ node }) => node);
}

function withoutNodes({ nodes: _, ...message }: PoolJob): PoolJob {
  return message;
}

function isEnd(standing: Standing): boolean {
  return standing === 'succeeded' || standing === 'failed' || standing === 'skipped';
}
