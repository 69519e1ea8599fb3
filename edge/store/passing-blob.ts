import { Bitmap } from '../../shared/bitmap.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { BlobKey } from '../../shared/ids.ts';
import { layoutOf, type PieceLayout, pieceLength, pieceRange } from '../../shared/pieces.ts';
import type { BufferPool } from './buffer-pool.ts';
import { ArrivingPiece, type HotPiece, OnceLease, type PieceMemory } from './piece-memory.ts';
import type { Lease, PieceBuffer, PieceClaim, StoredBlob } from './types.ts';

interface PassingBlobComponents {
  readonly memory: PieceMemory;
  readonly readPool: BufferPool;
}

/**
 * A blob on its way through a node that has no room to keep it: the pieces that have come and not been passed on yet. They
 * lie in the memory that all pieces share, and give way like any other when that is wanted: then they have to come again.
 */
export class PassingBlob implements StoredBlob {
  readonly key: BlobKey;
  readonly layout: PieceLayout;
  readonly have: Bitmap;
  /** Never known of it as a whole: who reads it to the end checks its digest. */
  readonly whole = false;
  readonly #c: PassingBlobComponents;
  readonly #pieces: PresentPieces;
  readonly #claims = new Map<number, PieceClaim>();

  constructor(components: PassingBlobComponents, init: { readonly key: BlobKey; readonly size: number }) {
    this.#c = components;
    this.key = init.key;
    this.layout = layoutOf(init.size);
    this.have = new Bitmap(this.layout.pieceCount);
    this.#pieces = new PresentPieces((piece) => {
      this.have.clear(piece);
      this.#claims.delete(piece);
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
      if (this.have.has(piece) || own.length !== pieceLength(this.layout, piece)) return;
      this.have.set(piece);
      this.#claims.set(piece, claim);
      this.#c.memory.keep(this.#pieces, piece, own);
    } finally {
      own.release();
    }
  }

  async lease(start: number, maxBytes: number): Promise<Lease> {
    const piece = Math.floor(start / this.layout.pieceSize);
    const from = start - pieceRange(this.layout, piece).start;
    const hot = this.#c.memory.lease(this.#pieces, piece, from, maxBytes);
    if (hot !== undefined) return hot;
    // Slow readers hold so much that no more may be lent out: a copy, of which there are few, and those are waited for.
    const copy = await this.#c.readPool.take(Math.min(maxBytes, pieceLength(this.layout, piece)));
    const held = this.#pieces.get(piece);
    if (held === undefined) {
      this.#c.readPool.give(copy);
      throw new TidepoolError('PIECE_NOT_HELD', `piece ${piece} of ${this.key} is not here`);
    }
    const length = held.memory.copy(copy, 0, from, Math.min(held.length, from + maxBytes));
    return new OnceLease(copy.subarray(0, length), () => this.#c.readPool.give(copy));
  }

  async verify(): Promise<'whole' | 'mismatch'> {
    throw new TidepoolError('INTERNAL', `${this.key} is passed on and never here as a whole`);
  }

  async drop(pieces: Iterable<number>): Promise<void> {
    for (const piece of pieces) this.#c.memory.forget(this.#pieces, piece);
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
