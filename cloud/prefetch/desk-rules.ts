import { createHash } from 'node:crypto';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { DesiredPrefetch } from '../desired/types.ts';
import type { Phase } from './conditions.ts';
import type { JobRecord } from './job-record.ts';
import type { PlannedJob, PoolJob } from './plan.ts';
import { toleranceOf } from './stage.ts';

/** What a person has to see to; that an hour has not come, or an answer, is no obstacle. */
export function obstacleOf(phase: Phase): readonly string[] {
  if (phase.kind === 'failed') return [phase.message];
  const real = phase.kind === 'waiting' && ['RegistryUnreachable', 'NeedsPullSecret'].includes(phase.reason);
  return real ? [phase.message] : [];
}

/** What makes a finished job an unfinished one when it changes: whom it is for, and what it bears. */
export function shapeOf({ selector, failureTolerance, completion, dryRun }: DesiredPrefetch): string {
  const text = JSON.stringify([
    selector,
    failureTolerance ?? null,
    completion?.type ?? 'Always',
    dryRun === true,
  ]);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/**
 * What a job has nodes do, as a digest. Unlike its number it follows from the job alone, so that a hub which has lost its data
 * says the same, and what is done by then is not done again.
 */
export function workOf({ images, uid }: DesiredPrefetch, { pins, run }: JobRecord): string {
  const pinned = images.map((each) => ({ ...each, digest: each.digest ?? pins.get(each.image) }));
  const text = JSON.stringify([pinned, uid ?? null, run ?? null]);
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

/** A finished job is over for nodes that come later; one that stopped half-way still counts those it never started. */
export function frozen(planned: PlannedJob, { outcomes }: JobRecord): PlannedJob {
  const all = [...planned.targets.values()].reduce((sum, nodes) => sum + nodes.length, 0);
  const failed = [...outcomes.values()].filter(({ state }) => state === 'failed').length;
  if (outcomes.size === 0 || failed > toleranceOf(planned.definition.failureTolerance, all)) return planned;
  const targets = new Map<PoolName, readonly NodeName[]>();
  for (const [pool, nodes] of planned.targets) {
    const known = nodes.filter((node) => outcomes.has(node));
    if (known.length > 0) targets.set(pool, known);
  }
  return { ...planned, targets };
}

/** Messages with the digests that hold for the job, and what that comes to. */
export function withPins(
  messages: ReadonlyMap<PoolName, PoolJob>,
  { pins }: JobRecord,
  work: string,
): ReadonlyMap<PoolName, PoolJob> {
  return new Map(
    [...messages].map(([pool, message]) => [
      pool,
      {
        ...message,
        work,
        images: message.images.map((each) => {
          const digest = pins.get(each.image);
          return digest === undefined || each.image.includes('@') ? each : { ...each, digest };
        }),
      },
    ]),
  );
}
