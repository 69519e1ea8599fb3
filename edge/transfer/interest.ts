import type { Bitmap } from '../../shared/bitmap.ts';
import { LAN_WINDOW, RANGE_WINDOW } from './constants.ts';

/** Why a node wants a blob: all of it, or what somebody reads of it. */
export interface Interest {
  readonly mode: 'whole' | 'range';
  readonly priority: number;
  /** First piece that the reader still needs, and the piece after its last; only of ranges. */
  cursor: number;
  readonly end: number;
  /** Only as far as neighbours have it: nothing is begun beyond the pool for this. */
  readonly lan?: boolean;
}

/** A piece that is wanted now. `wan` says whether it may be fetched from beyond the pool already. */
export interface Wanted {
  readonly piece: number;
  readonly priority: number;
  readonly wan: boolean;
}

/**
 * The pieces to go for now, most urgent interest first, in the blob's order. Whole blobs look as far ahead as the window
 * lets them; ranges look a little ahead of the reader, and never past what it asked for.
 */
export function wantedPieces(have: Bitmap, interests: Iterable<Interest>, wanWindow: number): Wanted[] {
  const wanted: Wanted[] = [];
  for (const interest of [...interests].sort((a, b) => a.priority - b.priority)) {
    if (interest.mode === 'whole') {
      const first = have.leading;
      const stop = Math.min(have.size, first + Math.max(LAN_WINDOW, wanWindow));
      for (let piece = first; piece < stop; piece++) {
        if (!have.has(piece))
          wanted.push({
            piece,
            priority: interest.priority,
            wan: interest.lan !== true && piece < first + wanWindow,
          });
      }
    } else {
      const stop = Math.min(interest.end, interest.cursor + RANGE_WINDOW);
      for (let piece = interest.cursor; piece < stop; piece++) {
        if (!have.has(piece)) wanted.push({ piece, priority: interest.priority, wan: interest.lan !== true });
      }
    }
  }
  return wanted;
}

/** Why this node wants one blob now; it does as long as there is one interest. */
export class Interests {
  readonly #interests = new Set<Interest>();

  /** What it returns takes the interest back. */
  add(interest: Interest): () => void {
    this.#interests.add(interest);
    return () => {
      this.#interests.delete(interest);
    };
  }

  get size(): number {
    return this.#interests.size;
  }

  /** Whether somebody needs the piece, now or later. */
  cover(piece: number): boolean {
    for (const interest of this.#interests) {
      if (interest.mode === 'whole' || (piece >= interest.cursor && piece < interest.end)) return true;
    }
    return false;
  }

  wanted(have: Bitmap, wanWindow: number): Wanted[] {
    return wantedPieces(have, this.#interests, wanWindow);
  }
}
