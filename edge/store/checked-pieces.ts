import { createHash } from 'node:crypto';
import { Bitmap } from '../../shared/bitmap.ts';
import type { Clock } from '../../shared/clock.ts';
import type { BlobKey } from '../../shared/ids.ts';
import type { BlobFiles } from './blob-files.ts';
import type { BufferPool } from './buffer-pool.ts';
import { CHECK_AGAIN_MS, READ_MAX_BYTES } from './constants.ts';
import { readLease } from './read-lease.ts';

/**
 * Which pieces of a blob have been found to be on the disk what they were when they came. A disk changes bytes without a
 * word, so that holds for a while only; within it a piece that many ask for is hashed once.
 */
export class CheckedPieces {
  readonly #clock: Clock;
  readonly #pieces: Bitmap;
  #since: number;

  constructor(components: { readonly clock: Clock }, init: { readonly pieceCount: number }) {
    this.#clock = components.clock;
    this.#pieces = new Bitmap(init.pieceCount);
    this.#since = components.clock.mono();
  }

  has(piece: number): boolean {
    const now = this.#clock.mono();
    if (now - this.#since >= CHECK_AGAIN_MS) {
      this.#since = now;
      for (let each = 0; each < this.#pieces.size; each++) this.#pieces.clear(each);
    }
    return this.#pieces.has(piece);
  }

  add(piece: number): void {
    this.#pieces.set(piece);
  }

  forget(piece: number): void {
    this.#pieces.clear(piece);
  }
}

/** The sha256 of bytes [start, end) as they are in the blob's file. @throws what reading them fails with */
export async function hashOnDisk(
  components: { readonly files: BlobFiles; readonly readPool: BufferPool },
  key: BlobKey,
  start: number,
  end: number,
): Promise<Buffer> {
  const hash = createHash('sha256');
  for (let position = start; position < end; ) {
    const lease = await readLease(components, key, position, Math.min(READ_MAX_BYTES, end - position));
    hash.update(lease.bytes);
    position += lease.bytes.length;
    lease.release();
  }
  return hash.digest();
}
