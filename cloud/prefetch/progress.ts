import type { NodeName } from '../../shared/ids.ts';
import type { PrefetchProgress } from '../../shared/wire/messages/prefetch.ts';
import type { Outcome } from './job-record.ts';

/** What of a node matters to jobs. */
export interface NodeState {
  readonly online: boolean;
  readonly prefetches: ReadonlyMap<string, PrefetchProgress>;
}
export type Lookup = (node: NodeName) => NodeState | undefined;

export interface JobIdentity {
  readonly id: string;
  readonly generation: number;
  /** What there is to do, as a digest. */
  readonly work?: string | undefined;
  /** How it ended where it did, as the hub remembers. */
  readonly outcomes?: ReadonlyMap<string, Outcome> | undefined;
}

export type Standing = 'active' | 'succeeded' | 'failed' | 'skipped' | 'waiting' | 'offline';

/**
 * How far a node is with a job. Only of this generation: what it said of an earlier definition is no progress of this one.
 * What it ended with counts also while it says nothing, after a restart of the hub or its own.
 */
export function progressOf(
  { id, generation, work, outcomes }: JobIdentity,
  node: NodeName,
  state: NodeState | undefined,
): PrefetchProgress | undefined {
  const outcome = outcomes?.get(node);
  const said = state?.prefetches.get(id);
  const live = said !== undefined && isOf(said, { generation, work }) ? said : undefined;
  if (outcome === undefined || (live !== undefined && !outcome.final && isOver(live.state))) return live;
  const { error, wanBytes, peerBytes, totalBytes } = outcome;
  return {
    id,
    generation,
    state: outcome.state,
    totalBytes,
    doneBytes: outcome.state === 'succeeded' ? totalBytes : 0,
    wanBytes,
    peerBytes,
    ...(error === undefined ? {} : { error }),
  };
}

/** Whether a node speaks of this job, also where an earlier life of the hub, whose data is lost, gave it another number. */
export function isOf(
  said: Pick<PrefetchProgress, 'generation' | 'work'>,
  { generation, work }: Pick<JobIdentity, 'generation' | 'work'>,
): boolean {
  return said.generation === generation || (work !== undefined && said.work === work);
}

export function standingOf(progress: PrefetchProgress | undefined, state: NodeState | undefined): Standing {
  const kind = progress?.state ?? 'waiting';
  return isOver(kind) || state?.online === true ? kind : 'offline';
}

export function isOver(state: PrefetchProgress['state']): state is 'succeeded' | 'failed' | 'skipped' {
  return state === 'succeeded' || state === 'failed' || state === 'skipped';
}
