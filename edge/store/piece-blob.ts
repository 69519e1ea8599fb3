import { Bitmap } from '../../shared/bitmap.ts';
import type { Clock } from '../../shared/clock.ts';
import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { BlobKey } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { layoutOf, type PieceLayout, pieceLength, pieceRange } from '../../shared/pieces.ts';
import type { BlobMarks, BlobRow, BlobTable } from '../index/blob-table.ts';
import type { BlobFiles } from './blob-files.ts';
import type { BufferPool } from './buffer-pool.ts';
import { CheckedPieces, hashOnDisk } from './checked-pieces.ts';
import { ClaimBook } from './claim-book.ts';
import type { Committable, Committer } from './committer.ts';
import { READ_MAX_BYTES, TOUCH_MS } from './constants.ts';
import type { DamageLog } from './damage-log.ts';
import { toStoreError } from './io.ts';
import { bitmapOf, bytesOf, heldPieces } from './piece-maps.ts';
import { ArrivingPiece, type HotPieces, type PieceMemory } from './piece-memory.ts';
import { readLease } from './read-lease.ts';
import { RunningDigest } from './running-digest.ts';
import type { Lease, PieceBuffer, PieceClaim, StoredBlob, StoreRoom } from './types.ts';
import { withRoom } from './with-room.ts';

export interface PieceBlobComponents {
  readonly rows: BlobTable;
  readonly files: BlobFiles;
  readonly memory: PieceMemory;
  readonly readPool: BufferPool;
  readonly committer: Committer;
  readonly clock: Clock;
  readonly log: Logger;
  readonly room?: StoreRoom | undefined;
  readonly damage: DamageLog;
  /** Told how many bytes more, or fewer, are held. */
  readonly onHeld: (bytes: number) => void;
  /** Told of each read from disk. */
  readonly onDiskRead: () => void;
}

/**
 * One blob. `have` is what can be read; behind it come the pieces that are written and not yet durable (`#fresh`), those
 * being made durable (`#syncing`) and those that the index says are here (`#marked`). A piece moves on in that order only,
 * and is taken back in the other.
 */
export class PieceBlob implements StoredBlob, Committable {
  readonly key: BlobKey;
  readonly layout: PieceLayout;
  readonly have: Bitmap;
  readonly #c: PieceBlobComponents;
  readonly #id: number;
  readonly #claims: ClaimBook;
  readonly #hot: HotPieces = new Map();
  readonly #digest: RunningDigest;
  readonly #checked: CheckedPieces;
  /** A file's key is not the hash of its bytes. */
  readonly #hashed: boolean;
  readonly #writing = new Map<number, Promise<unknown>>();
  readonly #fresh = new Set<number>();
  readonly #syncing = new Set<number>();
  #marked: Bitmap;
  #marking: Bitmap | undefined;
  #whole: boolean;
  #verifying: Promise<'whole' | 'mismatch'> | undefined;
  #lastUsed: number;
  /** The file's name is durable. */
  #named: boolean;
  /** Grows with each drop: bytes read from disk across one may be of two minds. */
  #drops = 0;
  #removed = false;

  constructor(components: PieceBlobComponents, row: BlobRow) {
    this.#c = components;
    this.#id = row.id;
    this.key = row.key;
    this.#hashed = row.key.startsWith('sha256:');
    this.layout = layoutOf(row.size, row.pieceSize);
    this.have = bitmapOf(row, this.layout.pieceCount);
    this.#marked = this.have.clone();
    this.#whole = row.whole;
    this.#lastUsed = row.lastUsed;
    this.#named = this.have.count > 0;
    this.#claims = new ClaimBook(components.rows, { id: row.id, pieceCount: this.layout.pieceCount });
    this.#digest = new RunningDigest({
      pieceCount: this.layout.pieceCount,
      has: (piece) => this.have.has(piece),
      read: (piece, take) => this.#readPiece(piece, take),
    });
    this.#checked = new CheckedPieces(components, this.layout);
    this.#checkFile();
  }

  get whole(): boolean {
    return this.#whole;
  }

  /** Bytes of the pieces held. */
  get heldBytes(): number {
    return bytesOf(this.have, this.layout);
  }

  claim(piece: number): PieceClaim | undefined {
    if (!this.have.has(piece)) return undefined;
    const claim = this.#claims.get(piece);
    return claim === undefined || claim.verified || !this.#whole ? claim : { ...claim, verified: true };
  }

  async write(piece: number, buffer: PieceBuffer, claim: PieceClaim): Promise<void> {
    const own = buffer instanceof ArrivingPiece ? buffer.adopt() : buffer;
    try {
      this.#checkPiece(piece);
      if (own.bytes.length !== pieceLength(this.layout, piece)) {
        throw new TidepoolError(
          'INVALID_ARGUMENT',
          `piece ${piece} of ${this.key} has ${pieceLength(this.layout, piece)} bytes, not ${own.bytes.length}`,
        );
      }
      for (let other = this.#writing.get(piece); other !== undefined; other = this.#writing.get(piece)) {
        await other;
      }
      if (this.have.has(piece)) return;
      const writing = withRoom(this.#c.room, this.key, () => this.#write(piece, own, claim));
      const settle = (): boolean => this.#writing.delete(piece);
      this.#writing.set(piece, writing.then(settle, settle));
      await writing;
    } finally {
      own.release();
    }
  }

  async lease(start: number, maxBytes: number): Promise<Lease> {
    if (!(start >= 0 && start < this.layout.size && maxBytes > 0)) {
      throw new TidepoolError(
        'RANGE_NOT_SATISFIABLE',
        `${maxBytes} bytes from ${start} of ${this.key}: it has ${this.layout.size}`,
      );
    }
    this.#touch();
    const piece = Math.floor(start / this.layout.pieceSize);
    const range = pieceRange(this.layout, piece);
    const length = Math.min(maxBytes, range.end - start);
    for (;;) {
      if (!this.have.has(piece)) {
        throw new TidepoolError('PIECE_NOT_HELD', `piece ${piece} of ${this.key} is not here`);
      }
      const hot = this.#c.memory.lease(this.#hot, piece, start - range.start, length);
      if (hot !== undefined) return hot;
      const cold = await this.#readDisk(piece, start, Math.min(length, READ_MAX_BYTES));
      if (cold !== undefined) return cold;
    }
  }

  verify(): Promise<'whole' | 'mismatch'> {
    this.#verifying ??= this.#verify().finally(() => {
      this.#verifying = undefined;
    });
    return this.#verifying;
  }

  /**
   * Looks at the piece on the disk: 'wrong' where it is not what it was when it came, and is forgotten now; 'absent' where
   * none is marked, or nothing is known to hold it against. Does not count as a use of the blob.
   */
  async check(piece: number): Promise<'right' | 'wrong' | 'absent'> {
    this.#checkPiece(piece);
    if (!this.#marked.has(piece) || this.claim(piece) === undefined) return 'absent';
    this.#checked.forget(piece);
    try {
      await this.#checkDisk(piece);
      return this.have.has(piece) ? 'right' : 'absent';
    } catch (error) {
      if (isTidepoolError(error, 'PIECE_NOT_HELD')) return 'wrong';
      throw error;
    }
  }

  async drop(pieces: Iterable<number>): Promise<void> {
    const list = [...new Set(pieces)];
    for (const piece of list) this.#checkPiece(piece);
    for (const piece of list) await this.#writing.get(piece);
    this.#forget(list.filter((piece) => this.have.has(piece)));
  }

  /** Ends the blob's life: it holds nothing from here on, and the row is gone for good. */
  remove(): void {
    this.#c.rows.remove(this.#id);
    this.#removed = true;
    this.#letGo(heldPieces(this.have));
    this.#marked = new Bitmap(this.layout.pieceCount);
  }

  async sync(): Promise<void> {
    if (this.#removed || (this.#fresh.size === 0 && this.#syncing.size === 0)) return;
    for (const piece of this.#fresh) this.#syncing.add(piece);
    this.#fresh.clear();
    try {
      if (!this.#named) await this.#c.files.syncName(this.key);
      await this.#c.files.sync(this.key);
      this.#named = true;
    } catch (error) {
      // After a failed sync the system may have thrown the data away and says so only once: it has to come again.
      if (!this.#removed) this.#letGo([...this.#syncing]);
      throw error;
    }
  }

  marks(): BlobMarks | undefined {
    if (this.#removed) return undefined;
    const marking = this.#marked.clone();
    for (const piece of this.#syncing) marking.set(piece);
    this.#marking = marking;
    return this.#marksOf(marking, this.#syncing);
  }

  committed(): void {
    if (this.#marking === undefined) return;
    this.#marked = this.#marking;
    this.#marking = undefined;
    this.#syncing.clear();
  }

  async #write(piece: number, buffer: PieceBuffer, claim: PieceClaim): Promise<void> {
    this.#checkAlive();
    const { start } = pieceRange(this.layout, piece);
    const file = await this.#c.files.acquire(this.key);
    try {
      this.#checkAlive();
      const written = file.write(buffer.bytes, start);
      // While another thread writes, this one hashes.
      if (this.#hashed) this.#digest.take(piece, buffer.bytes);
      await written;
      this.#checkAlive();
      this.#claims.set(piece, claim);
    } catch (error) {
      this.#digest.forget(piece);
      throw toStoreError(error, this.#c.files.path(this.key), 'write');
    } finally {
      file.release();
    }
    this.have.set(piece);
    this.#checked.add(piece);
    this.#fresh.add(piece);
    this.#lastUsed = this.#c.clock.now();
    if (buffer instanceof ArrivingPiece) this.#c.memory.keep(this.#hot, piece, buffer);
    this.#c.onHeld(buffer.bytes.length);
    this.#c.committer.note(this, buffer.bytes.length);
    if (this.#hashed) this.#digest.kick();
  }

  /** A lease read from disk; undefined when pieces were dropped meanwhile and the question has to be asked again. */
  async #readDisk(piece: number, start: number, length: number): Promise<Lease | undefined> {
    const drops = this.#drops;
    this.#c.onDiskRead();
    try {
      // Also where less is asked for: a part of a piece has no claim.
      if (!this.#checked.has(piece)) await this.#hashDisk(piece, drops);
      const lease = await readLease(this.#c, this.key, start, length);
      if (drops === this.#drops) return lease;
      lease.release();
      return undefined;
    } catch (error) {
      if (drops !== this.#drops) return undefined;
      throw this.#lost(piece, error);
    }
  }

  async #checkDisk(piece: number): Promise<void> {
    const drops = this.#drops;
    try {
      await this.#hashDisk(piece, drops);
    } catch (error) {
      if (drops === this.#drops) throw this.#lost(piece, error);
    }
  }

  /** @throws TidepoolError STORE_CORRUPT when the bytes on the disk are not those that came */
  async #hashDisk(piece: number, drops: number): Promise<void> {
    const { start, end } = pieceRange(this.layout, piece);
    const claim = this.claim(piece);
    if (claim === undefined) return;
    const found = await hashOnDisk(this.#c, this.key, start, end);
    if (drops !== this.#drops) return;
    if (!found.equals(claim.sha256)) {
      throw new TidepoolError(
        'STORE_CORRUPT',
        `piece ${piece} in ${this.#c.files.path(this.key)} is not what it was when it came: the disk has changed it`,
      );
    }
    this.#checked.add(piece);
  }

  /** A piece that cannot be read is not here: taken out, it can come again. */
  #lost(piece: number, error: unknown): TidepoolError {
    const failure = toStoreError(error, this.#c.files.path(this.key), 'read');
    if (failure.code === 'STORE_CORRUPT' && this.have.has(piece)) {
      this.#c.log.error({ key: this.key, piece, err: failure }, 'a piece cannot be read and is forgotten');
      this.#c.damage.found(this.key, piece);
      this.#forget([piece]);
    }
    if (failure.code !== 'STORE_CORRUPT') return failure;
    return new TidepoolError('PIECE_NOT_HELD', failure.message, { cause: error });
  }

  async #readPiece(piece: number, take: (bytes: Uint8Array) => void): Promise<void> {
    const { start, end } = pieceRange(this.layout, piece);
    for (let position = start; position < end; ) {
      const lease = await this.lease(position, end - position);
      take(lease.bytes);
      position += lease.bytes.length;
      lease.release();
    }
  }

  async #verify(): Promise<'whole' | 'mismatch'> {
    for (;;) {
      if (this.#whole) return 'whole';
      this.#checkAlive();
      if (!this.have.full) {
        throw new TidepoolError(
          'PIECE_NOT_HELD',
          `${this.key}: ${this.have.count} of ${this.layout.pieceCount} pieces are here, there is nothing to verify yet`,
        );
      }
      const drops = this.#drops;
      const matches = !this.#hashed || `sha256:${await this.#digest.finish()}` === this.key;
      if (drops !== this.#drops) continue;
      if (!matches) return 'mismatch';
      this.#whole = true;
      this.#c.damage.whole(this.key);
      // In the index it becomes whole in the batch that marks its last piece, after the data is durable.
      this.#c.committer.note(this, 0);
      this.#c.committer.flushSoon();
      return 'whole';
    }
  }

  /** Unmarks durably, then lets go: in this order, a crash finds no mark without its bytes. */
  #forget(pieces: readonly number[]): void {
    if (pieces.length === 0) return;
    const left = this.#marked.clone();
    for (const piece of pieces) left.clear(piece);
    if (left.count < this.#marked.count || this.#whole) {
      this.#c.rows.unmark({ ...this.#marksOf(left, []), whole: false });
      this.#marked = left;
    }
    this.#letGo(pieces);
  }

  #letGo(pieces: readonly number[]): void {
    this.#drops++;
    this.#whole = false;
    const before = this.heldBytes;
    for (const piece of pieces) {
      this.have.clear(piece);
      this.#checked.forget(piece);
      this.#fresh.delete(piece);
      this.#syncing.delete(piece);
      this.#c.memory.forget(this.#hot, piece);
      this.#digest.forget(piece);
    }
    this.#c.onHeld(this.heldBytes - before);
  }

  #marksOf(marked: Bitmap, fresh: Iterable<number>): BlobMarks {
    return {
      id: this.#id,
      whole: this.#whole && marked.full,
      bitmap: marked.toBytes(),
      heldBytes: bytesOf(marked, this.layout),
      lastUsed: this.#lastUsed,
      chunks: this.#claims.chunksOf(fresh),
    };
  }

  #touch(): void {
    const now = this.#c.clock.now();
    if (Math.abs(now - this.#lastUsed) < TOUCH_MS) return;
    this.#lastUsed = now;
    this.#c.committer.note(this, 0);
  }

  /** What the index says must be in the file, as far as the file's length can tell. */
  #checkFile(): void {
    if (this.#marked.count === 0) return;
    const bytes = this.#c.files.sizeOf(this.key);
    if (bytes >= this.layout.size) return;
    const missing = heldPieces(this.#marked).filter((piece) => pieceRange(this.layout, piece).end > bytes);
    if (missing.length === 0) return;
    this.#c.log.warn(
      { key: this.key, fileBytes: bytes, blobBytes: this.layout.size, pieces: missing.length },
      'the file is shorter than what is marked: the missing pieces are forgotten',
    );
    this.#forget(missing);
  }

  #checkPiece(piece: number): void {
    if (Number.isInteger(piece) && piece >= 0 && piece < this.layout.pieceCount) return;
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `${this.key} has no piece ${piece}: it has ${this.layout.pieceCount}`,
    );
  }

  #checkAlive(): void {
    if (this.#removed) throw new TidepoolError('CONFLICT', `${this.key} has been removed from the store`);
  }
}
