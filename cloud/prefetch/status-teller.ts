import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import type { Feedback, PrefetchStatus, StatusCondition } from '../desired/types.ts';
import type { JobStore } from './job-store.ts';
import type { PlannedJob } from './plan.ts';

/** Bytes alone are told at most this often. */
const BYTES_MS = 2_000;
/** A removal that has not come about is asked for again. */
const REMOVE_MS = 60_000;
/** Passing states of every job; an Event each would bury the ones that matter. */
const QUIET = new Set(['ResolvingTags', 'ReadingManifests', 'NodesOffline', 'UpToDate']);

export interface StatusTellerComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly jobs: JobStore;
  readonly feedback?: Feedback | undefined;
}

/** Tells whoever wrote a job how it stands, when that has changed; takes finished jobs away when their time is over. */
export class StatusTeller {
  readonly #c: StatusTellerComponents;
  readonly #onDue: () => void;
  readonly #told = new Map<string, { readonly text: string; readonly still: string; readonly at: number }>();
  readonly #conditions = new Map<string, readonly StatusCondition[]>();
  readonly #removals = new Map<string, number>();
  #cancelDue: (() => void) | undefined;

  constructor(components: StatusTellerComponents, init: { readonly onDue: () => void }) {
    this.#c = components;
    this.#onDue = init.onDue;
  }

  /**
   * @param documented jobs that somebody wrote down; the others have nobody to tell, who asks sees them at the API
   * @param expired jobs to take away
   */
  tell(
    jobs: ReadonlyMap<string, PlannedJob>,
    documented: ReadonlySet<string>,
    expired: readonly string[],
  ): void {
    for (const { id, status } of jobs.values()) {
      if (documented.has(id) && status !== undefined) this.#tellOne(id, status);
    }
    for (const map of [this.#told, this.#conditions, this.#removals]) {
      for (const id of [...map.keys()]) if (!jobs.has(id)) map.delete(id);
    }
    for (const id of expired) this.#remove(id);
  }

  stop(): void {
    this.#cancelDue?.();
    this.#cancelDue = undefined;
    // Another term, or another hub meanwhile, may have said something else.
    this.#told.clear();
  }

  #tellOne(id: string, status: PrefetchStatus): void {
    const { feedback, clock } = this.#c;
    if (feedback === undefined) return;
    const text = JSON.stringify(status);
    const still = JSON.stringify({
      ...status,
      bytes: 0,
      pools: status.pools.map((row) => ({ ...row, bytes: 0 })),
    });
    const before = this.#told.get(id);
    const now = clock.mono();
    if (before?.text === text) return;
    if (before?.still === still && now - before.at < BYTES_MS) {
      this.#cancelDue ??= clock.after(BYTES_MS - (now - before.at), () => {
        this.#cancelDue = undefined;
        this.#onDue();
      });
      return;
    }
    this.#told.set(id, { text, still, at: now });
    feedback.prefetchStatus(id, status);
    this.#notice(id, status.conditions);
  }

  #notice(id: string, conditions: readonly StatusCondition[]): void {
    const before = this.#conditions.get(id);
    this.#conditions.set(id, conditions);
    for (const { type, status, reason, message } of conditions) {
      const known = before?.find((each) => each.type === type);
      if (status !== 'True' || QUIET.has(reason)) continue;
      if (known?.status === status && known.reason === reason) continue;
      const bad = type === 'Failed' || (type === 'Waiting' && reason !== 'Scheduled');
      this.#c.feedback?.notice(
        { kind: 'ImagePrefetch', name: id },
        bad ? 'Warning' : 'Normal',
        reason,
        message,
      );
    }
  }

  #remove(id: string): void {
    const { clock, jobs, feedback, log } = this.#c;
    const now = clock.mono();
    if (now - (this.#removals.get(id) ?? Number.NEGATIVE_INFINITY) < REMOVE_MS) return;
    this.#removals.set(id, now);
    log.info({ id }, 'a finished prefetch is taken away: its time to live is over');
    if (!jobs.has(id)) {
      feedback?.removePrefetch(id);
      return;
    }
    jobs.remove(id).catch((error: unknown) => {
      log.error({ id, reason: describeError(error) }, 'could not take a finished prefetch away');
    });
  }
}
