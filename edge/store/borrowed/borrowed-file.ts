import { constants, fstatSync } from 'node:fs';
import type { Clock } from '../../../shared/clock.ts';
import { TidepoolError } from '../../../shared/errors.ts';
import { systemIo } from '../io.ts';
import { BORROWED_IDLE_MS } from './constants.ts';
import { validatorOf } from './validator.ts';

/**
 * A file of another program's, opened to be read and for nothing else. It stays open for a while after each read: its bytes
 * can be read to the end though its name is gone.
 */
export class BorrowedFile {
  readonly path: string;
  readonly #validator: string;
  readonly #clock: Clock;
  #opening: Promise<number> | undefined;
  #users = 0;
  #cancelIdle: (() => void) | undefined;
  #closed = false;

  constructor(
    components: { readonly clock: Clock },
    init: { readonly path: string; readonly validator: string },
  ) {
    this.#clock = components.clock;
    this.path = init.path;
    this.#validator = init.validator;
  }

  /** It can be read without asking for its name. */
  get open(): boolean {
    return this.#opening !== undefined;
  }

  /**
   * As much as there is of `bytes` from `position`; how much that was.
   * @throws TidepoolError STORE_CORRUPT when another file has its name, or the system's error
   */
  async read(bytes: Uint8Array, position: number): Promise<number> {
    this.#cancelIdle?.();
    this.#cancelIdle = undefined;
    this.#users++;
    this.#opening ??= this.#open();
    const opening = this.#opening;
    try {
      return await systemIo.read(await opening, bytes, position);
    } catch (error) {
      this.#forget(opening);
      throw error;
    } finally {
      this.#users--;
      if (this.#users === 0) this.#rest();
    }
  }

  /** Closes it once nobody reads it. */
  close(): void {
    this.#closed = true;
    if (this.#users === 0) this.#rest();
  }

  async #open(): Promise<number> {
    const fd = await systemIo.open(this.path, constants.O_RDONLY | constants.O_NOFOLLOW);
    if (validatorOf(fstatSync(fd, { bigint: true })) === this.#validator) return fd;
    await systemIo.close(fd);
    throw new TidepoolError('STORE_CORRUPT', `${this.path} is another file than the one that was checked`);
  }

  #rest(): void {
    const opening = this.#opening;
    if (opening === undefined) return;
    this.#cancelIdle?.();
    this.#cancelIdle = undefined;
    if (this.#closed) {
      this.#forget(opening);
      return;
    }
    this.#cancelIdle = this.#clock.after(BORROWED_IDLE_MS, () => {
      this.#cancelIdle = undefined;
      if (this.#users === 0) this.#forget(opening);
    });
  }

  #forget(opening: Promise<number>): void {
    if (this.#opening !== opening) return;
    this.#opening = undefined;
    // One that could not be opened needs no closing, and nothing was written to one that could.
    opening.then(systemIo.close).catch(() => undefined);
  }
}
