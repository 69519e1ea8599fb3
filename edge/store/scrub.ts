import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { BlobKey } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { type PieceLayout, pieceLength } from '../../shared/pieces.ts';
import type { DocumentTable } from '../index/types.ts';
import {
  SCRUB_BLOBS_A_NOTE,
  SCRUB_MAX_BYTES_A_SECOND,
  SCRUB_MIN_BYTES_A_SECOND,
  SCRUB_PASS_MS,
  SCRUB_START_MS,
} from './constants.ts';

/** A blob as the scrub sees it. */
export interface ScrubbedBlob {
  readonly layout: PieceLayout;
  check(piece: number): Promise<'right' | 'wrong' | 'absent'>;
}

interface ScrubComponents {
  readonly rows: { after(key: string): BlobKey | undefined };
  readonly store: { get(key: BlobKey): ScrubbedBlob | undefined; usage(): { readonly bytes: number } };
  readonly documents: DocumentTable;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface ScrubState {
  /** Bytes looked at since the agent started, and pieces that were wrong. */
  readonly bytes: number;
  readonly wrong: number;
  /** When the last pass over everything ended, ms since 1970. */
  readonly lastPassAt: number | null;
}

const DOCUMENT = 'store/scrub';

/**
 * Reads everything in the store, piece by piece, about once a week: a disk that loses bytes is found out while neighbours and
 * registries still have them. Where it stopped is kept, so that nodes that restart often come to an end too.
 */
export class Scrub implements Startable {
  readonly name = 'scrub';
  readonly #c: ScrubComponents;
  #cursor = '';
  #blobs = 0;
  #passBegan: number;
  #lastPassAt: number | null = null;
  #bytes = 0;
  #wrong = 0;
  #cancel: () => void = () => undefined;
  #step: Promise<void> = Promise.resolve();
  #running = false;
  #piece = 0;

  constructor(components: ScrubComponents) {
    this.#c = components;
    this.#passBegan = components.clock.now();
    this.#restore(components.documents.get(DOCUMENT));
  }

  get state(): ScrubState {
    return { bytes: this.#bytes, wrong: this.#wrong, lastPassAt: this.#lastPassAt };
  }

  async start(): Promise<void> {
    this.#running = true;
    this.#in(SCRUB_START_MS);
  }

  async stop(): Promise<void> {
    this.#running = false;
    this.#cancel();
    await this.#step;
  }

  /** Looks at the next piece; the answer is how many bytes it has, or undefined at the end of a pass. */
  async next(): Promise<number | undefined> {
    const key = this.#c.rows.after(this.#cursor);
    if (key === undefined) {
      this.#endPass();
      return undefined;
    }
    const blob = this.#c.store.get(key);
    if (blob === undefined || this.#piece >= blob.layout.pieceCount) {
      this.#cursor = key;
      this.#piece = 0;
      if (++this.#blobs % SCRUB_BLOBS_A_NOTE === 0) this.#keep();
      return 0;
    }
    const piece = this.#piece++;
    const found = await blob.check(piece);
    if (found === 'absent') return 0;
    if (found === 'wrong') this.#wrong++;
    const bytes = pieceLength(blob.layout, piece);
    this.#bytes += bytes;
    return bytes;
  }

  #in(ms: number): void {
    this.#cancel = this.#c.clock.after(ms, () => {
      this.#step = this.#look().then((wait) => {
        if (this.#running) this.#in(wait);
      });
    });
  }

  /** How long to wait before the next look, ms. */
  async #look(): Promise<number> {
    try {
      for (let skipped = 0; skipped < SCRUB_BLOBS_A_NOTE; skipped++) {
        const bytes = await this.next();
        if (bytes === undefined) return Math.max(0, this.#passBegan - this.#c.clock.now()) + SCRUB_START_MS;
        if (bytes > 0) return (bytes / this.#rate()) * 1000;
      }
      return 1_000;
    } catch (error) {
      this.#c.log.warn({ why: describeError(error) }, 'cannot look through the store for damage');
      return SCRUB_START_MS;
    }
  }

  #rate(): number {
    const rate = this.#c.store.usage().bytes / (SCRUB_PASS_MS / 1000);
    return Math.min(SCRUB_MAX_BYTES_A_SECOND, Math.max(SCRUB_MIN_BYTES_A_SECOND, rate));
  }

  #endPass(): void {
    const now = this.#c.clock.now();
    this.#lastPassAt = now;
    this.#cursor = '';
    this.#piece = 0;
    // A small store is through soon, and is left alone until the week is over.
    this.#passBegan = Math.max(now, this.#passBegan + SCRUB_PASS_MS);
    this.#keep();
  }

  #keep(): void {
    const { documents } = this.#c;
    documents.put(DOCUMENT, { cursor: this.#cursor, began: this.#passBegan, lastPassAt: this.#lastPassAt });
  }

  #restore(kept: unknown): void {
    if (typeof kept !== 'object' || kept === null) return;
    const { cursor, began, lastPassAt } = kept as Record<string, unknown>;
    if (typeof cursor === 'string') this.#cursor = cursor;
    // A clock that was years ahead must not keep it waiting.
    if (typeof began === 'number') this.#passBegan = Math.min(began, this.#c.clock.now() + SCRUB_PASS_MS);
    if (typeof lastPassAt === 'number') this.#lastPassAt = lastPassAt;
  }
}
