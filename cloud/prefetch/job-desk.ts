import type { Clock } from '../../shared/clock.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import { formatBytes } from '../../shared/units.ts';
import type { DesiredPrefetch, DesiredWorkload } from '../desired/types.ts';
import type { Membership } from '../pools/membership.ts';
import type { Phase } from './conditions.ts';
import { frozen, obstacleOf, shapeOf, withPins, workOf } from './desk-rules.ts';
import { DryRuns } from './dry-runs.ts';
import type { GenerationTable } from './generations.ts';
import type { JobBook } from './job-book.ts';
import type { JobRecord } from './job-record.ts';
import { fixedPins, type Pinner } from './pinner.ts';
import { type PlannedJob, type PoolJob, planJob } from './plan.ts';
import { isOf, type Lookup, type NodeState } from './progress.ts';
import { type Timetable, timetable } from './schedule.ts';
import type { SizePlanner } from './size-planner.ts';
import { stageJob } from './stage.ts';
import { prefetchStatusOf } from './status.ts';

export interface JobDeskComponents {
  readonly clock: Clock;
  readonly book: JobBook;
  /** Absent where agents resolve tags themselves. */
  readonly pinner?: Pinner | undefined;
  readonly sizes: SizePlanner;
}

/** A node as it matters to jobs and to plans. */
export type NodeLookup = (node: NodeName) => (NodeState & { readonly platform?: string }) | undefined;

export interface DeskInput {
  readonly definitions: readonly DesiredPrefetch[];
  readonly generations: GenerationTable;
  readonly membership: Membership;
  readonly workloads?: readonly DesiredWorkload[] | undefined;
  readonly lookup: NodeLookup;
}

export interface DeskOutput {
  readonly jobs: ReadonlyMap<string, PlannedJob>;
  /** Jobs whose time to live is over. */
  readonly expired: readonly string[];
  /** When it is to be worked through again at the latest, wall clock ms; undefined: when something changes. */
  readonly nextAt: number | undefined;
}

/** A job to number: what makes it another one than before. */
export type Numbered = Pick<DesiredPrefetch, 'id' | 'images' | 'uid'> & { readonly run?: number };

const NOTHING: ReadonlyMap<PoolName, PoolJob> = new Map();

/** Works out what each job tells which pool now, and what is to be said of it. */
export class JobDesk {
  readonly #c: JobDeskComponents;
  readonly #dryRuns: DryRuns;
  readonly #timetables = new Map<string, { readonly key: string; readonly table: Timetable | string }>();
  /** When each node of a job with a deadline was last seen working on it, monotonic ms. */
  readonly #seen = new Map<string, Map<NodeName, number>>();

  constructor(components: JobDeskComponents, init: { readonly onChange: () => void }) {
    this.#c = components;
    this.#dryRuns = new DryRuns(components, init);
  }

  /** What numbers the jobs: a scheduled one is another job at each run. */
  numbered(definitions: readonly DesiredPrefetch[]): readonly Numbered[] {
    return definitions.map((job) => {
      const table = this.#timetable(job);
      const { run } = this.#c.book.of(job.id);
      const latest = (typeof table === 'object' ? table.run : undefined) ?? run;
      return { ...job, ...(latest === undefined || job.schedule === undefined ? {} : { run: latest }) };
    });
  }

  /** Resolves when everything that has to outlive a restart before agents see it is on disk. */
  async work(input: DeskInput): Promise<DeskOutput> {
    const jobs = new Map<string, PlannedJob>();
    const expired: string[] = [];
    let nextAt: number | undefined;
    const soonest = (at: number | undefined): void => {
      if (at !== undefined) nextAt = Math.min(nextAt ?? Number.POSITIVE_INFINITY, at);
    };
    for (const definition of input.definitions) {
      const { job, until, over } = await this.#workOne(definition, input);
      jobs.set(job.id, job);
      soonest(until);
      if (over) expired.push(job.id);
    }
    const ids = new Set(jobs.keys());
    this.#c.book.retain(ids);
    this.#c.pinner?.retain(ids);
    this.#dryRuns.retain(ids);
    for (const map of [this.#timetables, this.#seen]) {
      for (const id of [...map.keys()]) if (!ids.has(id)) map.delete(id);
    }
    return { jobs, expired, nextAt };
  }

  stop(): void {
    this.#c.pinner?.stop();
    this.#dryRuns.retain(new Set());
  }

  async #workOne(
    definition: DesiredPrefetch,
    { generations, membership, workloads, lookup }: DeskInput,
  ): Promise<{ readonly job: PlannedJob; readonly until: number | undefined; readonly over: boolean }> {
    const { book, clock } = this.#c;
    const { id } = definition;
    const now = clock.now();
    const record = book.of(id);
    const generation = generations[id]?.generation ?? 0;
    const table = this.#timetable(definition);
    if (typeof table === 'object' && table.run !== undefined) record.run = table.run;
    if (record.generation !== generation) {
      record.begin(generation);
      this.#seen.delete(id);
      book.mark(id);
    }
    if (record.completedAt !== undefined && record.completedAs !== shapeOf(definition)) {
      record.completedAt = undefined;
      record.dryRun = undefined;
      this.#dryRuns.forget(id);
      book.mark(id);
    }
    const work = workOf(definition, record);
    let planned: PlannedJob = { ...planJob(definition, generations, membership, workloads), work };
    if (record.completedAt !== undefined && definition.completion?.type !== 'Never')
      planned = frozen(planned, record);
    if (this.#note(planned, record, lookup)) book.mark(id);
    const deadlineAt = this.#countOnline(planned, record, lookup, now);

    const { phase, messages } = await this.#phase(planned, record, table, lookup, now);
    const ttlMs = definition.completion?.ttlMs;
    const endsAt =
      record.completedAt === undefined || ttlMs === undefined ? undefined : record.completedAt + ttlMs;
    const over = endsAt !== undefined && endsAt <= now;
    const nextRun = typeof table === 'object' ? table.next : undefined;
    const problems = [...planned.problems, ...obstacleOf(phase)];
    const job: PlannedJob = {
      ...planned,
      problems,
      messages: over ? NOTHING : messages,
      standing: new Set(over || definition.dryRun === true ? [] : planned.messages.keys()),
      pins: record.pins,
      outcomes: record.outcomes,
      ...(record.dryRun === undefined ? {} : { dryRun: record.dryRun }),
    };
    const status = prefetchStatusOf(job, { phase, record, nextRun }, lookup, now);
    if (JSON.stringify(status.conditions) !== JSON.stringify(record.conditions)) {
      record.conditions = status.conditions;
      book.mark(id);
    }
    const times = [nextRun, deadlineAt, over ? undefined : endsAt].filter((at) => at !== undefined);
    return {
      job: { ...job, conditions: status.conditions, status },
      until: times.length === 0 ? undefined : Math.min(...times),
      over,
    };
  }

  /** What has to come first, and then what pools are told. */
  async #phase(
    planned: PlannedJob,
    record: JobRecord,
    table: Timetable | string | undefined,
    lookup: NodeLookup,
    now: number,
  ): Promise<{ readonly phase: Phase; readonly messages: ReadonlyMap<PoolName, PoolJob> }> {
    const { definition, generation } = planned;
    const { book } = this.#c;
    const wait = (kind: 'waiting' | 'failed', reason: string, message: string) => ({
      phase: { kind, reason, message } as const,
      messages: NOTHING,
    });
    if (typeof table === 'string') return wait('failed', 'InvalidSchedule', table);
    if (table !== undefined && record.run === undefined) {
      const at = table.next === undefined ? 'never' : new Date(table.next).toISOString();
      return wait('waiting', 'Scheduled', `the first run begins at ${at}`);
    }
    const pinning = this.#c.pinner?.want(definition, generation, record.pins) ?? {
      pins: fixedPins(definition, record.pins),
      done: true,
      problem: undefined,
    };
    if (pinning.pins.size !== record.pins.size) {
      record.pins = new Map(pinning.pins);
      // A hub that forgot what a tag was could tell the second half of the nodes something else.
      await book.saved(planned.id);
    }
    if (!pinning.done) {
      const { problem } = pinning;
      if (problem === undefined) {
        return wait('waiting', 'ResolvingTags', 'the registry is being asked which digests the tags name');
      }
      const hopeless = problem.reason === 'ImageNotFound' || problem.reason === 'BadImage';
      return wait(hopeless ? 'failed' : 'waiting', problem.reason, problem.message);
    }
    if (definition.dryRun === true)
      return { phase: this.#dryRun(planned, record, lookup, now), messages: NOTHING };
    const work = workOf(definition, record);
    const pinned = { ...planned, work, messages: withPins(planned.messages, record, work) };
    // With its digests known it may turn out that nodes have done it before.
    if (work !== planned.work && this.#note(pinned, record, lookup)) book.mark(planned.id);
    const staged = stageJob(pinned, record, lookup);
    if (staged.moved) book.mark(planned.id);
    if (staged.messages.size > 0 && record.startedAt === undefined && !definition.suspend) {
      record.startedAt = now;
      book.mark(planned.id);
    }
    const standing = definition.completion?.type === 'Never' && !staged.halted;
    if (staged.over && !standing && record.completedAt === undefined) {
      record.completedAt = now;
      record.completedAs = shapeOf(definition);
      book.mark(planned.id);
      // Told again as a finished one: whoever comes later does not begin it.
      return this.#phase(planned, record, table, lookup, now);
    }
    return { phase: { kind: 'running', halted: staged.halted }, messages: staged.messages };
  }

  #dryRun(planned: PlannedJob, record: JobRecord, lookup: NodeLookup, now: number): Phase {
    if (record.dryRun === undefined) {
      const { definition, generation } = planned;
      const { result, problem } = this.#dryRuns.want(planned.id, generation, (signal) => {
        const images = definition.images.flatMap(({ image, platforms }) => {
          const digest = record.pins.get(image);
          return digest === undefined ? [] : [{ image, digest, platforms }];
        });
        const secrets = definition.pullSecrets ?? [];
        return this.#c.sizes.plan(
          images,
          this.poolsToFill(planned.targets, lookup),
          async (registry) => await this.#c.pinner?.account(secrets, registry, signal),
          signal,
        );
      });
      if (result === undefined) {
        const message = problem ?? 'manifests are being read';
        return {
          kind: 'waiting',
          reason: problem === undefined ? 'ReadingManifests' : 'RegistryUnreachable',
          message,
        };
      }
      record.dryRun = result;
      record.completedAt = now;
      record.completedAs = shapeOf(planned.definition);
      this.#c.book.mark(planned.id);
    }
    const { wanBytes, upperBound, pools } = record.dryRun;
    const bound = upperBound ? ' at most' : '';
    return {
      kind: 'answered',
      message: `${formatBytes(wanBytes)}${bound} would cross the uplinks of ${pools.length} pools; nothing is fetched`,
    };
  }

  /** What each pool's nodes run and hold, as far as the hub knows. */
  poolsToFill(targets: ReadonlyMap<PoolName, readonly NodeName[]>, lookup: NodeLookup) {
    return [...targets].map(([pool, nodes]) => {
      const platforms = new Set<string>();
      for (const node of nodes) {
        const platform = lookup(node)?.platform;
        if (platform !== undefined) platforms.add(platform);
      }
      return { pool, nodes, platforms: [...platforms], held: this.#held(nodes) };
    });
  }

  /** Digests that some node of these has fetched for a job that is still known. */
  #held(nodes: readonly NodeName[]): ReadonlySet<string> {
    const held = new Set<string>();
    for (const { pins, outcomes } of this.#c.book.all().values()) {
      if (nodes.some((node) => outcomes.get(node)?.state === 'succeeded')) {
        for (const digest of pins.values()) held.add(digest);
      }
    }
    return held;
  }

  #note(planned: PlannedJob, record: JobRecord, lookup: Lookup): boolean {
    let news = false;
    for (const nodes of planned.targets.values()) {
      for (const node of nodes) {
        const said = lookup(node)?.prefetches.get(planned.id);
        if (said !== undefined && isOf(said, planned) && record.note(node, said)) news = true;
      }
    }
    return news;
  }

  /** Adds up how long nodes were online with the job, and fails those past its deadline. The answer is when the next one is. */
  #countOnline(planned: PlannedJob, record: JobRecord, lookup: Lookup, now: number): number | undefined {
    const deadlineMs = planned.definition.completion?.activeDeadlineMs;
    if (deadlineMs === undefined || record.completedAt !== undefined || record.startedAt === undefined)
      return undefined;
    const seen = this.#seen.get(planned.id) ?? new Map<NodeName, number>();
    this.#seen.set(planned.id, seen);
    const mono = this.#c.clock.mono();
    const oneByOne = planned.definition.parallelism?.nodesPerPool !== undefined;
    let leastMs = Number.POSITIVE_INFINITY;
    for (const [pool, nodes] of planned.targets) {
      for (const node of nodes) {
        const started = record.pools.has(pool) && (!oneByOne || record.nodes.has(node));
        const state = lookup(node);
        if (!started || planned.definition.suspend || record.outcomes.has(node) || state?.online !== true) {
          seen.delete(node);
          continue;
        }
        const total = (record.onlineMs.get(node) ?? 0) + mono - (seen.get(node) ?? mono);
        seen.set(node, mono);
        record.onlineMs.set(node, total);
        leastMs = Math.min(leastMs, deadlineMs - total);
        if (total < deadlineMs) continue;
        const said = state.prefetches.get(planned.id);
        record.outcomes.set(node, {
          state: 'failed',
          wanBytes: said?.wanBytes ?? 0,
          peerBytes: said?.peerBytes ?? 0,
          totalBytes: said?.totalBytes ?? 0,
          error: {
            code: 'TIMEOUT',
            message:
              `not through after ${Math.round(deadlineMs / 1000)} s online (activeDeadlineSeconds)${said?.error === undefined ? '' : `: ${said.error.message}`}`.slice(
                0,
                300,
              ),
          },
          final: true,
        });
      }
    }
    this.#c.book.mark(planned.id);
    return leastMs === Number.POSITIVE_INFINITY ? undefined : now + Math.max(0, leastMs);
  }

  /** Kept until the next run: a pattern is not worked out at each change of a node. */
  #timetable(job: DesiredPrefetch): Timetable | string | undefined {
    if (job.schedule === undefined) return undefined;
    const record = this.#c.book.of(job.id);
    const since = record.run ?? job.createdAt ?? record.since;
    const now = this.#c.clock.now();
    const key = `${job.schedule.cron}\n${job.schedule.timeZone}\n${since}`;
    const known = this.#timetables.get(job.id);
    if (
      known?.key === key &&
      (typeof known.table === 'string' || now < (known.table.next ?? Number.POSITIVE_INFINITY))
    ) {
      return known.table;
    }
    const table = timetable(job.schedule, since, now);
    this.#timetables.set(job.id, { key, table });
    return table;
  }
}
