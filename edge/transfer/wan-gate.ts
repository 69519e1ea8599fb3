import type { Clock } from '../../shared/clock.ts';
import { Slots } from '../../shared/flow/queue.ts';
import { TokenBucket } from '../../shared/flow/token-bucket.ts';
import { PRIORITY } from './types.ts';

interface WanGateInit {
  readonly connections: number;
}

/** Rates in bytes a second; undefined is no cap. */
export interface WanRates {
  readonly all: number | undefined;
  readonly prefetch: number | undefined;
}

/** One read of a prefetch: what it moves is counted, and what it does not need any more is given back at its end. */
export interface PrefetchPass {
  spend(bytes: number): void;
  end(): void;
}

/** Says whether a prefetch may read from beyond the pool now: windows and daily budgets. */
export interface PrefetchGuard {
  /** Sets `bytes` aside for one read. @throws TidepoolError OVERLOADED, with detail `prefetch`, when it may not be */
  begin(bytes: number): PrefetchPass;
}

const FREE: PrefetchPass = { spend: () => undefined, end: () => undefined };

/**
 * All that this node reads from beyond its pool passes here: connections are counted and bytes are paid for, on-demand
 * work first. Reading from neighbours has no part in it, so the two can never wait for each other.
 */
export class WanGate {
  readonly #slots: Slots;
  readonly #all: TokenBucket;
  readonly #prefetch: TokenBucket;
  readonly #clock: Clock;
  #lastWanted: number | undefined;
  #lastWantedPrefetch: number | undefined;
  #onWant: (() => void) | undefined;
  #guard: PrefetchGuard | undefined;

  constructor(components: { clock: Clock }, init: WanGateInit) {
    this.#clock = components.clock;
    this.#slots = new Slots(init.connections);
    this.#all = new TokenBucket(components.clock, undefined);
    this.#prefetch = new TokenBucket(components.clock, undefined);
  }

  setConnections(connections: number): void {
    this.#slots.setLimit(connections);
  }

  setRates(rates: WanRates): void {
    this.#all.setRate(rates.all);
    this.#prefetch.setRate(rates.prefetch);
  }

  get rates(): WanRates {
    return { all: this.#all.rate, prefetch: this.#prefetch.rate };
  }

  setPrefetchGuard(guard: PrefetchGuard): void {
    this.#guard = guard;
  }

  /**
   * Before `bytes` are read: work that somebody waits for always may be.
   * @throws TidepoolError OVERLOADED when a prefetch has to wait for its window, or for another day
   */
  pass(bytes: number, priority: number): PrefetchPass {
    return priority < PRIORITY.prefetch ? FREE : (this.#guard?.begin(bytes) ?? FREE);
  }

  /** Told when bytes are wanted after a pause: the moment to ask for a lease. */
  onWant(listener: () => void): void {
    this.#onWant = listener;
  }

  /** Whether bytes were wanted within the last `withinMs`. */
  wanted(withinMs: number): { all: boolean; prefetch: boolean } {
    const now = this.#clock.mono();
    const recent = (at: number | undefined): boolean => at !== undefined && now - at <= withinMs;
    return { all: recent(this.#lastWanted), prefetch: recent(this.#lastWantedPrefetch) };
  }

  /** @param order lower goes first: priority class, then place in the blob */
  slot(order: number, signal: AbortSignal): Promise<() => void> {
    this.#want(order >= orderOf(PRIORITY.prefetch, 0));
    return this.#slots.acquire({ priority: order, signal });
  }

  /** Resolves once `bytes` may be read on. */
  async take(bytes: number, priority: number, signal: AbortSignal): Promise<void> {
    this.#want(priority >= PRIORITY.prefetch);
    if (priority >= PRIORITY.prefetch && this.#prefetch.rate !== undefined) {
      await this.#prefetch.take(bytes, { priority, signal });
    }
    if (this.#all.rate !== undefined) await this.#all.take(bytes, { priority, signal });
  }

  #want(prefetch: boolean): void {
    const now = this.#clock.mono();
    const fresh = this.#lastWanted === undefined || now - this.#lastWanted > 1_000;
    this.#lastWanted = now;
    if (prefetch) this.#lastWantedPrefetch = now;
    if (fresh) this.#onWant?.();
  }
}

/** One number that sorts work: class first, then place in its blob. */
export function orderOf(priority: number, piece: number): number {
  return priority * 1e7 + piece;
}
