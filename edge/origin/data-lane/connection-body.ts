import type { Clock } from '../../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError } from '../../../shared/errors.ts';
import { type Body, type OnBytes, readAll } from '../body.ts';
import type { Connection } from './connection.ts';

export interface ConnectionBodyInit {
  /** For messages: who sends. */
  readonly host: string;
  readonly stallMs: number;
  readonly onStall: () => void;
}

const DONE: IteratorResult<Uint8Array, undefined> = { done: true, value: undefined };

/** The body of one answer on a connection of the data lane. The stall watchdog runs only while somebody wants bytes. */
export class ConnectionBody implements Body {
  readonly #clock: Clock;
  readonly #connection: Connection;
  readonly #init: ConnectionBodyInit;
  readonly #length: number;
  #received = 0;
  #movedAt = 0;
  /** What the reader itself ended it with: that is no fault of the other side. */
  #own: { readonly reason: unknown } | undefined;
  #cancelStall: (() => void) | undefined;

  constructor(clock: Clock, connection: Connection, length: number, init: ConnectionBodyInit) {
    this.#clock = clock;
    this.#connection = connection;
    this.#length = length;
    this.#init = init;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#received === this.#length) return DONE;
    let chunk: Uint8Array = new Uint8Array();
    await this.#watched(async () => {
      chunk = await this.#connection.chunk();
      this.#took(chunk.length);
    });
    return chunk.length === 0 ? DONE : { done: false, value: chunk };
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.cancel();
    return Promise.resolve(DONE);
  }

  cancel(): void {
    this.abort(new TidepoolError('ABORTED', 'the rest is not wanted'));
  }

  readAll(limit: number): Promise<Buffer | undefined> {
    return readAll(this, limit);
  }

  async fill(target: Uint8Array, onBytes: OnBytes): Promise<number> {
    if (this.#received === this.#length) return 0;
    let filled = 0;
    await this.#watched(async () => {
      filled = await this.#connection.fill(target, (bytes) => {
        this.#took(bytes.length);
        return onBytes(bytes)?.catch((reason: unknown) => {
          this.#own = { reason };
          throw reason;
        });
      });
    });
    return filled;
  }

  /** The reader itself calls it off. */
  abort(reason: unknown): void {
    // Once all is here the connection serves somebody else.
    if (this.#received === this.#length) return;
    this.#own = { reason };
    this.#connection.destroy(reason);
  }

  #took(count: number): void {
    this.#received += count;
    this.#movedAt = this.#clock.mono();
  }

  async #watched(read: () => Promise<void>): Promise<void> {
    this.#movedAt = this.#clock.mono();
    this.#watch(this.#init.stallMs);
    try {
      await read();
    } catch (error) {
      if (this.#own !== undefined) throw this.#own.reason;
      throw isTidepoolError(error) ? error : this.#brokenOff(error);
    } finally {
      this.#cancelStall?.();
      this.#cancelStall = undefined;
    }
  }

  #watch(ms: number): void {
    this.#cancelStall = this.#clock.after(ms, () => {
      const left = this.#movedAt + this.#init.stallMs - this.#clock.mono();
      if (left > 0) this.#watch(left);
      else this.#stalled();
    });
  }

  #stalled(): void {
    const { host, stallMs, onStall } = this.#init;
    onStall();
    this.#connection.destroy(
      new TidepoolError(
        'ORIGIN_UNREACHABLE',
        `${host} sent nothing for ${stallMs / 1000} s after ${this.#received} bytes`,
        { details: { host, received: this.#received, retryable: true } },
      ),
    );
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
