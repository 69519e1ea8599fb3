import type { Bitmap } from '../../shared/bitmap.ts';
import type { BlobKey, NodeName } from '../../shared/ids.ts';
import type { PieceLayout } from '../../shared/pieces.ts';

/**
 * What is said of a piece: its sha256, who read it from the origin, and whether whoever says so has verified the whole
 * blob. A claim, not a proof: only the blob's own digest proves anything.
 */
export interface PieceClaim {
  /** 32 bytes. */
  readonly sha256: Uint8Array;
  readonly reader: NodeName;
  readonly verified: boolean;
}

/** Bytes on loan. Valid until `release`; released exactly once, whatever happens. Never written to by the borrower. */
export interface Lease {
  readonly bytes: Uint8Array;
  release(): void;
}

/** A reused buffer that holds one piece while it arrives; given to {@link StoredBlob.write}, or released. */
export interface PieceBuffer {
  /** Exactly the length asked for. */
  readonly bytes: Uint8Array;
  release(): void;
}

/** One blob on disk: a sparse file of pieces and a row in the index. */
export interface StoredBlob {
  readonly key: BlobKey;
  readonly layout: PieceLayout;
  /** Pieces that can be read now. Live; only the store writes to it. */
  readonly have: Bitmap;
  /** True once all bytes have been checked against the blob's own digest. */
  readonly whole: boolean;
  /** What is known of a piece that is held. */
  claim(piece: number): PieceClaim | undefined;
  /**
   * Takes over `buffer` (also on failure), whose bytes the caller has hashed against `claim`. Resolves when the piece can
   * be read; it is marked in the index once durable, in batches. Writing a piece that is held does nothing.
   * @throws TidepoolError STORE_FULL
   */
  write(piece: number, buffer: PieceBuffer, claim: PieceClaim): Promise<void>;
  /**
   * At most `maxBytes` from `start`, within one piece; from memory when the piece was just written, else from disk.
   * @throws TidepoolError PIECE_NOT_HELD, STORE_CORRUPT
   */
  lease(start: number, maxBytes: number): Promise<Lease>;
  /**
   * Checks the blob's digest once all pieces are held; the digest of the leading pieces is kept up while they arrive, so
   * this is quick at the end of a stream. 'mismatch' leaves the pieces as they are: the caller decides whom to blame.
   */
  verify(): Promise<'whole' | 'mismatch'>;
  /** Forgets pieces: unmarked durably first, then freed on disk. */
  drop(pieces: Iterable<number>): Promise<void>;
}

export interface StoreUsage {
  /** Bytes of pieces held. */
  readonly bytes: number;
  readonly blobs: number;
}

export interface BlobStore {
  /** A blob of which at least a row exists. */
  get(key: BlobKey): StoredBlob | undefined;
  /**
   * Opens a blob, making it when there is none.
   * @throws TidepoolError SIZE_MISMATCH when it is known with another size, STORE_FULL
   */
  open(key: BlobKey, size: number): StoredBlob;
  /**
   * A piece buffer. Waits while all are lent out, so that memory stays bounded.
   * @throws the signal's reason
   */
  buffer(length: number, signal?: AbortSignal): Promise<PieceBuffer>;
  /** Resolves when it is known whether a blob is here: at once, but while a lost index is made anew. */
  reach?(key: BlobKey, signal?: AbortSignal): Promise<void>;
  /** Unmarks and deletes a blob; open leases stay valid. */
  remove(key: BlobKey): Promise<void>;
  /** Makes durable and marks all that was written so far. */
  flush(): Promise<void>;
  usage(): StoreUsage;
}

/** A blob of which nothing is kept: its pieces are in memory until they have been read. */
export interface PassingBlob extends StoredBlob {
  /**
   * Says where the reader is. Earlier pieces are let go, and one of them that still comes, as from an origin that sends a blob
   * from its first byte only, is not kept; leases of them stay valid.
   */
  seek(piece: number): void;
  /** Nobody reads it any more. */
  close(): void;
}

export interface PassingStore {
  /**
   * For one reader, who closes it. What is on disk of it need not come; `anew`: all of it comes, and where the blob is here
   * whole, only what is the same. {@link StoredBlob.write} throws PIECE_CORRUPT for other bytes.
   */
  pass(key: BlobKey, size: number, init?: { readonly anew: boolean }): PassingBlob;
}

/** Whether the disk takes more. */
export interface StoreRoom {
  /** False: nothing is to be kept for now. */
  readonly open: boolean;
  /** A write found no room. True when some has been made, and writing again may go well. */
  make(): Promise<boolean>;
}
