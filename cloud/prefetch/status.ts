import type { PrefetchStatus } from '../desired/types.ts';
import { conditionsOf, type Phase } from './conditions.ts';
import type { JobRecord } from './job-record.ts';
import type { PlannedJob } from './plan.ts';
import type { Lookup } from './progress.ts';
import { rollUp } from './roll-up.ts';

const MAX_MESSAGE_CHARS = 300;
const PRIVATE_REMARK =
  'nodes get the accounts of pullSecrets from the hub; with --insecure they get none, and a private image comes only to nodes that can read it themselves';

export interface StatusInput {
  readonly phase: Phase;
  readonly record: JobRecord;
  /** Start of the next scheduled run, ms. */
  readonly nextRun?: number | undefined;
}

/**
 * `status` of a job: counts over all its nodes, at most 100 pools, 20 failed nodes with their messages cut. Offline nodes
 * are counted apart: they are not failed, and complete when they are back.
 * @param now wall clock, ms
 */
export function prefetchStatusOf(
  job: PlannedJob,
  { phase, record, nextRun }: StatusInput,
  lookup: Lookup,
  now: number,
): PrefetchStatus {
  const { definition } = job;
  const view = rollUp(job, lookup);
  const { desired, active, succeeded, failed, waiting, offline, skipped } = view;
  const counts = { desired, active, succeeded, failed, waiting, offline, skipped };
  const conditions = conditionsOf(
    {
      phase,
      counts,
      suspend: definition.suspend,
      failureTolerance: definition.failureTolerance,
      completed: record.completedAt !== undefined,
      problems: job.problems,
      remark: definition.pullSecrets === undefined ? undefined : PRIVATE_REMARK,
    },
    record.conditions,
    now,
  );
  const time = (ms: number | undefined): string | undefined =>
    ms === undefined ? undefined : new Date(ms).toISOString();
  const startTime = time(record.startedAt);
  const completionTime = time(record.completedAt);
  const nextRunTime = time(nextRun);
  const { retainMs } = definition;
  const retainedUntil =
    retainMs === undefined || record.completedAt === undefined || definition.dryRun === true
      ? undefined
      : time(record.completedAt + retainMs);
  return {
    observedGeneration: definition.observedGeneration ?? 0,
    ...counts,
    bytes: { wan: view.bytes.wan, peer: view.bytes.peer },
    images: [...record.pins].map(([image, digest]) => ({ image, digest })),
    pools: view.pools.map((row) => ({
      name: row.pool,
      desired: row.desired,
      succeeded: row.succeeded,
      failed: row.failed,
      offline: row.offline ?? 0,
      bytes: { wan: row.wanBytes, peer: row.peerBytes },
    })),
    failedNodes: view.failedNodes.map(({ node, code, message }) => ({
      node,
      code,
      message: message.length <= MAX_MESSAGE_CHARS ? message : `${message.slice(0, MAX_MESSAGE_CHARS)}…`,
    })),
    ...(record.dryRun === undefined ? {} : { dryRun: record.dryRun }),
    ...(startTime === undefined ? {} : { startTime }),
    ...(completionTime === undefined ? {} : { completionTime }),
    ...(retainedUntil === undefined ? {} : { retainedUntil }),
    ...(nextRunTime === undefined ? {} : { nextRunTime }),
    conditions,
  };
}
