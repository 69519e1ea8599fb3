import { TidepoolError } from '../../shared/errors.ts';
import { BufferPool } from './buffer-pool.ts';
import type { Lease, PieceBuffer } from './types.ts';

/** The pieces of one blob that are in memory. */
export type HotPieces = Map<number, HotPiece>;

/** A piece that has been written and is still in memory. */
export interface HotPiece {
  readonly memory: Buffer;
  readonly length: number;
  readonly home: HotPieces;
  readonly piece: number;
  leases: number;
}

/**
 * Memory for pieces that arrive. One that has been written stays, for the peers and readers that are about to ask for it,
 * until its memory is wanted for another and nobody reads it.
 */
export class PieceMemory {
  readonly #pool: BufferPool;
  /** The one longest unused first. */
  readonly #hot = new Set<HotPiece>();
  readonly #maxPinned: number;
  #pinned = 0;

  constructor(init: { limitBytes: number }) {
    this.#pool = new BufferPool({ limitBytes: init.limitBytes, reclaim: () => this.#spare() });
    // Slow readers must leave room for what arrives: past this they read from disk.
    this.#maxPinned = init.limitBytes / 2;
  }

  get allocated(): number {
    return this.#pool.allocated;
  }

  get waiting(): number {
    return this.#pool.waiting;
  }

  /** @throws the signal's reason */
  async lend(length: number, signal?: AbortSignal): Promise<ArrivingPiece> {
    const memory = await this.#pool.take(length, signal);
    return new ArrivingPiece(memory, length, this.#pool);
  }

  /** Keeps a piece that has been written; takes the buffer over. */
  keep(home: HotPieces, piece: number, buffer: ArrivingPiece): void {
    const memory = buffer.surrender();
    if (memory === undefined) return;
    const hot: HotPiece = { memory, length: buffer.length, home, piece, leases: 0 };
    home.set(piece, hot);
    this.#hot.add(hot);
    this.#pool.pump();
  }

  /** Bytes [from, from + length) of a piece in memory, without a copy; undefined when it is not, or slow readers hold too much. */
  lease(home: HotPieces, piece: number, from: number, length: number): Lease | undefined {
    const hot = home.get(piece);
    if (hot === undefined || (hot.leases === 0 && !this.mayPin(hot.memory.length))) return undefined;
    return this.#lease(hot, from, length);
  }

  /** Keeps a piece in memory until the release, however much readers hold: for the one that a reader cannot do without. */
  pin(home: HotPieces, piece: number): Lease | undefined {
    const hot = home.get(piece);
    return hot === undefined ? undefined : this.#lease(hot, 0, 0);
  }

  #lease(hot: HotPiece, from: number, length: number): Lease {
    if (hot.leases === 0) this.#pinned += hot.memory.length;
    hot.leases++;
    this.#hot.delete(hot);
    this.#hot.add(hot);
    return new OnceLease(hot.memory.subarray(from, Math.min(hot.length, from + length)), () =>
      this.#release(hot),
    );
  }

  /** Whether readers hold so little that they may hold this much more. */
  mayPin(length: number): boolean {
    return this.#pinned + length <= this.#maxPinned;
  }

  /** The piece's bytes count no more. Whoever leases them keeps them until the release. */
  forget(home: HotPieces, piece: number): void {
    const hot = home.get(piece);
    if (hot === undefined) return;
    this.#evict(hot);
    if (hot.leases === 0) this.#pool.give(hot.memory);
  }

  /** Gives all memory that nobody uses back to the system. */
  trim(): void {
    for (const hot of this.#hot) if (hot.leases === 0) this.forget(hot.home, hot.piece);
    this.#pool.trim();
  }

  #release(hot: HotPiece): void {
    hot.leases--;
    if (hot.leases > 0) return;
    this.#pinned -= hot.memory.length;
    if (this.#hot.has(hot)) this.#pool.pump();
    else this.#pool.give(hot.memory);
  }

  #spare(): Buffer | undefined {
    for (const hot of this.#hot) {
      if (hot.leases > 0) continue;
      this.#evict(hot);
      return hot.memory;
    }
    return undefined;
  }

  #evict(hot: HotPiece): void {
    this.#hot.delete(hot);
    hot.home.delete(hot.piece);
  }
}

/** A buffer on loan to whoever receives a piece. */
export class ArrivingPiece implements PieceBuffer {
  readonly bytes: Buffer;
  readonly length: number;
  #memory: Buffer | undefined;
  readonly #pool: BufferPool;

  constructor(memory: Buffer, length: number, pool: BufferPool) {
    this.bytes = memory.length === length ? memory : memory.subarray(0, length);
    this.length = length;
    this.#memory = memory;
    this.#pool = pool;
  }

  release(): void {
    const memory = this.surrender();
    if (memory !== undefined) this.#pool.give(memory);
  }

  /** The same buffer in new hands: what the old ones do with theirs has no effect any more. */
  adopt(): ArrivingPiece {
    const memory = this.surrender();
    if (memory === undefined) throw new TidepoolError('INTERNAL', 'a released buffer was given to write');
    return new ArrivingPiece(memory, this.length, this.#pool);
  }

  /** The memory, once: whoever gets it has to give it back. */
  surrender(): Buffer | undefined {
    const memory = this.#memory;
    this.#memory = undefined;
    return memory;
  }
}

/** A lease that can be released twice without harm. */
export class OnceLease implements Lease {
  readonly bytes: Uint8Array;
  #onRelease: (() => void) | undefined;

  constructor(bytes: Uint8Array, onRelease: () => void) {
    this.bytes = bytes;
    this.#onRelease = onRelease;
  }

  release(): void {
    const onRelease = this.#onRelease;
    this.#onRelease = undefined;
    onRelease?.();
  }
}
