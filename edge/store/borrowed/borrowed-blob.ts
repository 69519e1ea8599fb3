import { Bitmap } from '../../../shared/bitmap.ts';
import type { Clock } from '../../../shared/clock.ts';
import { describeError, TidepoolError } from '../../../shared/errors.ts';
import type { BlobKey, NodeName } from '../../../shared/ids.ts';
import { layoutOf, type PieceLayout, pieceRange } from '../../../shared/pieces.ts';
import type { BorrowedRow } from '../../index/borrowed-table.ts';
import type { BufferPool } from '../buffer-pool.ts';
import { READ_MAX_BYTES } from '../constants.ts';
import { OnceLease } from '../piece-memory.ts';
import type { Lease, PieceBuffer, PieceClaim, StoredBlob } from '../types.ts';
import { BorrowedFile } from './borrowed-file.ts';
import { HASH_BYTES } from './constants.ts';

export interface BorrowedBlobComponents {
  readonly clock: Clock;
  readonly readPool: BufferPool;
  /** The file is gone, or is not the one that was checked, or reads otherwise: nothing of it may be served again. */
  readonly onLost: (key: BlobKey, why: string) => void;
}

/**
 * A blob whose bytes lie in a file of another program's. It is read, and never written to nor deleted. Whoever is reading it
 * reads on when its name is gone, as long as reads follow each other.
 */
export class BorrowedBlob implements StoredBlob {
  readonly key: BlobKey;
  readonly layout: PieceLayout;
  readonly have: Bitmap;
  readonly #c: BorrowedBlobComponents;
  readonly #file: BorrowedFile;
  readonly #hashes: Uint8Array;
  readonly #self: NodeName;
  #ended = false;

  constructor(
    components: BorrowedBlobComponents,
    row: BorrowedRow,
    init: { readonly path: string; readonly self: NodeName },
  ) {
    this.#c = components;
    this.key = row.key;
    this.layout = layoutOf(row.size);
    const { pieceCount } = this.layout;
    this.have = new Bitmap(pieceCount, new Uint8Array(Math.ceil(pieceCount / 8)).fill(0xff));
    this.#file = new BorrowedFile(components, { path: init.path, validator: row.validator });
    this.#hashes = row.hashes;
    this.#self = init.self;
  }

  get whole(): boolean {
    return !this.#ended;
  }

  claim(piece: number): PieceClaim | undefined {
    if (!this.have.has(piece)) return undefined;
    const sha256 = Uint8Array.prototype.slice.call(
      this.#hashes,
      piece * HASH_BYTES,
      (piece + 1) * HASH_BYTES,
    );
    return { sha256, reader: this.#self, verified: true };
  }

  /** Every piece is here: there is nothing to write. */
  async write(piece: number, buffer: PieceBuffer): Promise<void> {
    buffer.release();
    if (!this.have.has(piece)) throw this.#gone(piece);
  }

  async lease(start: number, maxBytes: number): Promise<Lease> {
    if (!(start >= 0 && start < this.layout.size && maxBytes > 0)) {
      throw new TidepoolError(
        'RANGE_NOT_SATISFIABLE',
        `${maxBytes} bytes from ${start} of ${this.key}: it has ${this.layout.size}`,
      );
    }
    const piece = Math.floor(start / this.layout.pieceSize);
    const length = Math.min(maxBytes, pieceRange(this.layout, piece).end - start, READ_MAX_BYTES);
    const memory = await this.#c.readPool.take(length);
    const lease = new OnceLease(memory.length === length ? memory : memory.subarray(0, length), () =>
      this.#c.readPool.give(memory),
    );
    try {
      if (this.#ended && !this.#file.open) throw this.#gone(piece);
      const count = await this.#file.read(lease.bytes, start);
      if (count === length) return lease;
      throw new TidepoolError('STORE_CORRUPT', `${this.#file.path} ends at ${start + count}`);
    } catch (error) {
      lease.release();
      this.#lose(describeError(error));
      throw this.#gone(piece, error);
    }
  }

  async verify(): Promise<'whole' | 'mismatch'> {
    if (this.#ended) throw this.#gone(0);
    return 'whole';
  }

  /** Somebody found pieces to be wrong: a file that is wrong in one place is trusted in none. */
  async drop(pieces: Iterable<number>): Promise<void> {
    for (const piece of pieces) {
      this.#lose(`piece ${piece} does not read as it did`);
      return;
    }
  }

  /** Nothing new is begun with it; what is being read comes to its end. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (let piece = 0; piece < this.layout.pieceCount; piece++) this.have.clear(piece);
  }

  close(): void {
    this.end();
    this.#file.close();
  }

  #lose(why: string): void {
    if (this.#ended) return;
    this.end();
    this.#c.onLost(this.key, why);
  }

  #gone(piece: number, cause?: unknown): TidepoolError {
    return new TidepoolError(
      'PIECE_NOT_HELD',
      `piece ${piece} of ${this.key} was in ${this.#file.path}, which cannot be read any more`,
      cause === undefined ? {} : { cause },
    );
  }
}
