import { createHash } from 'node:crypto';
import type { BlobKey, NodeName } from '../../shared/ids.ts';
import type { TakeBytes } from '../../shared/oci-layout/read-bundle.ts';
import { bundleRefused } from '../../shared/oci-layout/refusal.ts';
import type { BundleBlob } from '../../shared/oci-layout/statement.ts';
import { pieceLength } from '../../shared/pieces.ts';
import type { BlobStore, StoredBlob } from '../store/types.ts';

const SCRATCH_BYTES = 1024 * 1024;

interface BlobIntakeComponents {
  readonly store: Pick<BlobStore, 'get' | 'open' | 'buffer' | 'remove' | 'flush'>;
  /** Somebody is fetching it now: what is here is in use. */
  readonly active: (key: BlobKey) => boolean;
}

/** Brings the blobs of one bundle into the store, and takes them out again when the bundle turns out to be bad. */
export class BlobIntake {
  readonly #c: BlobIntakeComponents;
  readonly #self: NodeName;
  readonly #added = new Set<StoredBlob>();
  readonly #written = new Map<StoredBlob, number[]>();
  #newBytes = 0;

  constructor(components: BlobIntakeComponents, init: { readonly self: NodeName }) {
    this.#c = components;
    this.#self = init.self;
  }

  /** Bytes that were not here before. */
  get newBytes(): number {
    return this.#newBytes;
  }

  /**
   * Reads all of a blob, whether it is here already or not: a bundle with one wrong byte is no good.
   * @throws TidepoolError BUNDLE_REFUSED, STORE_FULL, and what reading throws
   */
  async take(blob: BundleBlob, read: TakeBytes, signal: AbortSignal): Promise<void> {
    const known = this.#c.store.get(blob.digest);
    if (known?.whole === true) return await checkOnly(blob, read, signal);
    const stored = this.#c.store.open(blob.digest, blob.size);
    if (known === undefined) this.#added.add(stored);
    const written: number[] = [];
    this.#written.set(stored, written);
    for (let piece = 0; piece < stored.layout.pieceCount; piece++) {
      signal.throwIfAborted();
      await this.#takePiece(stored, piece, written, read, signal);
    }
    if ((await stored.verify()) === 'mismatch') throw wrongBytes(blob);
  }

  /** Everything as it was before, as far as nobody else needs it by now. */
  async undo(): Promise<void> {
    // A file that is made durable just now would be made anew behind its removal. What fails in that is of no interest.
    await this.#c.store.flush().catch(() => undefined);
    for (const [stored, pieces] of this.#written) {
      if (this.#added.has(stored) && !this.#c.active(stored.key)) await this.#c.store.remove(stored.key);
      else await stored.drop(pieces);
    }
  }

  async #takePiece(
    stored: StoredBlob,
    piece: number,
    written: number[],
    read: TakeBytes,
    signal: AbortSignal,
  ): Promise<void> {
    const length = pieceLength(stored.layout, piece);
    const buffer = await this.#c.store.buffer(length, signal);
    let sha256: Buffer;
    try {
      await read(buffer.bytes);
      sha256 = createHash('sha256').update(buffer.bytes).digest();
      // What came from elsewhere and differs: one of the two is wrong, and the digest at the end tells which.
      const held = stored.claim(piece);
      if (held !== undefined && !sha256.equals(held.sha256)) await stored.drop([piece]);
    } catch (error) {
      buffer.release();
      throw error;
    }
    if (!stored.have.has(piece)) {
      written.push(piece);
      this.#newBytes += length;
    }
    await stored.write(piece, buffer, { sha256, reader: this.#self, verified: false });
  }
}

/** Reads a blob for its digest alone. @throws TidepoolError BUNDLE_REFUSED */
export async function checkOnly(blob: BundleBlob, read: TakeBytes, signal: AbortSignal): Promise<void> {
  const scratch = Buffer.alloc(Math.min(blob.size, SCRATCH_BYTES));
  const hash = createHash('sha256');
  for (let left = blob.size; left > 0; ) {
    signal.throwIfAborted();
    const part = scratch.subarray(0, Math.min(left, scratch.length));
    await read(part);
    hash.update(part);
    left -= part.length;
  }
  if (`sha256:${hash.digest('hex')}` !== blob.digest) throw wrongBytes(blob);
}

function wrongBytes({ digest }: BundleBlob): ReturnType<typeof bundleRefused> {
  return bundleRefused(`the bytes of ${digest} in it are others`);
}
