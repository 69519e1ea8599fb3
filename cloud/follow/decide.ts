import { createHash } from 'node:crypto';
import { describeError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import type { MatchExpression } from '../../shared/wire/messages/fields.ts';
import type { DesiredPrefetch, DesiredWorkload, Problem } from '../desired/types.ts';
import type { Member } from '../pools/membership.ts';
import { matchesAll } from '../pools/selectors.ts';
import { MAX_FOLLOW_JOBS, MAX_TEMPLATES, PULL_RETRIES, PULL_TIMEOUT_MS } from './constants.ts';

/** What is remembered of one template: when its images were first seen, and the pools that have held all of them. */
export interface TemplateRecord {
  readonly since: number;
  readonly done: readonly string[];
}
/** By the id of the template's job. */
export type FollowBook = Readonly<Record<string, TemplateRecord>>;

export interface FollowInput {
  readonly workloads: readonly DesiredWorkload[];
  readonly pools: ReadonlyMap<PoolName, readonly Member[]>;
  /** Whether the pool wants images of workloads ahead of their rollout. */
  readonly follows: (pool: PoolName) => boolean;
  /** Whether the node has fetched the image, by any job. */
  readonly holds: (node: NodeName, image: string) => boolean;
  readonly book: FollowBook;
  /** Wall clock, ms. */
  readonly now: number;
  readonly maxJobs?: number;
}

export interface FollowDecision {
  readonly definitions: readonly DesiredPrefetch[];
  /** Of the templates that are there now; those that are gone are forgotten. */
  readonly book: FollowBook;
  readonly problems: readonly Problem[];
}

/**
 * Which images of workloads are prefetched, and where: a job a pod template, for the pools that follow workloads and
 * that the template's node selector reaches. A pool that has held all images is done for good, so that a node which
 * joins later does not start the job again; another image makes another template, and the earlier job is gone.
 */
export function decide(input: FollowInput): FollowDecision {
  const { workloads, pools, now, maxJobs = MAX_FOLLOW_JOBS } = input;
  const following = [...pools].filter(([pool]) => input.follows(pool));
  const names = new Set<string>(pools.keys());
  const book: Record<string, TemplateRecord> = {};
  const problems: Problem[] = [];
  const wanted: { readonly since: number; readonly job: DesiredPrefetch }[] = [];
  if (following.length === 0) return { definitions: [], book: {}, problems };
  for (const workload of workloads.slice(0, MAX_TEMPLATES)) {
    const images = soundImages(workload, problems);
    if (images.length === 0) continue;
    const id = templateId(workload, images);
    const known = Object.hasOwn(input.book, id) ? input.book[id] : undefined;
    const since = known?.since ?? now;
    const match = expressionsOf(workload.nodeSelector);
    const done = new Set<string>(known?.done.filter((pool) => names.has(pool)));
    const open: PoolName[] = [];
    for (const [pool, members] of following) {
      if (done.has(pool)) continue;
      const reached = members.filter(({ labels }) => matchesAll(match, labels));
      if (reached.length === 0) continue;
      const through = reached.every(({ node }) => images.every((image) => input.holds(node, image)));
      if (through) done.add(pool);
      else open.push(pool);
    }
    book[id] = { since, done: [...done].sort() };
    if (open.length > 0) wanted.push({ since, job: jobOf(id, workload, images, open.sort(), match) });
  }
  if (workloads.length > MAX_TEMPLATES) {
    problems.push({
      source: 'workloads',
      message: `${workloads.length} workloads; images of the first ${MAX_TEMPLATES} are prefetched ahead of their rollout`,
    });
  }
  // The newest are the rollouts that are about to come.
  wanted.sort((a, b) => b.since - a.since || (a.job.id < b.job.id ? -1 : 1));
  if (wanted.length > maxJobs) {
    problems.push({
      source: 'workloads',
      message: `${wanted.length} workloads have images to be prefetched; the newest ${maxJobs} are, the others follow when those are done`,
    });
  }
  const definitions = wanted.slice(0, maxJobs).map(({ job }) => job);
  return { definitions, book, problems };
}

/** Names the workload and its images: the same of both is the same job, also after a restart. */
export function templateId(
  { kind, namespace, name }: Pick<DesiredWorkload, 'kind' | 'namespace' | 'name'>,
  images: readonly string[],
): string {
  const whole = JSON.stringify([kind, namespace, name, [...images].sort()]);
  const hash = createHash('sha256').update(whole).digest('hex').slice(0, 10);
  const stem = ['follow', kind, namespace, name]
    .filter((part) => part !== '')
    .join('-')
    .toLowerCase()
    .replaceAll(/[^a-z0-9.-]+/g, '-')
    .slice(0, 180);
  return `${stem}-${hash}`;
}

/**
 * A template may hold a name that no image can have, such as a placeholder that a webhook fills in: that one is told and
 * left out, the others are fetched.
 */
function soundImages(workload: DesiredWorkload, problems: Problem[]): readonly string[] {
  return workload.images.filter((image) => {
    try {
      parseImageRef(image);
      return true;
    } catch (error) {
      problems.push({
        source: workload.source,
        message: `not prefetched ahead of its rollout: ${describeError(error)}`,
      });
      return false;
    }
  });
}

/** Every agent runs on Linux, also where a Node document leaves out the label that says so. */
function expressionsOf(nodeSelector: Readonly<Record<string, string>>): readonly MatchExpression[] {
  return Object.entries(nodeSelector)
    .filter(([key, value]) => !(key === 'kubernetes.io/os' && value === 'linux'))
    .map(([key, value]) => ({ key, operator: 'In', value }));
}

/**
 * The workload's own pull secrets are not handed on: whoever may write a workload could name any secret of the hub's
 * namespace with them, and have its images put on nodes where every pod can use them.
 */
function jobOf(
  id: string,
  workload: DesiredWorkload,
  images: readonly string[],
  nodePools: readonly PoolName[],
  match: readonly MatchExpression[],
): DesiredPrefetch {
  return {
    id,
    images: images.map((image) => ({ image })),
    selector: { nodePools, match },
    suspend: false,
    timeoutMs: PULL_TIMEOUT_MS,
    retries: PULL_RETRIES,
    source: workload.source,
  };
}
