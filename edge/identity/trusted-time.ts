import type { Clock } from '../../shared/clock.ts';
import { CLOCK_TOLERANCE_MS } from './constants.ts';

/**
 * The time, as far as it can be trusted on a box whose clock may have no battery, or be years ahead.
 *
 * A clock that is behind is met by a floor: whatever a trusted key has signed was signed before now. One that is ahead
 * is met by a certificate for a key that was made a moment ago: its start is the authority's own clock. Of that, what
 * this clock is ahead by is kept and taken off, until the clock has been put right.
 */
export class TrustedTime {
  readonly #clock: Pick<Clock, 'now'>;
  #floor: number;
  #aheadMs: number;

  constructor(clock: Pick<Clock, 'now'>, kept: { readonly floor: number; readonly aheadMs: number }) {
    this.#clock = clock;
    this.#floor = kept.floor;
    this.#aheadMs = kept.aheadMs;
  }

  /** Wall clock, ms; never earlier than what signed things have proved. */
  now(): number {
    return Math.max(this.#corrected(), this.#floor);
  }

  get floor(): number {
    return this.#floor;
  }

  /** How far this clock was found ahead of the authority's, ms; 0 for one that is about right. */
  get aheadMs(): number {
    return this.#aheadMs;
  }

  /** Something that can be trusted was signed then. True when that is news. */
  proves(at: number): boolean {
    if (!(at > this.#floor)) return false;
    this.#floor = at;
    return true;
  }

  /** An authority has dated something just now. */
  isAbout(at: number): void {
    this.proves(at);
    const ahead = this.#clock.now() - at;
    this.#aheadMs = ahead > CLOCK_TOLERANCE_MS ? ahead : 0;
  }

  #corrected(): number {
    const system = this.#clock.now();
    const corrected = system - this.#aheadMs;
    // Someone has put the clock right: what was taken off it would now make it late.
    if (this.#aheadMs > 0 && corrected < this.#floor - CLOCK_TOLERANCE_MS) {
      this.#aheadMs = 0;
      return system;
    }
    return corrected;
  }
}
