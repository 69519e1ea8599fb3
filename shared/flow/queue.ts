import { TidepoolError } from '../errors.ts';

interface Waiter {
  readonly priority: number;
  readonly resolve: (release: () => void) => void;
  readonly reject: (reason: unknown) => void;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: () => void;
}

/**
 * Counted slots with priorities: a lower number goes first, equals in order of arrival.
 * The line itself is bounded, so a flood is refused instead of remembered.
 */
export class Slots {
  #limit: number;
  readonly #maxWaiting: number;
  #used = 0;
  readonly #waiting: Waiter[] = [];

  constructor(limit: number, maxWaiting: number = Number.POSITIVE_INFINITY) {
    this.#limit = limit;
    this.#maxWaiting = maxWaiting;
  }

  get used(): number {
    return this.#used;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** More slots are handed out at once; fewer take effect as slots come back. */
  setLimit(limit: number): void {
    this.#limit = limit;
    this.#grant();
  }

  /** A slot now, or undefined. */
  tryAcquire(): (() => void) | undefined {
    return this.#used < this.#limit && this.#waiting.length === 0 ? this.#take() : undefined;
  }

  /** @throws TidepoolError OVERLOADED when the line is full, or the signal's reason */
  acquire(options: { priority?: number; signal?: AbortSignal } = {}): Promise<() => void> {
    const { priority = 0, signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    const now = this.tryAcquire();
    if (now !== undefined) return Promise.resolve(now);
    if (this.#waiting.length >= this.#maxWaiting) {
      return Promise.reject(
        new TidepoolError('OVERLOADED', `${this.#maxWaiting} requests are waiting already`),
      );
    }
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        priority,
        resolve,
        reject,
        signal,
        onAbort: () => {
          const index = this.#waiting.indexOf(waiter);
          if (index >= 0) this.#waiting.splice(index, 1);
          reject(signal?.reason);
        },
      };
      signal?.addEventListener('abort', waiter.onAbort, { once: true });
      let index = this.#waiting.length;
      while (index > 0 && (this.#waiting[index - 1]?.priority ?? 0) > priority) index--;
      this.#waiting.splice(index, 0, waiter);
    });
  }

  #take(): () => void {
    this.#used++;
    let released = false;
    return () => {
      if (released) return;
      released = true;
      this.#used--;
      this.#grant();
    };
  }

  #grant(): void {
    while (this.#used < this.#limit) {
      const waiter = this.#waiting.shift();
      if (waiter === undefined) return;
      waiter.signal?.removeEventListener('abort', waiter.onAbort);
      waiter.resolve(this.#take());
    }
  }
}
