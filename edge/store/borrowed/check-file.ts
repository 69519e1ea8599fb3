import { createHash, type Hash } from 'node:crypto';
import { constants, fstatSync } from 'node:fs';
import { layoutOf, type PieceLayout, pieceLength } from '../../../shared/pieces.ts';
import { systemIo } from '../io.ts';
import type { StoredBlob } from '../types.ts';
import { CHECK_READ_BYTES, HASH_BYTES } from './constants.ts';
import { validatorOf } from './validator.ts';

export interface CheckedFile {
  /** Of the bytes that were read. */
  readonly key: string;
  readonly size: number;
  readonly validator: string;
  /** Of each piece, one after the other. */
  readonly hashes: Uint8Array;
}

/**
 * Reads a file through once: what its bytes hash to, and its pieces. Where the same blob lies in a file of our own, whose
 * pieces were hashed when they came, only the whole is hashed.
 * @param pace resolves when that many bytes may be read
 */
export async function checkFile(
  path: string,
  components: {
    readonly pace: (bytes: number) => Promise<void>;
    readonly own: (size: number) => Pick<StoredBlob, 'layout' | 'claim'> | undefined;
    readonly signal: AbortSignal;
  },
): Promise<CheckedFile> {
  const { pace, own, signal } = components;
  const fd = await systemIo.open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const before = fstatSync(fd, { bigint: true });
    const size = Number(before.size);
    const known = own(size);
    const pieces = known === undefined ? undefined : hashesOf(known);
    const total = createHash('sha256');
    const each = pieces === undefined ? new PieceHasher(layoutOf(size)) : undefined;
    const memory = Buffer.allocUnsafeSlow(Math.max(1, Math.min(CHECK_READ_BYTES, size)));
    for (let position = 0; position < size; ) {
      signal.throwIfAborted();
      const bytes = memory.subarray(0, Math.min(memory.length, size - position));
      await pace(bytes.length);
      const count = await systemIo.read(fd, bytes, position);
      if (count === 0) break;
      const read = bytes.subarray(0, count);
      total.update(read);
      each?.update(read);
      position += count;
    }
    return {
      key: `sha256:${total.digest('hex')}`,
      size,
      validator: validatorOf(before),
      hashes: pieces ?? each?.end() ?? new Uint8Array(0),
    };
  } finally {
    await systemIo.close(fd);
  }
}

/** Undefined unless every piece has been hashed. */
function hashesOf(blob: Pick<StoredBlob, 'layout' | 'claim'>): Uint8Array | undefined {
  const hashes = new Uint8Array(blob.layout.pieceCount * HASH_BYTES);
  for (let piece = 0; piece < blob.layout.pieceCount; piece++) {
    const claim = blob.claim(piece);
    if (claim?.verified !== true) return undefined;
    hashes.set(claim.sha256, piece * HASH_BYTES);
  }
  return hashes;
}

class PieceHasher {
  readonly #layout: PieceLayout;
  readonly #hashes: Uint8Array;
  #piece = 0;
  #left: number;
  #hash: Hash = createHash('sha256');

  constructor(layout: PieceLayout) {
    this.#layout = layout;
    this.#hashes = new Uint8Array(layout.pieceCount * HASH_BYTES);
    this.#left = layout.pieceCount === 0 ? 0 : pieceLength(layout, 0);
  }

  update(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length && this.#piece < this.#layout.pieceCount; ) {
      const part = bytes.subarray(from, from + this.#left);
      this.#hash.update(part);
      from += part.length;
      this.#left -= part.length;
      if (this.#left > 0) return;
      this.#hashes.set(this.#hash.digest(), this.#piece * HASH_BYTES);
      this.#hash = createHash('sha256');
      this.#piece++;
      if (this.#piece < this.#layout.pieceCount) this.#left = pieceLength(this.#layout, this.#piece);
    }
  }

  end(): Uint8Array {
    return this.#hashes;
  }
}
