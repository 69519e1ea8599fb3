import type { Dispatcher } from 'undici';
import type { Clock } from '../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { type Body, readAll } from './body.ts';
import { BODY_QUEUE_BYTES } from './constants.ts';

interface Waiter {
  readonly resolve: (result: IteratorResult<Uint8Array, undefined>) => void;
  readonly reject: (error: unknown) => void;
}

export interface NetworkBodyInit {
  /** For messages: who sends. */
  readonly host: string;
  readonly stallMs: number;
  readonly onStall: () => void;
}

const DONE: IteratorResult<Uint8Array, undefined> = { done: true, value: undefined };

/**
 * The body of one answer, as its chunks come off the socket; nothing is copied. The socket is paused while the reader is behind. The
 * stall watchdog runs only while the reader waits for the network: undici's own does not fire under back-pressure, and a slow reader is no
 * fault of the origin.
 */
export class NetworkBody implements Body {
  readonly #clock: Clock;
  readonly #init: NetworkBodyInit;
  readonly #controller: Dispatcher.DispatchController;
  readonly #queue: Uint8Array[] = [];
  #queued = 0;
  #received = 0;
  #paused = false;
  #state: 'open' | 'ended' | 'failed' = 'open';
  #error: unknown;
  #waiter: Waiter | undefined;
  #cancelStall: (() => void) | undefined;

  constructor(clock: Clock, controller: Dispatcher.DispatchController, init: NetworkBodyInit) {
    this.#clock = clock;
    this.#controller = controller;
    this.#init = init;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const chunk = this.#queue.shift();
    if (chunk !== undefined) {
      this.#queued -= chunk.length;
      if (this.#paused && this.#queued < BODY_QUEUE_BYTES / 2) {
        this.#paused = false;
        this.#controller.resume();
      }
      return Promise.resolve({ done: false, value: chunk });
    }
    if (this.#state === 'failed') return Promise.reject(this.#error);
    if (this.#state === 'ended') return Promise.resolve(DONE);
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
      this.#cancelStall = this.#clock.after(this.#init.stallMs, () => this.#stalled());
    });
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.cancel();
    return Promise.resolve(DONE);
  }

  cancel(): void {
    if (this.#state === 'open') {
      this.#state = 'ended';
      this.#controller.abort(new Error('the rest is not wanted'));
      this.#settle()?.resolve(DONE);
    }
    this.#queue.length = 0;
    this.#queued = 0;
  }

  readAll(limit: number): Promise<Buffer | undefined> {
    return readAll(this, limit);
  }

  /** Fed by the exchange. */
  push(chunk: Uint8Array): void {
    if (this.#state !== 'open') return;
    this.#received += chunk.length;
    const waiter = this.#settle();
    if (waiter !== undefined) {
      waiter.resolve({ done: false, value: chunk });
      return;
    }
    this.#queue.push(chunk);
    this.#queued += chunk.length;
    if (!this.#paused && this.#queued >= BODY_QUEUE_BYTES) {
      this.#paused = true;
      this.#controller.pause();
    }
  }

  /** Fed by the exchange. */
  end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    this.#settle()?.resolve(DONE);
  }

  /** Fed by the exchange; what has come before is still read, except where the reader itself called it off. */
  fail(error: unknown, aborted = false): void {
    if (this.#state !== 'open') return;
    this.#state = 'failed';
    this.#error = aborted || isTidepoolError(error) ? error : this.#brokenOff(error);
    if (aborted) {
      this.#queue.length = 0;
      this.#queued = 0;
    }
    this.#settle()?.reject(this.#error);
  }

  #settle(): Waiter | undefined {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    this.#cancelStall?.();
    this.#cancelStall = undefined;
    return waiter;
  }

  #stalled(): void {
    const { host, stallMs } = this.#init;
    this.#init.onStall();
    const error = new TidepoolError(
      'ORIGIN_UNREACHABLE',
      `${host} sent nothing for ${stallMs / 1000} s after ${this.#received} bytes`,
      { details: { host, received: this.#received, retryable: true } },
    );
    this.fail(error);
    this.#controller.abort(error);
  }

  #brokenOff(error: unknown): TidepoolError {
    const { host } = this.#init;
    return new TidepoolError(
      'ORIGIN_ERROR',
      `${host} broke off after ${this.#received} bytes: ${describeError(error)}`,
      { cause: error, details: { host, received: this.#received, retryable: true } },
    );
  }
}
