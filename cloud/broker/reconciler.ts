import path from 'node:path';
import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { PoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { topics } from '../../shared/wire/topics.ts';
import { JsonFile } from '../data/json-file.ts';
import type { DesiredPrefetch, DesiredSource, DesiredTuning, Feedback, Problem } from '../desired/types.ts';
import { type Membership, membershipOf } from '../pools/membership.ts';
import type { ObservedNodes } from '../pools/observed-nodes.ts';
import { rosterOf } from '../pools/roster.ts';
import { downstreamsOf, type PoolTuning, workOut } from '../pools/tuning-effective.ts';
import { type ParsedTuning, parseTuning } from '../pools/tuning-parse.ts';
import type { DerivedJobs, KnownState } from '../prefetch/derived-jobs.ts';
import { type GenerationTable, generationTable, numberJobs } from '../prefetch/generations.ts';
import type { HubView } from '../prefetch/hub-view.ts';
import type { JobDesk, Numbered } from '../prefetch/job-desk.ts';
import type { JobStore } from '../prefetch/job-store.ts';
import type { PlannedJob } from '../prefetch/plan.ts';
import type { StatusTeller } from '../prefetch/status-teller.ts';
import type { EnrolledNodes, PoolTrustSource } from '../trust/types.ts';
import type { Publisher } from './publisher.ts';
import { TuningNotices } from './tuning-notices.ts';

/** Changes come in bursts (a file of nodes, a pool that boots); each burst is worked through once. */
const DEBOUNCE_MS = 150;
/** Of the hub's time at most a fifth goes into this. */
const REST = 4;

export interface ReconcilerComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly source: DesiredSource;
  readonly jobs: JobStore;
  /** Jobs that follow from documents and nodes. */
  readonly derived?: readonly DerivedJobs[];
  readonly desk: JobDesk;
  readonly teller: StatusTeller;
  readonly observed: ObservedNodes;
  readonly publisher: Publisher;
  /** Nodes that hold certificates, and the pools of these; nobody, where left out. */
  readonly enrolled?: Pick<EnrolledNodes, 'enrolled' | 'onChange'> | undefined;
  /** Told of what is wrong with the tuning. */
  readonly feedback?: Pick<Feedback, 'notice'>;
  /** What pools are told of whom to trust; absent where nobody is asked who he is. */
  readonly trust?: PoolTrustSource | undefined;
}

export interface ReconcilerInit {
  /** Where last good tuning and job numbers are kept. */
  readonly data: string;
  /** Nodes without a document are members too. */
  readonly open: boolean;
  readonly debounceMs?: number;
}

/** Keeps what is retained at the broker equal to what is desired. */
export class Reconciler implements Startable {
  readonly name = 'reconciler';
  readonly #c: ReconcilerComponents;
  readonly #init: ReconcilerInit;
  readonly #notices: TuningNotices;
  readonly #textsFile: JsonFile<Record<string, string>>;
  readonly #generationsFile: JsonFile<GenerationTable>;
  readonly #unsubscribe: (() => void)[] = [];
  readonly #diskProblems = new Map<string, Problem>();
  #texts: Readonly<Record<string, string>> = {};
  #parsed: { readonly of: DesiredTuning | undefined; readonly result: ParsedTuning } | undefined;
  #generations: GenerationTable = {};
  #view: HubView = {
    membership: { nodes: new Map(), pools: new Map(), problems: [] },
    tuning: new Map(),
    jobs: new Map(),
    problems: [],
  };
  #run: Promise<void> = Promise.resolve();
  #cancelTimer: (() => void) | undefined;
  #cancelDue: (() => void) | undefined;
  #lastMs = 0;
  #told = new Set<string>();

  constructor(components: ReconcilerComponents, init: ReconcilerInit) {
    this.#c = components;
    this.#init = init;
    this.#notices = new TuningNotices({ clock: components.clock, feedback: components.feedback });
    this.#textsFile = new JsonFile(path.join(init.data, 'tuning.json'), z.record(z.string(), z.string()));
    this.#generationsFile = new JsonFile(path.join(init.data, 'generations.json'), generationTable);
  }

  get view(): HubView {
    return this.#view;
  }

  get tuning(): ParsedTuning {
    return this.#parsed?.result ?? { table: {}, texts: {}, problems: [] };
  }

  /** @throws TidepoolError STORE_CORRUPT */
  async start(): Promise<void> {
    this.#texts = (await this.#textsFile.read()) ?? {};
    this.#generations = (await this.#generationsFile.read()) ?? {};
    this.#unsubscribe.push(
      this.#c.source.onChange(() => this.mark()),
      this.#c.jobs.onChange(() => this.mark()),
      ...(this.#c.trust === undefined ? [] : [this.#c.trust.onChange(() => this.mark())]),
      ...(this.#c.enrolled === undefined ? [] : [this.#c.enrolled.onChange(() => this.mark())]),
      ...(this.#c.derived ?? []).map((each) => each.onChange(() => this.mark())),
    );
    await this.now();
  }

  async stop(): Promise<void> {
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    await this.#run;
    this.#cancelDue?.();
    this.#cancelDue = undefined;
    this.#c.desk.stop();
    this.#c.teller.stop();
  }

  /** Something has changed; it is published shortly. */
  mark(): void {
    const waitMs = Math.max(this.#init.debounceMs ?? DEBOUNCE_MS, this.#lastMs * REST);
    this.#cancelTimer ??= this.#c.clock.after(waitMs, () => {
      this.#cancelTimer = undefined;
      void this.now();
    });
  }

  /** A node came, left, or got further with a job: jobs and their status follow. */
  markJobs(): void {
    if (this.#view.jobs.size > 0) this.mark();
  }

  /** Works everything through at once; resolves when the view and the publisher have it. */
  now(): Promise<void> {
    this.#run = this.#run
      .then(() => this.#reconcile())
      .catch((error: unknown) => this.#c.log.error({ err: error }, 'could not work out what to publish'));
    return this.#run;
  }

  async #reconcile(): Promise<void> {
    const startedAt = this.#c.clock.mono();
    const desired = this.#c.source.current();
    const membership = membershipOf(
      desired,
      this.#c.observed.all(),
      this.#init.open,
      this.#c.enrolled?.enrolled(),
    );
    const { table, problems: tuningProblems } = await this.#parseTuning(desired.tuning);
    const { desk, observed, teller } = this.#c;

    const tuning = new Map<PoolName, PoolTuning>();
    const poolProblems: Problem[] = [];
    const downstreams = downstreamsOf(table, membership.pools);
    for (const [pool, members] of membership.pools) {
      const { tuning: effective, problems } = workOut(
        table,
        pool,
        members,
        membership.pools,
        downstreams.get(pool),
      );
      tuning.set(pool, effective);
      poolProblems.push(...problems.map((message) => ({ source: `pool ${pool}`, message })));
    }
    const { definitions, problems: jobProblems } = this.#definitions(desired.prefetches, {
      workloads: desired.workloads ?? [],
      membership,
      tuning,
      jobs: () => this.#view.jobs,
    });
    await this.#number(desk.numbered(definitions));
    const { jobs, expired, nextAt } = await desk.work({
      definitions,
      generations: this.#generations,
      membership,
      workloads: desired.workloads,
      lookup: (node) => observed.get(node),
    });
    this.#publish(membership, tuning, jobs);
    this.#view = {
      membership,
      tuning,
      jobs,
      problems: [
        ...desired.problems,
        ...membership.problems,
        ...tuningProblems,
        ...poolProblems,
        ...jobProblems,
        ...[...jobs.values()].flatMap((job) =>
          job.problems.map((message) => ({ source: `prefetch ${job.id}`, message })),
        ),
        ...this.#diskProblems.values(),
      ],
    };
    this.#notices.tell([...tuningProblems, ...poolProblems]);
    this.#tell();
    teller.tell(jobs, new Set(desired.prefetches.map(({ id }) => id)), expired);
    this.#due(nextAt);
    this.#lastMs = this.#c.clock.mono() - startedAt;
  }

  #publish(
    membership: Membership,
    tuning: ReadonlyMap<PoolName, PoolTuning>,
    jobs: ReadonlyMap<string, PlannedJob>,
  ): void {
    const { publisher, trust } = this.#c;
    const wanted = new Set<string>();
    const set = (group: string, bodies: ReadonlyMap<string, object>): void => {
      wanted.add(group);
      publisher.set(group, bodies);
    };
    for (const [pool, members] of membership.pools) {
      if (trust !== undefined) {
        set(`pool ${pool} trust`, new Map([[topics.trust(pool), trust.trustOf(pool)]]));
      }
      // The roster before tuning: tuning names gateways by it, and jobs are fetched from its members.
      const shards = rosterOf(members);
      set(`pool ${pool} roster`, new Map(shards.map((each) => [topics.roster(pool, each.shard), each])));
      set(`pool ${pool} tuning`, new Map([[topics.tuning(pool), tuning.get(pool) ?? {}]]));
      const ids: string[] = [];
      for (const job of jobs.values()) {
        const message = job.messages.get(pool);
        // Listed also before it is told, as while tags are asked for: nodes that know it from before drop what is not listed.
        if (message !== undefined || job.standing?.has(pool) === true) ids.push(job.id);
        if (message === undefined) continue;
        set(`pool ${pool} prefetch ${job.id}`, new Map([[topics.prefetch(pool, job.id), message]]));
      }
      set(`pool ${pool} prefetches`, new Map([[topics.prefetchIndex(pool), { ids: ids.sort() }]]));
    }
    for (const group of [...publisher.groups()]) if (!wanted.has(group)) publisher.remove(group);
  }

  async #parseTuning(tuning: DesiredTuning | undefined): Promise<ParsedTuning> {
    if (this.#parsed !== undefined && sameTuning(this.#parsed.of, tuning)) return this.#parsed.result;
    const result = parseTuning(tuning, this.#texts);
    this.#parsed = { of: tuning, result };
    if (JSON.stringify(result.texts) !== JSON.stringify(this.#texts)) {
      this.#texts = result.texts;
      await this.#save('tuning', () => this.#textsFile.write({ ...result.texts }));
    }
    return result;
  }

  #definitions(
    documents: readonly DesiredPrefetch[],
    known: KnownState,
  ): {
    readonly definitions: readonly DesiredPrefetch[];
    readonly problems: readonly Problem[];
  } {
    const taken = new Set(documents.map(({ id }) => id));
    const doubled = this.#c.jobs.list().filter(({ id }) => taken.has(id));
    const written = [...documents, ...this.#c.jobs.list().filter(({ id }) => !taken.has(id))];
    const derived = (this.#c.derived ?? []).map((each) => each.jobs(known));
    const ids = new Set(written.map(({ id }) => id));
    return {
      definitions: [
        ...written,
        ...derived.flatMap((each) => each.definitions.filter(({ id }) => !ids.has(id))),
      ],
      problems: [
        ...derived.flatMap((each) => each.problems),
        ...this.#c.jobs.problems(),
        ...doubled.map(({ id, source }) => ({
          source,
          message: `a document of the same name (${documents.find((each) => each.id === id)?.source}) counts instead`,
        })),
      ],
    };
  }

  /** Numbers are on disk before agents see them: a number given twice would be a job that never runs. */
  async #number(definitions: readonly Numbered[]): Promise<void> {
    const next = numberJobs(this.#generations, definitions, this.#c.clock);
    if (JSON.stringify(next) === JSON.stringify(this.#generations)) return;
    this.#generations = next;
    await this.#save('prefetch numbers', () => this.#generationsFile.write(next));
  }

  async #save(what: string, write: () => Promise<void>): Promise<void> {
    try {
      await write();
      this.#diskProblems.delete(what);
    } catch (error) {
      // The hub goes on: what it publishes is right, only a restart may not know it.
      const message = `could not be saved: ${describeError(error)}`;
      this.#c.log.error({ what, err: error }, 'could not save');
      this.#diskProblems.set(what, { source: what, message });
    }
  }

  /** Some jobs change by the clock alone: a schedule, a deadline, a time to live. */
  #due(at: number | undefined): void {
    this.#cancelDue?.();
    const waitMs = at === undefined ? undefined : Math.max(0, at - this.#c.clock.now());
    this.#cancelDue = waitMs === undefined ? undefined : this.#c.clock.after(waitMs, () => this.mark());
  }

  /** Each problem is logged once, when it appears. */
  #tell(): void {
    const now = new Map(this.#view.problems.map((each) => [`${each.source} ${each.message}`, each]));
    for (const [key, { source, message }] of now) {
      if (!this.#told.has(key)) this.#c.log.warn({ source, problem: message }, 'problem');
    }
    this.#told = new Set(now.keys());
  }
}

function sameTuning(a: DesiredTuning | undefined, b: DesiredTuning | undefined): boolean {
  return a === b || (a?.source === b?.source && JSON.stringify(a?.data) === JSON.stringify(b?.data));
}
