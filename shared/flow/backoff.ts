/** Bounds of a back-off, in ms. */
export interface BackoffInit {
  readonly baseMs: number;
  readonly maxMs: number;
  /** How much longer the bound of each delay is than that of the one before; default 2. */
  readonly growth?: number;
  /** Every delay but the first is at least this share of its bound; default 0. */
  readonly floor?: number;
  /** In [0, 1). Injected so that tests and the simulator repeat. */
  readonly random?: () => number;
}

/**
 * Exponential back-off with full jitter: each delay is uniform in [floor × bound, bound), bound = min(max, base ×
 * growth^attempt). Without the jitter a pool that lost power comes back as one.
 */
export class Backoff {
  readonly #baseMs: number;
  readonly #maxMs: number;
  readonly #growth: number;
  readonly #floor: number;
  readonly #random: () => number;
  #attempt = 0;

  constructor(init: BackoffInit) {
    this.#baseMs = init.baseMs;
    this.#maxMs = init.maxMs;
    this.#growth = init.growth ?? 2;
    this.#floor = init.floor ?? 0;
    this.#random = init.random ?? Math.random;
  }

  get attempts(): number {
    return this.#attempt;
  }

  /** The next delay in ms. */
  next(): number {
    const bound = Math.min(this.#maxMs, this.#baseMs * this.#growth ** Math.min(this.#attempt, 30));
    // The first one spreads those who lost the same thing in the same moment; after that they are spread.
    const least = this.#attempt === 0 ? 0 : this.#floor * bound;
    this.#attempt++;
    return least + this.#random() * (bound - least);
  }

  reset(): void {
    this.#attempt = 0;
  }
}
