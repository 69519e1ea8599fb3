import type { Clock } from '../../shared/clock.ts';

export interface FloodLimits {
  readonly perSecond: number;
  /** What may come at once after a pause. */
  readonly burst: number;
  /** How many may wait; one more is too much. */
  readonly waiting: number;
  /** How long somebody may be at the limit before that is no burst any more. */
  readonly patienceMs: number;
}

/** Slows whoever sends too much, and tells when slowing does not help. */
export class FloodGuard {
  readonly #clock: Clock;
  readonly #limits: FloodLimits;
  #tokens: number;
  #filledAt: number;
  #overSince: number | undefined;

  constructor(clock: Clock, limits: FloodLimits) {
    this.#clock = clock;
    this.#limits = limits;
    this.#tokens = limits.burst;
    this.#filledAt = clock.mono();
  }

  /** Ms that this one has to wait, 0 for not at all; undefined when it is too much. */
  take(count = 1): number | undefined {
    const { perSecond, burst, waiting, patienceMs } = this.#limits;
    const now = this.#clock.mono();
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#filledAt) * perSecond) / 1000);
    this.#filledAt = now;
    // Some of the burst is there again: it was one, and it is over.
    if (this.#tokens >= burst / 4) this.#overSince = undefined;
    this.#tokens -= count;
    if (this.#tokens >= 0) return 0;
    this.#overSince ??= now;
    if (-this.#tokens > waiting || now - this.#overSince > patienceMs) {
      // Who is thrown out and comes back begins at the limit, not below it.
      this.#tokens = Math.max(this.#tokens, -waiting);
      return undefined;
    }
    return (-this.#tokens / perSecond) * 1000;
  }
}
