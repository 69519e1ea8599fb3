import { createHash } from 'node:crypto';
import type { Lease, PieceBuffer, PieceClaim, StoredBlob } from '../../edge/store/types.ts';
import { Bitmap } from '../../shared/bitmap.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { type BlobKey, type Digest, digestOf } from '../../shared/ids.ts';
import { layoutOf, type PieceLayout, pieceLength, pieceRange } from '../../shared/pieces.ts';
import type { NodeStore } from './sim-store.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** Written and not yet durable, as long as the store's own commits take. */
const FLUSH_MS = 1_000;

const hashes = new WeakMap<Uint8Array, Buffer>();

/** A piece's digest; once for each buffer, since pieces go from store to store without being copied. */
export function sha256Of(bytes: Uint8Array): Buffer {
  let hash = hashes.get(bytes);
  if (hash === undefined) {
    hash = createHash('sha256').update(bytes).digest();
    hashes.set(bytes, hash);
  }
  return hash;
}

/** A blob that the simulated registry has, with content of its own. */
export interface SimContent {
  readonly digest: Digest;
  readonly size: number;
  readonly pieces: readonly Uint8Array[];
}

const contents = new Map<Digest, SimContent>();

/** Content `n`; the same in every world of the process. */
export function contentOf(n: number, size: number): SimContent {
  const digest = digestOf(Buffer.from(`content ${n} of ${size}`));
  let content = contents.get(digest);
  if (content === undefined) {
    const layout = layoutOf(size);
    const pieces = Array.from({ length: layout.pieceCount }, (_, piece) => {
      const bytes = Buffer.alloc(pieceLength(layout, piece));
      bytes.write(`${digest} piece ${piece}`);
      return bytes;
    });
    content = { digest, size, pieces };
    contents.set(digest, content);
  }
  return content;
}

/** What the registry sends of a blob, up to the end of a piece. */
export function contentFrom(digest: Digest, start: number, most: number): Uint8Array {
  const content = contents.get(digest);
  if (content === undefined) throw new Error(`no content ${digest}`);
  const { pieceSize } = layoutOf(content.size);
  const inPiece = start % pieceSize;
  return content.pieces[Math.floor(start / pieceSize)]?.subarray(inPiece, inPiece + most) ?? Buffer.alloc(0);
}

/** Whether these are the piece's right bytes. */
export function isRight(key: BlobKey, piece: number, bytes: Uint8Array): boolean {
  const right = contents.get(key as Digest)?.pieces[piece];
  return right !== undefined && (right === bytes || sha256Of(right).equals(sha256Of(bytes)));
}

interface StoredPiece {
  readonly bytes: Uint8Array;
  readonly claim: PieceClaim;
  readonly writtenAt: number;
}

/** The store's contract with real bytes in memory, and what of it a power cut leaves. */
export class ByteStore implements NodeStore {
  readonly blobs = new Map<BlobKey, ByteBlob>();
  /** Buffers lent out. */
  lent = 0;
  /** No byte more can be written. */
  full = false;
  readonly clock: VirtualClock;

  constructor(clock: VirtualClock) {
    this.clock = clock;
  }

  get(key: BlobKey): ByteBlob | undefined {
    return this.blobs.get(key);
  }

  open(key: BlobKey, size: number): ByteBlob {
    const blob = this.blobs.get(key) ?? new ByteBlob(this, key, layoutOf(size));
    if (blob.layout.size !== size) throw new TidepoolError('SIZE_MISMATCH', `${key} has another size here`);
    this.blobs.set(key, blob);
    return blob;
  }

  async buffer(length: number, signal?: AbortSignal): Promise<PieceBuffer> {
    signal?.throwIfAborted();
    return this.#lend(Buffer.alloc(length));
  }

  async receive(from: StoredBlob, piece: number, lie = false): Promise<PieceBuffer> {
    const bytes = from instanceof ByteBlob ? from.pieces.get(piece)?.bytes : undefined;
    if (bytes === undefined) throw new TidepoolError('PEER_UNREACHABLE', 'the piece went away on its way');
    return this.#lend(lie ? Buffer.from(bytes).fill(7, 0, 64) : bytes);
  }

  async remove(key: BlobKey): Promise<void> {
    this.blobs.delete(key);
  }

  async flush(): Promise<void> {}

  usage() {
    return { bytes: 0, blobs: this.blobs.size };
  }

  /** What is there after a power cut now; without an index only whole blobs are known for what they are. */
  afterPowerCut(index: 'kept' | 'lost'): ByteStore {
    const next = new ByteStore(this.clock);
    const durableAt = this.clock.mono() - FLUSH_MS;
    for (const [key, blob] of this.blobs) {
      const copy = new ByteBlob(next, key, blob.layout);
      for (const [piece, stored] of blob.pieces) {
        if (stored.writtenAt <= durableAt) copy.put(piece, stored);
      }
      copy.whole = blob.whole && copy.have.full;
      if (index === 'kept' || copy.whole) next.blobs.set(key, copy);
    }
    return next;
  }

  /** Pieces whose bytes are not what the registry has. */
  wrongPieces(): string[] {
    const wrong: string[] = [];
    for (const [key, { pieces }] of this.blobs) {
      for (const [piece, { bytes }] of pieces) if (!isRight(key, piece, bytes)) wrong.push(`${key}#${piece}`);
    }
    return wrong;
  }

  #lend(bytes: Uint8Array): PieceBuffer {
    this.lent++;
    let released = false;
    return {
      bytes,
      release: () => {
        if (released) throw new Error('a buffer is released twice');
        released = true;
        this.lent--;
      },
    };
  }
}

export class ByteBlob implements StoredBlob {
  readonly key: BlobKey;
  readonly layout: PieceLayout;
  readonly have: Bitmap;
  readonly pieces = new Map<number, StoredPiece>();
  whole = false;
  readonly #store: ByteStore;

  constructor(store: ByteStore, key: BlobKey, layout: PieceLayout) {
    this.#store = store;
    this.key = key;
    this.layout = layout;
    this.have = new Bitmap(layout.pieceCount);
  }

  put(piece: number, stored: StoredPiece): void {
    this.pieces.set(piece, stored);
    this.have.set(piece);
  }

  claim(piece: number): PieceClaim | undefined {
    const claim = this.pieces.get(piece)?.claim;
    return claim === undefined ? undefined : { ...claim, verified: claim.verified || this.whole };
  }

  async write(piece: number, buffer: PieceBuffer, claim: PieceClaim): Promise<void> {
    const { bytes } = buffer;
    buffer.release();
    if (this.have.has(piece)) return;
    if (this.#store.full) throw new TidepoolError('STORE_FULL', 'no space is left for a piece');
    this.put(piece, { bytes, claim, writtenAt: this.#store.clock.mono() });
  }

  async lease(start: number, maxBytes: number): Promise<Lease> {
    const piece = Math.floor(start / this.layout.pieceSize);
    const stored = this.pieces.get(piece);
    if (stored === undefined) throw new TidepoolError('PIECE_NOT_HELD', `piece ${piece} of ${this.key}`);
    const from = start - pieceRange(this.layout, piece).start;
    return { bytes: stored.bytes.subarray(from, from + maxBytes), release: () => undefined };
  }

  async verify(): Promise<'whole' | 'mismatch'> {
    for (let piece = 0; piece < this.layout.pieceCount; piece++) {
      const stored = this.pieces.get(piece);
      if (stored === undefined || !isRight(this.key, piece, stored.bytes)) return 'mismatch';
    }
    this.whole = true;
    return 'whole';
  }

  async drop(pieces: Iterable<number>): Promise<void> {
    for (const piece of pieces) {
      this.have.clear(piece);
      this.pieces.delete(piece);
      this.whole = false;
    }
  }
}
