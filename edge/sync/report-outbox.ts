import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { encode } from '../../shared/wire/messages/codec.ts';
import type { PrefetchProgress } from '../../shared/wire/messages/prefetch.ts';
import type { NodeCounters, ReportMessage, RuntimeReport } from '../../shared/wire/messages/report.ts';
import { MAX_MESSAGE_BYTES } from '../../shared/wire/topics.ts';
import { EVENT_BYTES, MAX_JOBS, REPORT_INTERVAL_MS } from './constants.ts';
import type { EventOutbox } from './events.ts';

/** Room for the fields around the list of prefetches. */
const HEAD_BYTES = 9_216;

/** What a node reports; fields left out have not changed. */
export interface PartialReport {
  readonly tuningHash?: string | undefined;
  readonly tuningProblems?: readonly string[] | undefined;
  readonly counters?: NodeCounters | undefined;
  readonly prefetches?: readonly PrefetchProgress[] | undefined;
  readonly runtime?: RuntimeReport | undefined;
}

export interface ReportOutboxInit {
  readonly node: NodeName;
  readonly bootId: string;
  readonly intervalMs?: number;
}

export interface ReportOutboxComponents {
  readonly clock: Clock;
  readonly log: Logger;
  /** Resolves once the broker has it; rejects without a connection. */
  readonly publish: (payload: Buffer) => Promise<void>;
  /** What happened on the node, told along. */
  readonly events?: Pick<EventOutbox, 'hasNews' | 'next' | 'resume' | 'close'> | undefined;
}

/**
 * The node's state as the hub shall know it, and which part of it the hub has not been told. Only the latest state is
 * kept, so nothing grows while the hub is away, and one report tells all when it is back.
 */
export class ReportOutbox {
  readonly #c: ReportOutboxComponents;
  readonly #init: ReportOutboxInit;
  readonly #prefetches = new Map<string, PrefetchProgress>();
  readonly #dirty = new Set<string>();
  #tuningHash: string | undefined;
  #tuningProblems: readonly string[] = [];
  #counters: NodeCounters | undefined;
  #runtime: RuntimeReport | undefined;
  #headDirty = false;
  #full = false;
  #open = false;
  #inFlight = false;
  #seq = 0;
  #sentAt = Number.NEGATIVE_INFINITY;
  #cancelTimer: (() => void) | undefined;

  constructor(components: ReportOutboxComponents, init: ReportOutboxInit) {
    this.#c = components;
    this.#init = init;
  }

  /** Never throws and never waits: what cannot be said now is said later. */
  report({ tuningHash, tuningProblems, counters, runtime, prefetches = [] }: PartialReport): void {
    if (tuningHash !== undefined && tuningHash !== this.#tuningHash) {
      this.#tuningHash = tuningHash;
      this.#headDirty = true;
    }
    if (
      tuningProblems !== undefined &&
      JSON.stringify(tuningProblems) !== JSON.stringify(this.#tuningProblems)
    ) {
      this.#tuningProblems = tuningProblems;
      this.#headDirty = true;
    }
    if (counters !== undefined && JSON.stringify(counters) !== JSON.stringify(this.#counters)) {
      this.#counters = counters;
      this.#headDirty = true;
    }
    if (runtime !== undefined && JSON.stringify(runtime) !== JSON.stringify(this.#runtime)) {
      this.#runtime = runtime;
      this.#headDirty = true;
    }
    for (const progress of prefetches) {
      // Last reported goes to the end, so that the bound drops what has been quiet longest.
      this.#prefetches.delete(progress.id);
      this.#prefetches.set(progress.id, progress);
      this.#dirty.add(progress.id);
    }
    while (this.#prefetches.size > MAX_JOBS) {
      const oldest = this.#prefetches.keys().next();
      if (oldest.done === true) break;
      this.#prefetches.delete(oldest.value);
      this.#dirty.delete(oldest.value);
    }
    this.#schedule();
  }

  /** Jobs that are no more are not reported again. */
  keepOnly(ids: ReadonlySet<string>): void {
    for (const id of [...this.#prefetches.keys()]) {
      if (ids.has(id)) continue;
      this.#prefetches.delete(id);
      this.#dirty.delete(id);
    }
  }

  /** The hub needs everything: a new connection, a new hub, or one that missed something. */
  resync(): void {
    this.#open = true;
    this.#full = true;
    this.#c.events?.resume();
    this.#schedule();
  }

  /** There may be events to tell. */
  wake(): void {
    this.#schedule();
  }

  close(): void {
    this.#open = false;
    this.#c.events?.close();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #schedule(): void {
    if (!this.#open || this.#inFlight || this.#cancelTimer !== undefined) return;
    if (!this.#full && !this.#headDirty && this.#dirty.size === 0 && this.#c.events?.hasNews !== true) return;
    const waitMs = this.#sentAt + (this.#init.intervalMs ?? REPORT_INTERVAL_MS) - this.#c.clock.mono();
    if (waitMs <= 0) {
      this.#send();
      return;
    }
    this.#cancelTimer = this.#c.clock.after(waitMs, () => {
      this.#cancelTimer = undefined;
      if (this.#open && !this.#inFlight) this.#send();
    });
  }

  #send(): void {
    const full = this.#full;
    if (full) for (const id of this.#prefetches.keys()) this.#dirty.add(id);
    const events = this.#c.events?.next() ?? [];
    const prefetches = this.#nextPrefetches(events.length === 0 ? HEAD_BYTES : HEAD_BYTES + EVENT_BYTES);
    const { clock, log, publish } = this.#c;
    const message: ReportMessage = {
      node: this.#init.node,
      bootId: this.#init.bootId,
      seq: ++this.#seq,
      at: clock.now(),
      full,
      prefetches,
      ...(this.#tuningHash === undefined ? {} : { tuningHash: this.#tuningHash }),
      tuningProblems: [...this.#tuningProblems],
      ...(this.#counters === undefined ? {} : { counters: this.#counters }),
      ...(this.#runtime === undefined ? {} : { runtime: this.#runtime }),
      ...(events.length === 0 ? {} : { events: [...events] }),
    };
    this.#full = false;
    this.#headDirty = false;
    this.#inFlight = true;
    this.#sentAt = clock.mono();
    publish(encode(message)).then(
      () => this.#settled(),
      (error: unknown) => {
        log.debug({ reason: describeError(error) }, 'report not delivered');
        // Whether it arrived is unknown. The next one tells everything, so it does not matter.
        this.#full = true;
        this.#settled();
      },
    );
  }

  #settled(): void {
    this.#inFlight = false;
    this.#schedule();
  }

  /** As many as fit; the others stay for the next report. */
  #nextPrefetches(taken: number): PrefetchProgress[] {
    const chosen: PrefetchProgress[] = [];
    let bytes = taken;
    for (const id of this.#dirty) {
      const progress = this.#prefetches.get(id);
      if (progress !== undefined) {
        bytes += encode(progress).length + 1;
        if (bytes > MAX_MESSAGE_BYTES && chosen.length > 0) break;
        chosen.push(progress);
      }
      this.#dirty.delete(id);
    }
    return chosen;
  }
}
