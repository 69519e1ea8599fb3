import { Bitmap } from '../../shared/bitmap.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { BlobKey } from '../../shared/ids.ts';
import { layoutOf, type PieceLayout, pieceLength, pieceRange } from '../../shared/pieces.ts';
import type { BufferPool } from './buffer-pool.ts';
import { ArrivingPiece, type HotPiece, OnceLease, type PieceMemory } from './piece-memory.ts';
import type { Lease, PassingBlob, PieceBuffer, PieceClaim, StoredBlob } from './types.ts';

interface MemoryBlobComponents {
  readonly memory: PieceMemory;
  readonly readPool: BufferPool;
}

/** Pieces that may wait for the reader; more than a download fetches ahead of one. */
const MAX_WAITING = 4;

/**
 * A blob on its way through a node that has no room to keep it: the pieces that have come and not been passed on yet. They
 * lie in the memory that all pieces share. The one that the reader is at stays there, and those behind it as long as readers do
 * not hold too much; what gives way has to come again.
 */
export class MemoryBlob implements PassingBlob {
  readonly key: BlobKey;
  readonly layout: PieceLayout;
  readonly have: Bitmap;
  /** Never known of it as a whole: who reads it to the end checks its digest. */
  readonly whole = false;
  readonly #c: MemoryBlobComponents;
  readonly #pieces: PresentPieces;
  readonly #claims = new Map<number, PieceClaim>();
  /** Writers that wait for the reader: one that is sent a blob from start to end must not run ahead of it. */
  readonly #waiting = new Set<() => void>();
  /** Keep those pieces from giving way that a writer has gone past: it does not come back for one. */
  readonly #pins = new Map<number, Lease>();
  /** The same blob, whole on disk: what its pieces must be. */
  readonly #verified: StoredBlob | undefined;
  /** The piece that the reader is at. */
  #at = 0;
  #closed = false;

  constructor(
    components: MemoryBlobComponents,
    init: {
      readonly key: BlobKey;
      readonly size: number;
      /** What is on disk of it. */
      readonly kept: StoredBlob | undefined;
      /** False: what is on disk need not come. */
      readonly anew: boolean;
    },
  ) {
    this.#c = components;
    this.key = init.key;
    this.layout = layoutOf(init.size);
    const { kept } = init;
    const same = kept?.layout.size === init.size && kept.layout.pieceSize === this.layout.pieceSize;
    this.have = same && !init.anew ? kept.have.clone() : new Bitmap(this.layout.pieceCount);
    this.#verified = same && init.anew && kept.whole ? kept : undefined;
    this.#pieces = new PresentPieces((piece) => {
      this.have.clear(piece);
      this.#claims.delete(piece);
      this.#wake();
    });
  }

  claim(piece: number): PieceClaim | undefined {
    return this.#claims.get(piece);
  }

  async write(piece: number, buffer: PieceBuffer, claim: PieceClaim): Promise<void> {
    if (!(buffer instanceof ArrivingPiece)) {
      buffer.release();
      throw new TidepoolError('INTERNAL', `piece ${piece} of ${this.key} came in a buffer from elsewhere`);
    }
    const own = buffer.adopt();
    try {
      this.#checkSame(piece, claim);
      while (!this.#closed && this.#mustWait(piece, own.length)) {
        await new Promise<void>((resolve) => this.#waiting.add(resolve));
      }
      if (this.#closed) throw new TidepoolError('ABORTED', `nobody reads ${this.key} any more`);
      if (piece < this.#at || this.have.has(piece) || own.length !== pieceLength(this.layout, piece)) return;
      this.have.set(piece);
      this.#claims.set(piece, claim);
      this.#c.memory.keep(this.#pieces, piece, own);
      if (piece === this.#at || this.#c.memory.mayPin(own.length)) this.#pin(piece);
    } finally {
      own.release();
    }
  }

  async lease(start: number, maxBytes: number): Promise<Lease> {
    const piece = Math.floor(start / this.layout.pieceSize);
    const from = start - pieceRange(this.layout, piece).start;
    const hot = this.#c.memory.lease(this.#pieces, piece, from, maxBytes);
    if (hot !== undefined) return hot;
    if (!this.#pieces.has(piece)) throw this.#gone(piece);
    // Slow readers hold so much that no more may be lent out: a copy, of which there are few, and those are waited for.
    const copy = await this.#c.readPool.take(Math.min(maxBytes, pieceLength(this.layout, piece)));
    const held = this.#pieces.get(piece);
    if (held === undefined) {
      this.#c.readPool.give(copy);
      throw this.#gone(piece);
    }
    const length = held.memory.copy(copy, 0, from, Math.min(held.length, from + maxBytes));
    return new OnceLease(copy.subarray(0, length), () => this.#c.readPool.give(copy));
  }

  async verify(): Promise<'whole' | 'mismatch'> {
    throw new TidepoolError('INTERNAL', `${this.key} is passed on and never here as a whole`);
  }

  async drop(pieces: Iterable<number>): Promise<void> {
    for (const piece of pieces) this.#forget(piece);
  }

  seek(piece: number): void {
    this.#at = piece;
    for (const earlier of [...this.#pieces.keys()]) if (earlier < piece) this.#forget(earlier);
    this.#pin(piece);
    this.#wake();
  }

  /** Nobody reads it any more: what is here is let go, and what still comes is refused. */
  close(): void {
    this.#closed = true;
    for (const piece of [...this.#pieces.keys()]) this.#forget(piece);
    this.#wake();
  }

  /**
   * The one that the reader is at never does: it would wait for the reader, who waits for it. Of others only one does where
   * they could not be kept for certain, and only while the reader has something to read: all of them hold memory meanwhile.
   */
  #mustWait(piece: number, length: number): boolean {
    if (piece <= this.#at) return false;
    if (this.#pieces.size >= MAX_WAITING) return true;
    return !this.#c.memory.mayPin(length) && this.#pieces.has(this.#at) && this.#waiting.size === 0;
  }

  #pin(piece: number): void {
    if (this.#pins.has(piece)) return;
    const pin = this.#c.memory.pin(this.#pieces, piece);
    if (pin !== undefined) this.#pins.set(piece, pin);
  }

  #checkSame(piece: number, { sha256 }: PieceClaim): void {
    const right = this.#verified?.claim(piece)?.sha256;
    if (right === undefined || Buffer.compare(right, sha256) === 0) return;
    throw new TidepoolError(
      'PIECE_CORRUPT',
      `piece ${piece} of ${this.key} is not the one that was verified here`,
    );
  }

  #forget(piece: number): void {
    const pin = this.#pins.get(piece);
    this.#pins.delete(piece);
    pin?.release();
    this.#c.memory.forget(this.#pieces, piece);
  }

  /** Also of one that was on disk and is no more: it has to come then. */
  #gone(piece: number): TidepoolError {
    this.have.clear(piece);
    return new TidepoolError('PIECE_NOT_HELD', `piece ${piece} of ${this.key} is not here`);
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

/** Tells of each piece whose memory was wanted for something else. */
class PresentPieces extends Map<number, HotPiece> {
  readonly #onGone: (piece: number) => void;

  constructor(onGone: (piece: number) => void) {
    super();
    this.#onGone = onGone;
  }

  override delete(piece: number): boolean {
    const was = super.delete(piece);
    if (was) this.#onGone(piece);
    return was;
  }
}
