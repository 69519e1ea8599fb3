import type { BlobTable } from '../index/blob-table.ts';
import { CLAIM_BYTES, CLAIMS_PER_CHUNK } from './constants.ts';
import type { PieceClaim } from './types.ts';

const HASH_BYTES = 32;
const VERIFIED = 1;

/** The claims of one blob, packed in chunks; a chunk is read from the index when first needed. */
export class ClaimBook {
  readonly #table: Pick<BlobTable, 'chunk' | 'readers'>;
  readonly #id: number;
  readonly #pieceCount: number;
  readonly #chunks = new Map<number, Buffer>();

  constructor(table: Pick<BlobTable, 'chunk' | 'readers'>, blob: { id: number; pieceCount: number }) {
    this.#table = table;
    this.#id = blob.id;
    this.#pieceCount = blob.pieceCount;
  }

  /** What was last said of a piece; undefined when nothing was. */
  get(piece: number): PieceClaim | undefined {
    const { chunk, offset } = this.#locate(piece);
    const reader = this.#table.readers.nameOf(chunk.readUIntLE(offset + HASH_BYTES, 3));
    if (reader === undefined) return undefined;
    return {
      // A copy: the place may be written to while the claim is still looked at.
      sha256: Uint8Array.prototype.slice.call(chunk, offset, offset + HASH_BYTES),
      reader,
      verified: ((chunk[offset + CLAIM_BYTES - 1] ?? 0) & VERIFIED) !== 0,
    };
  }

  /** @throws TidepoolError STORE_FULL when a reader's name cannot be kept */
  set(piece: number, claim: PieceClaim): void {
    const reader = this.#table.readers.idOf(claim.reader);
    const { chunk, offset } = this.#locate(piece);
    chunk.set(claim.sha256, offset);
    chunk.writeUIntLE(reader, offset + HASH_BYTES, 3);
    chunk[offset + CLAIM_BYTES - 1] = claim.verified ? VERIFIED : 0;
  }

  /** The chunks that hold these pieces, by number. */
  chunksOf(pieces: Iterable<number>): Map<number, Uint8Array> {
    const chunks = new Map<number, Uint8Array>();
    for (const piece of pieces) {
      const number = Math.floor(piece / CLAIMS_PER_CHUNK);
      if (!chunks.has(number)) chunks.set(number, this.#chunk(number));
    }
    return chunks;
  }

  #locate(piece: number): { chunk: Buffer; offset: number } {
    return {
      chunk: this.#chunk(Math.floor(piece / CLAIMS_PER_CHUNK)),
      offset: (piece % CLAIMS_PER_CHUNK) * CLAIM_BYTES,
    };
  }

  #chunk(number: number): Buffer {
    let chunk = this.#chunks.get(number);
    if (chunk === undefined) {
      const claims = Math.min(CLAIMS_PER_CHUNK, this.#pieceCount - number * CLAIMS_PER_CHUNK);
      chunk = Buffer.alloc(claims * CLAIM_BYTES);
      const kept = this.#table.chunk(this.#id, number);
      if (kept?.length === chunk.length) chunk.set(kept);
      this.#chunks.set(number, chunk);
    }
    return chunk;
  }
}
