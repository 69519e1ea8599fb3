import { createHash } from 'node:crypto';
import type { BlobStore, Lease, PieceBuffer, PieceClaim, StoredBlob } from '../../edge/store/types.ts';
import { Bitmap } from '../../shared/bitmap.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { BlobKey } from '../../shared/ids.ts';
import { layoutOf, type PieceLayout, pieceLength } from '../../shared/pieces.ts';

const MOST_PIECE_BYTES = 8 * 1024 * 1024;
/** What every lease shows; nobody writes into it. */
const ZEROS = Buffer.alloc(MOST_PIECE_BYTES);

/** All simulated content is zeros: a piece's right digest follows from its length. */
const zeroHashes = new Map<number, Buffer>();
function zeroHash(length: number): Buffer {
  let hash = zeroHashes.get(length);
  if (hash === undefined) {
    hash = createHash('sha256').update(Buffer.alloc(length)).digest();
    zeroHashes.set(length, hash);
  }
  return hash;
}

/** A store of the simulation: a piece comes from a neighbour's by no wire of its own. */
export interface NodeStore extends BlobStore {
  /** The bytes of a piece that a neighbour's store holds, as they arrive here; others where that one lies. */
  receive(from: StoredBlob, piece: number, lie?: boolean): Promise<PieceBuffer>;
}

/** The store's contract without bytes: bitmaps and claims. Nobody reads what the shared buffer holds. */
export class SimStore implements NodeStore {
  readonly blobs = new Map<BlobKey, SimBlob>();
  readonly #scratch = Buffer.alloc(MOST_PIECE_BYTES);

  get(key: BlobKey): SimBlob | undefined {
    return this.blobs.get(key);
  }

  open(key: BlobKey, size: number): SimBlob {
    const blob = this.blobs.get(key) ?? new SimBlob(key, layoutOf(size));
    this.blobs.set(key, blob);
    return blob;
  }

  async buffer(length: number): Promise<PieceBuffer> {
    return { bytes: this.#scratch.subarray(0, length), release: () => undefined };
  }

  receive(from: StoredBlob, piece: number): Promise<PieceBuffer> {
    return this.buffer(pieceLength(from.layout, piece));
  }

  async remove(key: BlobKey): Promise<void> {
    this.blobs.delete(key);
  }

  async flush(): Promise<void> {}

  usage() {
    return { bytes: 0, blobs: this.blobs.size };
  }
}

export class SimBlob implements StoredBlob {
  readonly key: BlobKey;
  readonly layout: PieceLayout;
  readonly have: Bitmap;
  whole = false;
  readonly #claims = new Map<number, PieceClaim>();

  constructor(key: BlobKey, layout: PieceLayout) {
    this.key = key;
    this.layout = layout;
    this.have = new Bitmap(layout.pieceCount);
  }

  claim(piece: number): PieceClaim | undefined {
    const claim = this.#claims.get(piece);
    return claim === undefined ? undefined : { ...claim, verified: this.whole };
  }

  async write(piece: number, buffer: PieceBuffer, claim: PieceClaim): Promise<void> {
    buffer.release();
    if (this.have.has(piece)) return;
    this.#claims.set(piece, claim);
    this.have.set(piece);
  }

  async lease(start: number, maxBytes: number): Promise<Lease> {
    const piece = Math.floor(start / this.layout.pieceSize);
    if (!this.have.has(piece)) throw new TidepoolError('PIECE_NOT_HELD', `piece ${piece}`);
    const length = Math.min(maxBytes, this.layout.size - start, (piece + 1) * this.layout.pieceSize - start);
    return { bytes: ZEROS.subarray(0, length), release: () => undefined };
  }

  async verify(): Promise<'whole' | 'mismatch'> {
    for (let piece = 0; piece < this.layout.pieceCount; piece++) {
      const claim = this.#claims.get(piece);
      if (claim === undefined || !zeroHash(pieceLength(this.layout, piece)).equals(claim.sha256))
        return 'mismatch';
    }
    this.whole = true;
    return 'whole';
  }

  async drop(pieces: Iterable<number>): Promise<void> {
    for (const piece of pieces) {
      this.have.clear(piece);
      this.#claims.delete(piece);
      this.whole = false;
    }
  }
}
