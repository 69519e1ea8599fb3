import { TidepoolError } from '../../shared/errors.ts';

/** Work that takes the processor: some at once, some that wait their turn, and no more. */
export class SigningQueue {
  readonly #atOnce: number;
  readonly #most: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(init: { readonly atOnce: number; readonly waiting: number }) {
    this.#atOnce = init.atOnce;
    this.#most = init.waiting;
  }

  /** @throws TidepoolError OVERLOADED when too many wait, what the work throws, the signal's reason while it waits */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await this.#turn(signal);
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#running < this.#atOnce) {
      this.#running++;
      return Promise.resolve();
    }
    if (this.#waiting.length >= this.#most) {
      const message = `${this.#most} nodes wait for their certificates already; try again in a minute`;
      return Promise.reject(new TidepoolError('OVERLOADED', message));
    }
    return new Promise((resolve, reject) => {
      const onTurn = (): void => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(onTurn), 1);
        reject(signal?.reason);
      };
      this.#waiting.push(onTurn);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}
