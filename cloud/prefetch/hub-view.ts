import type { PoolName } from '../../shared/ids.ts';
import type { Problem } from '../desired/types.ts';
import type { Membership } from '../pools/membership.ts';
import type { PoolTuning } from '../pools/tuning-effective.ts';
import type { PlannedJob } from './plan.ts';

/** Pools, tuning and jobs as they were last worked out and published. */
export interface HubView {
  readonly membership: Membership;
  readonly tuning: ReadonlyMap<PoolName, PoolTuning>;
  readonly jobs: ReadonlyMap<string, PlannedJob>;
  readonly problems: readonly Problem[];
}
