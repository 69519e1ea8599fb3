import type { Clock } from '../clock.ts';

interface Waiter {
  readonly priority: number;
  remaining: number;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: () => void;
}

/** Longest burst a bucket saves up, in ms of its rate. */
const BURST_MS = 100;

/**
 * Bytes a second, with priorities: while a lower number waits, a higher one gets nothing. Rate 0 means "no bytes",
 * undefined "no cap". Over the first t ms no more than rate × t bytes are given out. Over any later t ms no more than
 * rate × (t + burst), and what the requests in line had paid before: one larger than the burst saves up to pass whole.
 */
export class TokenBucket {
  readonly #clock: Clock;
  #rate: number | undefined;
  #tokens = 0;
  #filledAt: number;
  readonly #waiting: Waiter[] = [];
  #cancelTimer: (() => void) | undefined;

  constructor(clock: Clock, bytesPerSecond: number | undefined) {
    this.#clock = clock;
    this.#rate = bytesPerSecond;
    this.#filledAt = clock.mono();
  }

  get rate(): number | undefined {
    return this.#rate;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  setRate(bytesPerSecond: number | undefined): void {
    this.#fill();
    this.#rate = bytesPerSecond;
    this.#tokens = Math.min(this.#tokens, this.#burst());
    this.#serve();
  }

  /** Resolves once `bytes` may pass. @throws the signal's reason */
  take(bytes: number, options: { priority?: number; signal?: AbortSignal } = {}): Promise<void> {
    const { priority = 0, signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#rate === undefined) return Promise.resolve();
    this.#fill();
    if (this.#waiting.length === 0 && this.#tokens >= bytes) {
      this.#tokens -= bytes;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        priority,
        remaining: bytes,
        resolve,
        reject,
        signal,
        onAbort: () => {
          const index = this.#waiting.indexOf(waiter);
          if (index >= 0) this.#waiting.splice(index, 1);
          // What it had paid goes to the next; never more than a burst is kept.
          this.#tokens += bytes - waiter.remaining;
          reject(signal?.reason);
          this.#serve();
        },
      };
      signal?.addEventListener('abort', waiter.onAbort, { once: true });
      let index = this.#waiting.length;
      while (index > 0 && (this.#waiting[index - 1]?.priority ?? 0) > priority) index--;
      this.#waiting.splice(index, 0, waiter);
      this.#serve();
    });
  }

  #burst(): number {
    return ((this.#rate ?? 0) * BURST_MS) / 1000;
  }

  #fill(): void {
    const now = this.#clock.mono();
    if (this.#rate !== undefined) {
      this.#tokens = Math.min(this.#burst(), this.#tokens + ((now - this.#filledAt) * this.#rate) / 1000);
    }
    this.#filledAt = now;
  }

  #serve(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#fill();
    for (let waiter = this.#waiting[0]; waiter !== undefined; waiter = this.#waiting[0]) {
      if (this.#rate !== undefined) {
        // A request larger than the burst is paid in parts, else it would wait for ever.
        const paid = Math.min(this.#tokens, waiter.remaining);
        this.#tokens -= paid;
        waiter.remaining -= paid;
        if (waiter.remaining > 1e-6) {
          if (this.#rate > 0) {
            // Half a burst at most: what a late timer finds beyond a whole burst would be lost.
            const waitMs = (Math.min(waiter.remaining, this.#burst() / 2) / this.#rate) * 1000;
            this.#cancelTimer = this.#clock.after(Math.max(1, Math.ceil(waitMs)), () => this.#serve());
          }
          return;
        }
      }
      this.#waiting.shift();
      waiter.signal?.removeEventListener('abort', waiter.onAbort);
      waiter.resolve();
    }
  }
}
