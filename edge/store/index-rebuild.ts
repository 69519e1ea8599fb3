import { createHash } from 'node:crypto';
import { type Clock, delay } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import { SingleFlight } from '../../shared/flow/single-flight.ts';
import type { BlobKey, NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { layoutOf, type PieceLayout, pieceRange } from '../../shared/pieces.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import type { BlobTable } from '../index/blob-table.ts';
import { STORE_COMPLETE } from '../index/constants.ts';
import type { DocumentTable } from '../index/types.ts';
import type { BlobFiles } from './blob-files.ts';
import type { BufferPool } from './buffer-pool.ts';
import { ClaimBook } from './claim-book.ts';
import { READ_MAX_BYTES, REBUILD_BYTES_A_SECOND } from './constants.ts';
import { readLease } from './read-lease.ts';

export interface RebuildState {
  readonly running: boolean;
  /** Files looked at, and of these the blobs that were right; the others are deleted. */
  readonly files: number;
  readonly found: number;
  readonly bytes: number;
}

interface IndexRebuildComponents {
  readonly rows: BlobTable;
  readonly documents: DocumentTable;
  readonly files: BlobFiles;
  readonly readPool: BufferPool;
  readonly events: EventSink;
  readonly clock: Clock;
  readonly log: Logger;
  /** A blob of so many bytes is known now. */
  readonly onFound: (bytes: number) => void;
}

interface Checked {
  readonly layout: PieceLayout;
  /** 32 bytes a piece. */
  readonly hashes: readonly Buffer[];
}

/**
 * Brings a lost index back from the blobs' files: one whose bytes hash to its name is whole, and its pieces' hashes come out
 * of the same reading. Half a blob cannot be told from a damaged one and goes. What crashes in the middle goes on, since what
 * was found has its row.
 */
export class IndexRebuild {
  readonly #c: IndexRebuildComponents;
  readonly #self: NodeName;
  readonly #looking = new SingleFlight<BlobKey, void>();
  #isComplete: boolean;
  #isRunning = false;
  #files = 0;
  #found = 0;
  #bytes = 0;

  constructor(components: IndexRebuildComponents, init: { readonly self: NodeName }) {
    this.#c = components;
    this.#self = init.self;
    this.#isComplete = components.documents.get(STORE_COMPLETE) === true;
  }

  /** Every file of the store has its row, or belongs to nothing. */
  get complete(): boolean {
    return this.#isComplete;
  }

  get state(): RebuildState {
    return { running: this.#isRunning, files: this.#files, found: this.#found, bytes: this.#bytes };
  }

  /** Looks at every file that has no row. Resolves at the end, or soon after `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    this.#isRunning = true;
    try {
      for await (const keys of this.#c.files.list()) {
        for (const key of keys) {
          signal.throwIfAborted();
          if (this.#c.rows.find(key) !== undefined) continue;
          const before = this.#bytes;
          await this.#look(key, signal);
          const ms = ((this.#bytes - before) / REBUILD_BYTES_A_SECOND) * 1000;
          if (ms > 0) await delay(this.#c.clock, ms, signal);
        }
      }
      this.#finish();
    } catch (error) {
      if (signal.aborted) return;
      this.#c.log.warn({ why: describeError(error) }, 'cannot look through the files of the store');
    } finally {
      this.#isRunning = false;
    }
  }

  /** Resolves when it is known whether this blob is here: somebody waits for it. */
  async reach(key: BlobKey, signal?: AbortSignal): Promise<void> {
    if (this.#isComplete || this.#c.rows.find(key) !== undefined || this.#c.files.sizeOf(key) === 0) return;
    await this.#look(key, signal);
  }

  #finish(): void {
    this.#c.documents.put(STORE_COMPLETE, true);
    this.#isComplete = true;
    if (this.#files === 0) return;
    const facts = { files: this.#files, blobs: this.#found, bytes: this.#bytes };
    this.#c.log.warn(facts, 'the index was lost, and is made anew from the files of the store');
    const detail = `${this.#found} blobs of ${this.#files} files, ${this.#bytes} bytes`;
    this.#c.events.note({ kind: 'index-rebuilt', detail });
  }

  #look(key: BlobKey, signal: AbortSignal | undefined): Promise<void> {
    return this.#looking.run(
      key,
      async (inner) => {
        const checked = await this.#check(key, inner);
        // Somebody may have begun to fetch it meanwhile, and writes to the file.
        if (this.#c.rows.find(key) !== undefined) return;
        this.#files++;
        if (checked === undefined) {
          await this.#c.files.remove(key);
          return;
        }
        // What was read may not be on the disk yet.
        await this.#c.files.sync(key);
        await this.#c.files.syncName(key);
        if (this.#c.rows.find(key) === undefined) this.#keep(key, checked);
      },
      signal,
    );
  }

  /** What the file holds, when that is what its name says. A key that is no hash of the bytes proves nothing. */
  async #check(key: BlobKey, signal: AbortSignal): Promise<Checked | undefined> {
    const size = this.#c.files.sizeOf(key);
    if (!key.startsWith('sha256:')) return undefined;
    const layout = layoutOf(size);
    const whole = createHash('sha256');
    const hashes: Buffer[] = [];
    for (let piece = 0; piece < layout.pieceCount; piece++) {
      const { start, end } = pieceRange(layout, piece);
      const hash = createHash('sha256');
      for (let position = start; position < end; ) {
        signal.throwIfAborted();
        const length = Math.min(READ_MAX_BYTES, end - position);
        const lease = await readLease(this.#c, key, position, length);
        hash.update(lease.bytes);
        whole.update(lease.bytes);
        position += length;
        lease.release();
        // Others are served meanwhile.
        await new Promise((resolve) => setImmediate(resolve));
      }
      hashes.push(hash.digest());
    }
    this.#bytes += size;
    return `sha256:${whole.digest('hex')}` === key ? { layout, hashes } : undefined;
  }

  #keep(key: BlobKey, { layout, hashes }: Checked): void {
    const { rows } = this.#c;
    const { size, pieceSize, pieceCount } = layout;
    const bitmap = new Uint8Array(Math.ceil(pieceCount / 8));
    const lastUsed = Math.min(this.#c.files.changedAt(key), this.#c.clock.now());
    const { id } = rows.insert({ key, size, pieceSize, bitmap, lastUsed });
    const claims = new ClaimBook(rows, { id, pieceCount });
    for (const [piece, sha256] of hashes.entries()) {
      claims.set(piece, { sha256, reader: this.#self, verified: true });
    }
    rows.mark([
      { id, whole: true, bitmap, heldBytes: size, lastUsed, chunks: claims.chunksOf(hashes.keys()) },
    ]);
    this.#found++;
    this.#c.onFound(size);
  }
}
