import { raceAbort } from '../../shared/flow/single-flight.ts';
import { withResolvers } from './flight.ts';

type Waiter = ReturnType<typeof withResolvers<void>>;

/** Who waits on this node for pieces of one blob, and for all of it. */
export class Waiters {
  readonly #pieces = new Map<number, Waiter>();
  #whole = makeWaiter();

  /** Whether somebody waits for the piece. */
  isAwaited(piece: number): boolean {
    return this.#pieces.has(piece);
  }

  /** Resolves when the piece has come. */
  piece(piece: number, signal?: AbortSignal): Promise<void> {
    let waiter = this.#pieces.get(piece);
    if (waiter === undefined) {
      waiter = makeWaiter();
      this.#pieces.set(piece, waiter);
    }
    return orAborted(waiter.promise, signal);
  }

  /** Resolves when the blob is verified. */
  whole(signal?: AbortSignal): Promise<void> {
    return orAborted(this.#whole.promise, signal);
  }

  arrived(piece: number): void {
    this.#pieces.get(piece)?.resolve();
    this.#pieces.delete(piece);
  }

  verified(): void {
    for (const waiter of this.#pieces.values()) waiter.resolve();
    this.#pieces.clear();
    this.#whole.resolve();
  }

  failed(error: unknown): void {
    this.#whole.reject(error);
    for (const waiter of this.#pieces.values()) waiter.reject(error);
    this.#pieces.clear();
  }

  /** The blob was whole, and is not any more: who asks from now on waits anew. */
  again(): void {
    this.#whole = makeWaiter();
  }
}

function orAborted(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  return signal === undefined ? promise : raceAbort(promise, signal);
}

/** It may fail without anybody waiting. */
function makeWaiter(): Waiter {
  const waiter = withResolvers<void>();
  waiter.promise.catch(() => undefined);
  return waiter;
}
