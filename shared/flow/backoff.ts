/** Bounds of a back-off, in ms. */
export interface BackoffInit {
  readonly baseMs: number;
  readonly maxMs: number;
  /** In [0, 1). Injected so that tests and the simulator repeat. */
  readonly random?: () => number;
}

/**
 * Exponential back-off with full jitter: each delay is uniform in [0, min(max, base × 2^attempt)).
 * Without the jitter a pool that lost power comes back as one.
 */
export class Backoff {
  readonly #baseMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #attempt = 0;

  constructor(init: BackoffInit) {
    this.#baseMs = init.baseMs;
    this.#maxMs = init.maxMs;
    this.#random = init.random ?? Math.random;
  }

  get attempts(): number {
    return this.#attempt;
  }

  /** The next delay in ms. */
  next(): number {
    const ceiling = Math.min(this.#maxMs, this.#baseMs * 2 ** Math.min(this.#attempt, 30));
    this.#attempt++;
    return this.#random() * ceiling;
  }

  reset(): void {
    this.#attempt = 0;
  }
}
