import { TidepoolError } from '../../shared/errors.ts';
import { BUFFER_CLASSES } from './constants.ts';

interface Waiter {
  readonly size: number;
  readonly resolve: (memory: Buffer) => void;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: () => void;
}

/**
 * Memory in a few sizes, used over and over: a fresh buffer costs a page fault for each 4 KiB of it. All of it together
 * stays within the limit; who finds none waits in order of arrival.
 */
export class BufferPool {
  readonly #limit: number;
  readonly #reclaim: () => Buffer | undefined;
  readonly #free = new Map<number, Buffer[]>();
  readonly #waiting: Waiter[] = [];
  #allocated = 0;
  #lent = 0;

  /** `reclaim` gives back a buffer that is lent out and could be spared, the best one first. */
  constructor(init: { limitBytes: number; reclaim?: () => Buffer | undefined }) {
    this.#limit = init.limitBytes;
    this.#reclaim = init.reclaim ?? (() => undefined);
  }

  /** Bytes that the pool holds, lent or not. */
  get allocated(): number {
    return this.#allocated;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** At least `length` bytes, with whatever was in them. @throws the signal's reason */
  take(length: number, signal?: AbortSignal): Promise<Buffer> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const size = classOf(length);
    const memory = this.#waiting.length === 0 ? this.#tryTake(size) : undefined;
    if (memory !== undefined) return Promise.resolve(memory);
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        size,
        resolve,
        signal,
        onAbort: () => {
          this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
          reject(signal?.reason);
          // It may have been the one that held up the line.
          this.pump();
        },
      };
      signal?.addEventListener('abort', waiter.onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  /** Takes back what {@link take} gave. */
  give(memory: Buffer): void {
    this.#toFree(memory);
    this.pump();
  }

  /** Serves who waits; to be called when a buffer that is lent out could be spared now. */
  pump(): void {
    for (;;) {
      const waiter = this.#waiting[0];
      if (waiter === undefined) return;
      const memory = this.#tryTake(waiter.size);
      if (memory === undefined) return;
      this.#waiting.shift();
      waiter.signal?.removeEventListener('abort', waiter.onAbort);
      waiter.resolve(memory);
    }
  }

  /** Gives memory that nobody uses back to the system. */
  trim(): void {
    for (const [size, list] of this.#free) this.#allocated -= size * list.length;
    this.#free.clear();
  }

  #tryTake(size: number): Buffer | undefined {
    for (;;) {
      const memory = this.#free.get(size)?.pop() ?? this.#allocate(size);
      if (memory !== undefined) {
        this.#lent++;
        return memory;
      }
      const spare = this.#reclaim();
      if (spare === undefined) return undefined;
      this.#toFree(spare);
    }
  }

  #allocate(size: number): Buffer | undefined {
    for (const [other, list] of this.#free) {
      while (this.#allocated + size > this.#limit && list.pop() !== undefined) this.#allocated -= other;
    }
    // A limit below one buffer would stop everything: one is always to be had.
    if (this.#allocated + size > this.#limit && this.#lent > 0) return undefined;
    this.#allocated += size;
    return Buffer.allocUnsafeSlow(size);
  }

  #toFree(memory: Buffer): void {
    this.#lent--;
    const list = this.#free.get(memory.length);
    if (list === undefined) this.#free.set(memory.length, [memory]);
    else list.push(memory);
  }
}

function classOf(length: number): number {
  const size = BUFFER_CLASSES.find((each) => each >= length);
  if (size === undefined) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `no piece has ${length} bytes: at most ${BUFFER_CLASSES.at(-1)}`,
    );
  }
  return size;
}
