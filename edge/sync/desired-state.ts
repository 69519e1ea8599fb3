import * as z from 'zod';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import {
  type PrefetchIndexMessage,
  type PrefetchMessage,
  prefetchMessage,
} from '../../shared/wire/messages/prefetch.ts';
import { type RosterMessage, rosterNode } from '../../shared/wire/messages/roster.ts';
import { type TuningMessage, tuningMessage } from '../../shared/wire/messages/tuning.ts';
import type { DocumentTable } from '../index/types.ts';
import { pinsOf, type TagPin } from '../transfer/tags.ts';
import type { Bootstrap } from './bootstrap.ts';
import { MAX_JOBS } from './constants.ts';
import { Listeners } from './listeners.ts';
import { type Roster, RosterAssembly } from './roster-assembly.ts';

const NAMES = {
  epoch: 'sync/epoch',
  pool: 'sync/pool',
  roster: 'sync/roster',
  tuning: 'sync/tuning',
  jobs: 'sync/job/',
} as const;

const storedEpoch = z.number().int().nonnegative();
const storedRoster = z.object({ epoch: z.number(), version: z.number(), nodes: z.array(rosterNode) });

/**
 * What the hub said last, kept on the node: an agent that starts without its hub works by it. What is older than what is
 * known is refused, by the hub's epoch and then by version.
 */
export class DesiredState {
  readonly #documents: DocumentTable;
  readonly #log: Logger;
  readonly #node: NodeName;
  readonly #assembly = new RosterAssembly();
  readonly #rosterListeners: Listeners<Roster>;
  readonly #tuningListeners: Listeners<TuningMessage>;
  readonly #jobListeners: Listeners<readonly PrefetchMessage[]>;
  readonly #pinListeners: Listeners<readonly TagPin[]>;
  readonly #jobs = new Map<string, PrefetchMessage>();
  /** Kept: each change of one job tells those of all. */
  readonly #pinsOf = new WeakMap<PrefetchMessage, readonly TagPin[]>();
  /** Jobs that the broker has sent on this connection; only an empty message takes such a one back. */
  readonly #confirmed = new Set<string>();
  /** Since the last start the node came from another pool: jobs of that one are none of its any more. */
  #moved = false;
  #epoch = 0;
  /** The last list of jobs: what it names was not taken back. */
  #index: PrefetchIndexMessage | undefined;
  #roster: Roster | undefined;
  #tuning: TuningMessage | undefined;

  constructor(
    components: { readonly documents: DocumentTable; readonly log: Logger },
    init: { readonly node: NodeName; readonly pool: PoolName },
  ) {
    this.#documents = components.documents;
    this.#log = components.log;
    this.#node = init.node;
    this.#rosterListeners = new Listeners(components, 'roster');
    this.#tuningListeners = new Listeners(components, 'tuning');
    this.#jobListeners = new Listeners(components, 'prefetch jobs');
    this.#pinListeners = new Listeners(components, 'pinned tags');
    this.#dropOtherPool(init.pool);
    this.#restore();
  }

  /** Highest epoch of a hub that was heard. */
  get epoch(): number {
    return this.#epoch;
  }

  onRoster(listener: (roster: Roster) => void): () => void {
    return this.#rosterListeners.add(listener, this.#roster);
  }

  onTuning(listener: (tuning: TuningMessage) => void): () => void {
    return this.#tuningListeners.add(listener, this.#tuning);
  }

  /** Told all jobs of this node, whenever one changes; not before any is known, for silence is no order to drop them. */
  onPrefetch(listener: (jobs: readonly PrefetchMessage[]) => void): () => void {
    return this.#jobListeners.add(listener, this.#jobs.size > 0 || this.#moved ? this.#ownJobs() : undefined);
  }

  /** Told what all jobs of the pool say of tags, those that other nodes run among them. */
  onPins(listener: (pins: readonly TagPin[]) => void): () => void {
    return this.#pinListeners.add(listener, this.#pins());
  }

  /** A new connection: the broker sends again what it retains. */
  beginSession(): void {
    this.#confirmed.clear();
  }

  /** True when this is news of a hub that was not heard before. @throws TidepoolError INVALID_ARGUMENT when it is older */
  setEpoch(epoch: number): boolean {
    if (epoch < this.#epoch) {
      throw new TidepoolError('INVALID_ARGUMENT', `epoch ${epoch} is over, ${this.#epoch} was heard already`);
    }
    if (epoch === this.#epoch) return false;
    this.#epoch = epoch;
    this.#keep(NAMES.epoch, epoch);
    return true;
  }

  /**
   * What a file says of all of it; checked by the caller. True when anything of it is newer than what is known.
   * @throws TidepoolError INVALID_ARGUMENT when it is of an epoch that is over
   */
  take({ epoch, shards, tuning, jobs, index }: Bootstrap): boolean {
    const before = this.#versions();
    this.setEpoch(epoch);
    for (const shard of shards) this.addRosterShard(shard);
    if (tuning !== undefined) this.setTuning(tuning);
    for (const job of jobs) this.setJob(job);
    if (index !== undefined) this.setJobIndex(index);
    // Whatever was not in the file may be gone by the time that the hub is heard.
    this.beginSession();
    return !same(before, this.#versions());
  }

  #versions(): unknown {
    const of = (each: Versioned | undefined) => [each?.epoch, each?.version];
    const jobs = [...this.#jobs.values()].map(({ id, epoch, version, generation }) => [
      ...[id, epoch, version, generation],
    ]);
    return [this.#epoch, of(this.#roster), of(this.#tuning), jobs];
  }

  setTuning(message: TuningMessage): void {
    this.setEpoch(message.epoch);
    const before = this.#tuning;
    if (before !== undefined && !isNewer(message, before)) return;
    this.#tuning = message;
    this.#keep(NAMES.tuning, message);
    if (before?.hash !== message.hash) this.#tuningListeners.tell(message);
  }

  addRosterShard(message: RosterMessage): void {
    this.setEpoch(message.epoch);
    const roster = this.#assembly.add(message);
    const before = this.#roster;
    if (roster === undefined || (before !== undefined && !isNewer(roster, before))) return;
    this.#roster = roster;
    this.#keep(NAMES.roster, roster);
    if (!same(before?.nodes, roster.nodes)) this.#rosterListeners.tell(roster);
  }

  setJob(message: PrefetchMessage): void {
    this.setEpoch(message.epoch);
    const { id, epoch, version = 0 } = message;
    const before = this.#jobs.get(id);
    if (
      before !== undefined &&
      isNewer({ epoch: before.epoch, version: before.version ?? 0 }, { epoch, version })
    )
      return;
    if (before === undefined && this.#jobs.size >= MAX_JOBS) {
      throw new TidepoolError('OVERLOADED', `${MAX_JOBS} prefetch jobs are known already, ${id} is left out`);
    }
    this.#confirmed.add(id);
    if (same(before, message)) return;
    this.#jobs.set(id, message);
    this.#keep(`${NAMES.jobs}${id}`, message);
    // A new number of the publication is no news of the job.
    const said = { epoch: 0, version: 0 };
    if (!same({ ...before, ...said }, { ...message, ...said })) this.#tellJobs();
  }

  removeJob(id: string): void {
    if (this.#forget(id)) this.#tellJobs();
  }

  /**
   * A job's topic was cleared, and nobody can sign nothing: the job goes when a signed list leaves it out, be that the
   * last one or the next.
   */
  doubtJob(id: string): void {
    this.#confirmed.delete(id);
    if (this.#index !== undefined && !this.#index.ids.includes(id)) this.removeJob(id);
  }

  /**
   * Drops jobs that were taken back while this node was away. A job that came on this connection stays: it may be newer
   * than the list.
   */
  setJobIndex(message: PrefetchIndexMessage): void {
    this.setEpoch(message.epoch);
    if (this.#index !== undefined && isNewer(this.#index, message)) return;
    this.#index = message;
    const listed = new Set(message.ids);
    const gone = [...this.#jobs.keys()].filter((id) => !listed.has(id) && !this.#confirmed.has(id));
    for (const id of gone) this.#forget(id);
    if (gone.length > 0) this.#tellJobs();
  }

  #forget(id: string): boolean {
    this.#confirmed.delete(id);
    if (!this.#jobs.delete(id)) return false;
    this.#documents.delete(`${NAMES.jobs}${id}`);
    return true;
  }

  #tellJobs(): void {
    this.#jobListeners.tell(this.#ownJobs());
    this.#pinListeners.tell(this.#pins());
  }

  #pins(): readonly TagPin[] {
    return [...this.#jobs.values()].flatMap((job) => {
      const pins = this.#pinsOf.get(job) ?? pinsOf([job]);
      this.#pinsOf.set(job, pins);
      return pins;
    });
  }

  #ownJobs(): readonly PrefetchMessage[] {
    return [...this.#jobs.values()].filter(
      ({ nodes, more }) => nodes === undefined || more === true || nodes.includes(this.#node),
    );
  }

  /** What the hub says counts also where the disk is full; it is only not there after a restart. */
  #keep(name: string, value: unknown): void {
    try {
      this.#documents.put(name, value);
    } catch (error) {
      this.#log.error({ name, err: error }, 'what the hub says could not be kept');
    }
  }

  /** What was said to another pool is no news of this one, however its numbers compare. */
  #dropOtherPool(pool: PoolName): void {
    const before = this.#documents.get(NAMES.pool);
    if (before === pool) return;
    if (before !== undefined) {
      const jobs = this.#documents.list(NAMES.jobs).map(({ name }) => name);
      this.#moved = true;
      for (const name of [NAMES.roster, NAMES.tuning, ...jobs]) this.#documents.delete(name);
    }
    this.#keep(NAMES.pool, pool);
  }

  /** A document that a later version wrote otherwise is left out: the hub says it again. */
  #restore(): void {
    this.#epoch = this.#read(NAMES.epoch, storedEpoch) ?? 0;
    this.#roster = this.#read(NAMES.roster, storedRoster);
    this.#tuning = this.#read(NAMES.tuning, tuningMessage);
    for (const { name, value } of this.#documents.list(NAMES.jobs)) {
      const job = this.#checked(name, prefetchMessage, value);
      if (job !== undefined) this.#jobs.set(job.id, job);
    }
  }

  #read<T>(name: string, schema: z.ZodType<T>): T | undefined {
    const value = this.#documents.get(name);
    return value === undefined ? undefined : this.#checked(name, schema, value);
  }

  #checked<T>(name: string, schema: z.ZodType<T>, value: unknown): T | undefined {
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    this.#log.warn(
      { name, reason: describeError(result.error) },
      'a kept document cannot be read and is left out',
    );
    return undefined;
  }
}

interface Versioned {
  readonly epoch: number;
  readonly version: number;
}

function isNewer(a: Versioned, b: Versioned): boolean {
  return a.epoch > b.epoch || (a.epoch === b.epoch && a.version > b.version);
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
