import { DRIP_SAMPLES } from './constants.ts';

/** Most pieces that are looked back at. */
const KEPT = 64;

/** How long the last pieces of one blob took from their first byte to their last. */
export class PieceTimes {
  readonly #pieces: { readonly begunAt: number; readonly ms: number }[] = [];

  /** @param begunAt monotonic ms of the piece's first byte */
  add(begunAt: number, endedAt: number): void {
    this.#pieces.push({ begunAt, ms: endedAt - begunAt });
    if (this.#pieces.length > KEPT) this.#pieces.shift();
  }

  /**
   * Median of the pieces that began after `begunAt` and are here, ms: those that overtook one that began then. Older ones say
   * nothing: the wire may have been faster. Undefined while they are too few to go by.
   */
  medianSince(begunAt: number): number | undefined {
    const later = this.#pieces.filter((piece) => piece.begunAt > begunAt).map(({ ms }) => ms);
    if (later.length < DRIP_SAMPLES) return undefined;
    later.sort((a, b) => a - b);
    return later[Math.floor(later.length / 2)];
  }
}
