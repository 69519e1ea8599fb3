import type { PoolName } from '../../shared/ids.ts';
import type { PrefetchNodeView, PrefetchPoolView, PrefetchView } from '../../shared/wire/api.ts';
import type { PlannedJob } from './plan.ts';
import { type Lookup, progressOf, standingOf } from './progress.ts';

const MAX_POOL_ROWS = 100;
const MAX_FAILURES = 20;
const MAX_PROBLEMS = 20;
const MAX_NODE_ROWS = 10_000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** A job's state over all its nodes, bounded however many there are. */
export function rollUp(job: PlannedJob, lookup: Lookup): PrefetchView {
  const counts = { desired: 0, active: 0, succeeded: 0, failed: 0, skipped: 0, waiting: 0, offline: 0 };
  const bytes = { total: 0, done: 0, wan: 0, peer: 0 };
  const failedNodes: PrefetchView['failedNodes'][number][] = [];
  const pools: PrefetchPoolView[] = [];
  for (const [pool, nodes] of job.targets) {
    const row = emptyRow(pool, nodes.length);
    for (const node of nodes) {
      const state = lookup(node);
      const progress = progressOf(job, node, state);
      const kind = standingOf(progress, state);
      counts.desired++;
      counts[kind]++;
      if (kind === 'offline') row.offline++;
      if (progress === undefined) continue;
      row.totalBytes += progress.totalBytes;
      row.doneBytes += progress.doneBytes;
      row.wanBytes += progress.wanBytes;
      row.peerBytes += progress.peerBytes;
      if (kind === 'succeeded') row.succeeded++;
      if (kind !== 'failed') continue;
      row.failed++;
      if (failedNodes.length < MAX_FAILURES) {
        const { code = 'INTERNAL', message = 'the node gave no reason' } = progress.error ?? {};
        failedNodes.push({ node, code, message });
      }
    }
    bytes.total += row.totalBytes;
    bytes.done += row.doneBytes;
    bytes.wan += row.wanBytes;
    bytes.peer += row.peerBytes;
    if (pools.length < MAX_POOL_ROWS) pools.push(row);
  }
  return {
    id: job.id,
    images: job.definition.images.map(({ image, digest = job.pins?.get(image) }) =>
      digest === undefined || image.includes('@') ? image : `${image}@${digest}`,
    ),
    suspend: job.definition.suspend,
    ...counts,
    bytes,
    pools,
    poolCount: job.targets.size,
    failedNodes,
    problems: job.problems.slice(0, MAX_PROBLEMS),
    ...(job.conditions === undefined ? {} : { conditions: job.conditions }),
    ...(job.dryRun === undefined ? {} : { dryRun: job.dryRun }),
    ...(job.status?.retainedUntil === undefined ? {} : { retainedUntil: job.status.retainedUntil }),
  };
}

/** A row a node, in the order of pools and names. */
export function nodeRows(job: PlannedJob, lookup: Lookup): readonly PrefetchNodeView[] {
  const rows: PrefetchNodeView[] = [];
  for (const [pool, nodes] of job.targets) {
    for (const node of nodes) {
      if (rows.length >= MAX_NODE_ROWS) return rows;
      const state = lookup(node);
      const progress = progressOf(job, node, state) ?? {
        id: job.id,
        generation: job.generation,
        state: 'waiting' as const,
        totalBytes: 0,
        doneBytes: 0,
        wanBytes: 0,
        peerBytes: 0,
      };
      rows.push({ node, pool, online: state?.online ?? false, ...progress });
    }
  }
  return rows;
}

function emptyRow(pool: PoolName, desired: number): Mutable<Required<PrefetchPoolView>> {
  return {
    pool,
    desired,
    succeeded: 0,
    failed: 0,
    offline: 0,
    totalBytes: 0,
    doneBytes: 0,
    wanBytes: 0,
    peerBytes: 0,
  };
}
