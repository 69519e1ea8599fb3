/** What makes prefetch jobs by itself: workloads that pools follow, and pushes that registries tell of. */
import path from 'node:path';
import type { Clock } from '../shared/clock.ts';
import type { Startable } from '../shared/lifecycle.ts';
import type { Logger } from '../shared/log.ts';
import type { HubSettings } from './config/settings.ts';
import type { Problem } from './desired/types.ts';
import { FollowWorkloads } from './follow/follow-workloads.ts';
import { PushJobs } from './hooks/push-jobs.ts';
import { RegistryHook } from './hooks/registry-hook.ts';
import { SecretFile } from './hooks/secret-file.ts';
import type { ObservedNodes } from './pools/observed-nodes.ts';
import { followsWorkloads } from './pools/tuning-effective.ts';
import type { DerivedJobs } from './prefetch/derived-jobs.ts';
import type { JobStore } from './prefetch/job-store.ts';

export interface Automation {
  readonly derived: readonly DerivedJobs[];
  readonly hook: RegistryHook;
  /** Started once the jobs are read. */
  readonly parts: readonly Startable[];
  readonly problems: () => readonly Problem[];
}

export function makeAutomation(
  components: {
    readonly clock: Clock;
    readonly log: Logger;
    readonly observed: ObservedNodes;
    readonly jobs: JobStore;
  },
  settings: HubSettings,
): Automation {
  const { clock, log, observed, jobs } = components;
  const follow = new FollowWorkloads(
    {
      clock,
      log,
      observed,
      follows: (_pool, tuning) => tuning !== undefined && followsWorkloads(tuning),
    },
    { file: path.join(settings.data, 'follow.json') },
  );
  const pushes = new PushJobs({ clock, log, jobs }, { file: path.join(settings.data, 'pushes.json') });
  const { secretFile, rules = [] } = settings.hooks?.registry ?? {};
  const secret = secretFile === undefined ? undefined : new SecretFile({ clock }, { path: secretFile });
  return {
    derived: [follow],
    hook: new RegistryHook({ clock, log, secret, jobs: pushes }, { rules }),
    parts: [follow, pushes],
    problems: () => pushes.problems(),
  };
}
