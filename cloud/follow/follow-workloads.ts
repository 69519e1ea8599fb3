import * as z from 'zod';
import { type Clock, every } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { JsonFile } from '../data/json-file.ts';
import type { DesiredPrefetch, Problem } from '../desired/types.ts';
import type { ObservedNode } from '../pools/observed-nodes.ts';
import type { PoolTuning } from '../pools/tuning-effective.ts';
import type { DerivedJobs, KnownState } from '../prefetch/derived-jobs.ts';
import type { PlannedJob } from '../prefetch/plan.ts';
import { progressOf } from '../prefetch/progress.ts';
import { LOOK_MS } from './constants.ts';
import { decide, type FollowBook, type FollowDecision } from './decide.ts';

const savedBook = z.record(
  z.string(),
  z.object({ since: z.number().nonnegative(), done: z.array(z.string()) }),
);

export interface FollowComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly observed: { get(node: NodeName): ObservedNode | undefined };
  /** Whether a pool with this tuning wants images of workloads ahead of their rollout. */
  readonly follows: (pool: PoolName, tuning: PoolTuning | undefined) => boolean;
}

/** Images that workloads name, as prefetch jobs of the pools that want them. */
export class FollowWorkloads implements DerivedJobs, Startable {
  readonly name = 'follow workloads';
  readonly #c: FollowComponents;
  readonly #file: JsonFile<FollowBook>;
  readonly #listeners = new Set<() => void>();
  #known: KnownState | undefined;
  #last: FollowDecision = { definitions: [], book: {}, problems: [] };
  #diskProblem: Problem | undefined;
  #cancelLook: (() => void) | undefined;
  #saving: Promise<void> = Promise.resolve();

  constructor(components: FollowComponents, init: { readonly file: string }) {
    this.#c = components;
    this.#file = new JsonFile<FollowBook>(init.file, savedBook);
  }

  /** What was remembered is a matter of comfort: a file that cannot be read is a problem to show, and no more. */
  async start(): Promise<void> {
    try {
      this.#last = { ...this.#last, book: (await this.#file.read()) ?? {} };
    } catch (error) {
      this.#c.log.error({ err: error }, 'what was known of workloads cannot be read; it is worked out again');
      this.#diskProblem = { source: 'workloads', message: describeError(error) };
    }
    this.#cancelLook = every(this.#c.clock, LOOK_MS, () => this.#look());
  }

  async stop(): Promise<void> {
    this.#cancelLook?.();
    await this.#saving;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  jobs(known: KnownState): {
    readonly definitions: readonly DesiredPrefetch[];
    readonly problems: readonly Problem[];
  } {
    this.#known = known;
    const before = this.#last;
    this.#last = this.#decide(known);
    this.#tell(before);
    if (JSON.stringify(before.book) !== JSON.stringify(this.#last.book)) this.#save();
    const disk = this.#diskProblem === undefined ? [] : [this.#diskProblem];
    return { definitions: this.#last.definitions, problems: [...this.#last.problems, ...disk] };
  }

  #decide(known: KnownState): FollowDecision {
    const byImage = jobsByImage(known.jobs());
    return decide({
      workloads: known.workloads,
      pools: known.membership.pools,
      follows: (pool) => this.#c.follows(pool, known.tuning.get(pool)),
      holds: (node, image) => this.#holds(byImage.get(image), node),
      book: this.#last.book,
      now: this.#c.clock.now(),
    });
  }

  #holds(jobs: readonly PlannedJob[] | undefined, node: NodeName): boolean {
    const state = this.#c.observed.get(node);
    return (jobs ?? []).some((job) => {
      const end = progressOf(job, node, state)?.state;
      // A node of another platform has no use for the image, and never will.
      return end === 'succeeded' || end === 'skipped';
    });
  }

  /** A pool that is through frees the place of its job. */
  #look(): void {
    if (this.#known === undefined || this.#last.definitions.length === 0) return;
    const next = this.#decide(this.#known);
    if (JSON.stringify(next.definitions) === JSON.stringify(this.#last.definitions)) return;
    for (const listener of this.#listeners) listener();
  }

  #tell(before: FollowDecision): void {
    const ids = (all: readonly DesiredPrefetch[]) => new Set(all.map(({ id }) => id));
    const was = ids(before.definitions);
    const is = ids(this.#last.definitions);
    for (const { id, source, images, selector } of this.#last.definitions) {
      if (was.has(id)) continue;
      const facts = { job: id, images: images.map(({ image }) => image), pools: selector.nodePools };
      this.#c.log.info({ ...facts, workload: source }, 'images of a workload are prefetched');
    }
    for (const { id, source } of before.definitions) {
      if (!is.has(id)) this.#c.log.info({ job: id, workload: source }, 'prefetch of a workload is over');
    }
  }

  #save(): void {
    const { book } = this.#last;
    this.#saving = this.#saving.then(async () => {
      try {
        await this.#file.write(book);
        this.#diskProblem = undefined;
      } catch (error) {
        this.#c.log.error({ err: error }, 'could not save what is known of workloads');
        this.#diskProblem = { source: 'workloads', message: `could not be saved: ${describeError(error)}` };
      }
    });
  }
}

function jobsByImage(jobs: ReadonlyMap<string, PlannedJob>): ReadonlyMap<string, readonly PlannedJob[]> {
  const byImage = new Map<string, PlannedJob[]>();
  for (const job of jobs.values()) {
    for (const { image } of job.definition.images) {
      const known = byImage.get(image);
      if (known === undefined) byImage.set(image, [job]);
      else known.push(job);
    }
  }
  return byImage;
}
