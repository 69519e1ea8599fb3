import { type Clock, every } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { COPY_AT_END_BYTES, COPY_BYTES_A_SECOND, COPY_LOOK_MS } from './constants.ts';

/** What is copied. */
export interface Copied {
  /** Grows with every change. */
  readonly changes: number;
  readonly bytes: number;
  copy(): Promise<void>;
}

interface IndexCopierComponents {
  readonly index: Copied;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Keeps a copy of the index beside it, so that a node that loses it while it is cut off still knows its images by name, and
 * whose bytes they are. Written when something has changed, and slowly: cards wear out.
 */
export class IndexCopier implements Startable {
  readonly name = 'index-copy';
  readonly #c: IndexCopierComponents;
  #copied: number | undefined;
  #copiedAt = Number.NEGATIVE_INFINITY;
  #cancel: () => void = () => undefined;
  #copying: Promise<void> = Promise.resolve();
  #busy = false;

  constructor(components: IndexCopierComponents) {
    this.#c = components;
  }

  async start(): Promise<void> {
    this.#cancel = every(this.#c.clock, COPY_LOOK_MS, () => this.#look());
  }

  async stop(): Promise<void> {
    this.#cancel();
    await this.#copying;
    const { index } = this.#c;
    if (index.bytes <= COPY_AT_END_BYTES && index.changes !== this.#copied) await this.#copy();
  }

  #look(): void {
    const { index, clock } = this.#c;
    const restMs = (index.bytes / COPY_BYTES_A_SECOND) * 1000;
    if (this.#busy || index.changes === this.#copied || clock.mono() - this.#copiedAt < restMs) return;
    this.#busy = true;
    this.#copying = this.#copy().finally(() => {
      this.#busy = false;
    });
  }

  async #copy(): Promise<void> {
    const { index, clock, log } = this.#c;
    const { changes } = index;
    this.#copiedAt = clock.mono();
    try {
      await index.copy();
      this.#copied = changes;
    } catch (error) {
      log.warn({ why: describeError(error) }, 'cannot copy the index');
    }
  }
}
