import type { Clock } from '../../shared/clock.ts';

/**
 * The hub's time, as last heard and counted on by a clock that nobody can set. What was heard may have been under way for
 * long, so this is never ahead of the hub, and may be behind. It belongs to an epoch: a hub whose clock was put right
 * starts again, and is believed under its new epoch.
 */
export class HubTime {
  readonly #clock: Pick<Clock, 'mono'>;
  #epoch: number;
  #at: number | undefined;
  /** Monotonic ms. */
  #heardAt: number;
  #live = false;

  constructor(
    clock: Pick<Clock, 'mono'>,
    known: { readonly epoch: number; readonly at?: number | undefined } = { epoch: 0 },
  ) {
    this.#clock = clock;
    this.#epoch = known.epoch;
    this.#at = known.at;
    this.#heardAt = clock.mono();
  }

  /** What is worth keeping over a restart. */
  get known(): { readonly epoch: number; readonly at?: number } {
    const now = this.now();
    return { epoch: this.#epoch, ...(now === undefined ? {} : { at: now }) };
  }

  /** @param live it was said just now, and not kept for us by a broker since then */
  heard(epoch: number, at: number, live = false): void {
    if (epoch < this.#epoch) return;
    const now = this.now(epoch);
    if (now !== undefined && at <= now) {
      this.#live ||= live;
      return;
    }
    this.#live = live || (this.#live && epoch === this.#epoch);
    this.#epoch = epoch;
    this.#at = at;
    this.#heardAt = this.#clock.mono();
  }

  /** Not behind by more than what a message takes; undefined where nothing was heard live since this was made. */
  exact(): number | undefined {
    return this.#live ? this.now() : undefined;
  }

  /** Ms since 1970; undefined when nothing was heard under this epoch. */
  now(epoch: number = this.#epoch): number | undefined {
    if (this.#at === undefined || epoch !== this.#epoch) return undefined;
    return this.#at + (this.#clock.mono() - this.#heardAt);
  }
}
