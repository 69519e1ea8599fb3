import type { PoolName } from '../../shared/ids.ts';
import type { DesiredPrefetch, DesiredWorkload, Problem } from '../desired/types.ts';
import type { Membership } from '../pools/membership.ts';
import type { PoolTuning } from '../pools/tuning-effective.ts';
import type { PlannedJob } from './plan.ts';

/** What derived jobs are worked out from, all of one moment. */
export interface KnownState {
  readonly workloads: readonly DesiredWorkload[];
  readonly membership: Membership;
  readonly tuning: ReadonlyMap<PoolName, PoolTuning>;
  /** As they were last planned when this is called. */
  readonly jobs: () => ReadonlyMap<string, PlannedJob>;
}

/** Jobs that nobody wrote down: they follow from what is known, and go when that does. */
export interface DerivedJobs {
  jobs(known: KnownState): {
    readonly definitions: readonly DesiredPrefetch[];
    readonly problems: readonly Problem[];
  };
  /** Runs when the answer may have become another one for a reason that is not in the known state. */
  onChange(listener: () => void): () => void;
}
