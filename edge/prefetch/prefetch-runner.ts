import type { Clock } from '../../shared/clock.ts';
import { Slots } from '../../shared/flow/queue.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import {
  type PrefetchMessage,
  type PrefetchProgress,
  prefetchMessage,
  prefetchProgress,
} from '../../shared/wire/messages/prefetch.ts';
import type { DocumentTable } from '../index/types.ts';
import type { Content } from '../transfer/types.ts';
import type { AccountSource } from './accounts.ts';
import { MAX_JOBS, REPORT_MS, ROOM_TRIES, SAVE_MS } from './constants.ts';
import type { RuntimeImages } from './into-runtime.ts';
import { type Entry, isOver, isSame, newEntry } from './job-entry.ts';
import { JobRun } from './job-run.ts';
import type { KeptImage, KeptImages } from './kept-images.ts';
import type { Platform } from './platform.ts';
import { type DiskRoom, RoomWait } from './room-wait.ts';

export interface PrefetchRunnerComponents {
  readonly content: Pick<Content, 'manifest' | 'fill'>;
  readonly documents: DocumentTable;
  readonly clock: Clock;
  readonly log: Logger;
  /** When prefetches may run; always when left out. */
  readonly allowance?: {
    /** Why not now, for people. */
    closed(): string | undefined;
    onChange(listener: () => void): () => void;
  };
  /** Told at each change of a job's state, and every second while bytes move. */
  readonly report: (progress: PrefetchProgress) => void;
  /** Where images go once the store has them; absent: nowhere else. */
  readonly runtime?: RuntimeImages | undefined;
  /** For private images; absent: this node gets no accounts. */
  readonly accounts?: AccountSource | undefined;
  /** What stays when the jobs are gone; absent: nothing does. */
  readonly kept?: Pick<KeptImages, 'keep' | 'change' | 'forget' | 'images'> | undefined;
  /** Absent: a job that found the disk full is not run again. */
  readonly room?: DiskRoom | undefined;
}

export interface PrefetchRunnerInit {
  readonly node: NodeName;
  readonly platform: Platform;
  readonly concurrency?: number;
  /** In [0, 1), for jitter; default Math.random. */
  readonly random?: () => number;
}

const PREFIX = 'prefetch-run/';
const DEFAULT_CONCURRENCY = 2;

/**
 * Runs the pool's prefetch jobs on this node: each (id, generation) once, however often it is announced and however often
 * the agent restarts in between. Jobs and how far they are live in the index.
 */
export class PrefetchRunner implements Startable {
  readonly name = 'prefetch';
  readonly #c: PrefetchRunnerComponents;
  readonly #init: PrefetchRunnerInit;
  readonly #slots: Slots;
  readonly #entries = new Map<string, Entry>();
  /** Runs that were called off and have not ended yet. */
  readonly #ending = new Set<Promise<void>>();
  #started = false;
  #unsubscribe: (() => void) | undefined;

  constructor(components: PrefetchRunnerComponents, init: PrefetchRunnerInit) {
    this.#c = components;
    this.#init = init;
    this.#slots = new Slots(init.concurrency ?? DEFAULT_CONCURRENCY);
    this.#restore();
  }

  async start(): Promise<void> {
    this.#started = true;
    this.#unsubscribe = this.#c.allowance?.onChange(() => this.#turn());
    for (const entry of this.#entries.values()) {
      this.#begin(entry);
      this.#awaitRoom(entry);
    }
  }

  async stop(): Promise<void> {
    this.#started = false;
    this.#unsubscribe?.();
    for (const entry of this.#entries.values()) {
      entry.roomWait?.end();
      entry.roomWait = undefined;
      this.#callOff(entry);
    }
    await Promise.all(this.#ending);
    for (const entry of this.#entries.values()) this.#save(entry);
  }

  /** Images at a time, over all jobs. */
  setConcurrency(images: number): void {
    this.#slots.setLimit(images);
  }

  /** All jobs of the pool as they stand now: what is not among them ends and is forgotten. */
  setJobs(jobs: readonly PrefetchMessage[]): void {
    const mine = jobs.filter((job) => {
      const known = this.#entries.get(job.id);
      // Before its turn a node keeps what it did when the hub, whose data is lost by now, gave it that turn.
      const isBefore = job.more === true && known !== undefined && isSame(known.job, job);
      return isBefore || job.nodes === undefined || job.nodes.includes(this.#init.node);
    });
    const ids = new Set(mine.map((job) => job.id));
    for (const id of [...this.#entries.keys()]) if (!ids.has(id)) this.#drop(id);
    for (const job of mine) this.#set(job);
  }

  /** What its jobs are to bring here, and to keep here while they stand, or for the time that they say. */
  images(): readonly KeptImage[] {
    const { kept } = this.#c;
    const standing = [...this.#entries.values()].flatMap(({ job, progress }): readonly KeptImage[] => {
      const itsTimeRuns = job.retainMs !== undefined && progress.state === 'succeeded';
      return kept !== undefined && itsTimeRuns ? [] : job.images;
    });
    return [...standing, ...(kept?.images() ?? [])];
  }

  /** How far each job is, for reports and people. */
  progress(): PrefetchProgress[] {
    return [...this.#entries.values()].map((entry) => entry.progress);
  }

  #set(job: PrefetchMessage): void {
    const known = this.#entries.get(job.id);
    this.#retain(job, known);
    if (known !== undefined && isSame(known.job, job)) {
      const isNews = this.#renumber(known, job) || known.job.retainMs !== job.retainMs;
      known.job = job;
      if (isNews) this.#save(known);
      if (job.suspend) this.#callOff(known);
      else this.#begin(known);
      return;
    }
    if (known === undefined && this.#entries.size >= MAX_JOBS) {
      this.#c.log.warn({ id: job.id, jobs: MAX_JOBS }, 'too many prefetch jobs; this one is left out');
      return;
    }
    if (known !== undefined) this.#drop(job.id);
    const entry = newEntry(job, {
      id: job.id,
      generation: job.generation,
      ...(job.work === undefined ? {} : { work: job.work }),
      state: 'waiting',
      totalBytes: 0,
      doneBytes: 0,
      wanBytes: 0,
      peerBytes: 0,
    });
    this.#entries.set(job.id, entry);
    this.#save(entry);
    this.#report(entry);
    this.#begin(entry);
  }

  /** The hub calls the same work otherwise: what is done of it stays done, and is told under the new number. */
  #renumber(entry: Entry, { generation, work }: PrefetchMessage): boolean {
    const { progress } = entry;
    if (progress.generation === generation && progress.work === work) return false;
    if (progress.generation !== generation) this.#callOff(entry);
    const { work: _, ...rest } = entry.progress;
    entry.progress = { ...rest, generation, ...(work === undefined ? {} : { work }) };
    this.#report(entry);
    return true;
  }

  /** How long a job's images stay may change while it stands, and after they came. */
  #retain(job: PrefetchMessage, known: Entry | undefined): void {
    const { kept } = this.#c;
    const { id, images, retainMs } = job;
    // Without a time of their own they stay while the job stands, and nothing outlives it.
    if (retainMs === undefined) kept?.forget(id);
    else if (known !== undefined && isSame(known.job, job) && known.job.retainMs !== retainMs) {
      const isHere = known.progress.state === 'succeeded';
      if (isHere && kept?.change(id, retainMs) !== true) kept?.keep(id, images, retainMs);
    }
  }

  /** A job that found the disk full is run again when there is room for what it lacks. */
  #awaitRoom(entry: Entry): void {
    const { room, clock, log } = this.#c;
    const { progress, job } = entry;
    if (room === undefined || !this.#started || entry.roomWait !== undefined) return;
    if (progress.state !== 'failed' || progress.error?.code !== 'STORE_FULL') return;
    if (entry.roomTries >= ROOM_TRIES) return;
    const random = this.#init.random ?? Math.random;
    entry.roomWait = new RoomWait(
      { clock, log, random, room },
      {
        bytes: Math.max(1, progress.totalBytes - progress.doneBytes),
        afterTries: entry.roomTries,
        onRoom: () => {
          entry.roomWait = undefined;
          entry.roomTries++;
          log.info(
            { id: job.id, tries: entry.roomTries },
            'there is room again for a prefetch that found none',
          );
          const { error: _, ...rest } = entry.progress;
          entry.before = entry.run?.handOver() ?? entry.before ?? entry.progress;
          entry.run = undefined;
          entry.progress = { ...rest, state: 'waiting' };
          this.#save(entry);
          this.#begin(entry);
        },
      },
    );
  }

  #begin(entry: Entry): void {
    if (!this.#started || entry.job.suspend || isOver(entry.progress.state)) return;
    const closed = this.#c.allowance?.closed();
    if (closed !== undefined) {
      this.#hold(entry, closed);
      return;
    }
    const { waitingFor: _, ...progress } = entry.progress;
    entry.progress = progress;
    const { content, clock, log, runtime, accounts, room } = this.#c;
    entry.run ??= new JobRun(
      {
        content,
        clock,
        log,
        runtime,
        accounts,
        free: room && (() => room.free()),
        slots: this.#slots,
        random: this.#init.random ?? Math.random,
      },
      {
        job: entry.job,
        platform: this.#init.platform,
        before: entry.before ?? entry.progress,
        onChange: (run) => this.#changed(entry, run),
      },
    );
    entry.before = undefined;
    entry.run.run();
  }

  /** A window has opened, or closed: then what runs is called off, and its clock stands still until the next one. */
  #turn(): void {
    const closed = this.#c.allowance?.closed() !== undefined;
    for (const entry of this.#entries.values()) {
      if (closed) this.#callOff(entry);
      this.#begin(entry);
    }
  }

  /** The job waits, and says what for. */
  #hold(entry: Entry, waitingFor: string): void {
    if (entry.progress.waitingFor === waitingFor) return;
    entry.progress = { ...entry.progress, state: 'waiting', waitingFor };
    this.#save(entry);
    this.#report(entry);
  }

  #callOff(entry: Entry): void {
    const { run } = entry;
    if (run === undefined || isOver(entry.progress.state)) return;
    // A run that has been called off is not taken up again: the next one counts on from it.
    const ending: Promise<void> = run.callOff().then(() => {
      this.#ending.delete(ending);
    });
    this.#ending.add(ending);
    entry.cancelReport?.();
    entry.cancelReport = undefined;
    entry.progress = { ...run.progress(), state: 'waiting' };
    entry.run = undefined;
    entry.before = run.handOver();
    this.#save(entry);
    this.#report(entry);
  }

  #drop(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    entry.roomWait?.end();
    this.#callOff(entry);
    this.#entries.delete(id);
    this.#c.documents.delete(PREFIX + id);
  }

  #changed(entry: Entry, run: JobRun): void {
    if (entry.run !== run) return;
    const before = entry.progress;
    entry.progress = run.progress();
    const now = this.#c.clock.mono();
    const turned =
      before.state !== entry.progress.state || before.error?.message !== entry.progress.error?.message;
    const { retainMs } = entry.job;
    // Noted before the job is known to be through: a crash in between brings it here once more, and keeps it.
    if (turned && entry.progress.state === 'succeeded' && retainMs !== undefined) {
      this.#c.kept?.keep(entry.job.id, run.came(), retainMs);
    }
    if (turned || now - entry.savedAt >= SAVE_MS) this.#save(entry);
    if (turned || now - entry.reportedAt >= REPORT_MS) this.#report(entry);
    else {
      entry.cancelReport ??= this.#c.clock.after(REPORT_MS - (now - entry.reportedAt), () =>
        this.#report(entry),
      );
    }
    if (turned && isOver(entry.progress.state)) {
      this.#c.log.info({ prefetch: entry.progress }, `prefetch ${entry.progress.state}`);
      this.#awaitRoom(entry);
    }
  }

  #report(entry: Entry): void {
    entry.cancelReport?.();
    entry.cancelReport = undefined;
    entry.reportedAt = this.#c.clock.mono();
    this.#c.report(entry.progress);
  }

  #save(entry: Entry): void {
    entry.savedAt = this.#c.clock.mono();
    const { job, progress, roomTries } = entry;
    this.#c.documents.put(PREFIX + job.id, { job, progress, ...(roomTries === 0 ? {} : { roomTries }) });
  }

  #restore(): void {
    for (const { name, value } of this.#c.documents.list(PREFIX)) {
      const saved = typeof value === 'object' && value !== null ? value : {};
      const job = prefetchMessage.safeParse('job' in saved ? saved.job : undefined);
      const progress = prefetchProgress.safeParse('progress' in saved ? saved.progress : undefined);
      if (job.success && progress.success) {
        const tries = 'roomTries' in saved && typeof saved.roomTries === 'number' ? saved.roomTries : 0;
        this.#entries.set(job.data.id, newEntry(job.data, progress.data, tries));
      } else {
        this.#c.log.warn({ name }, 'a saved prefetch job cannot be read; it runs anew when the hub names it');
        this.#c.documents.delete(name);
      }
    }
  }
}
