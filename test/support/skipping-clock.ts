import type { Clock } from '../../shared/clock.ts';

/**
 * Real time, plus what was skipped: short waits (back-off, Retry-After) are over at once and noted, long ones (watchdogs) never fire.
 * For tests that talk over real sockets and yet must not wait.
 */
export class SkippingClock implements Clock {
  /** Waits that were skipped, in ms. */
  readonly waits: number[] = [];
  readonly #skipBelowMs: number;
  #skipped = 0;

  constructor(skipBelowMs = 20_000) {
    this.#skipBelowMs = skipBelowMs;
  }

  now(): number {
    return Date.now() + this.#skipped;
  }

  mono(): number {
    return performance.now() + this.#skipped;
  }

  after(ms: number, fn: () => void): () => void {
    if (ms >= this.#skipBelowMs) return () => undefined;
    this.waits.push(ms);
    const immediate = setImmediate(() => {
      this.#skipped += ms;
      fn();
    });
    return () => clearImmediate(immediate);
  }

  advance(ms: number): void {
    this.#skipped += ms;
  }
}
