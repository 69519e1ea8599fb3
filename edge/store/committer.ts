import type { Clock } from '../../shared/clock.ts';
import { isTidepoolError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import type { BlobMarks, BlobTable } from '../index/blob-table.ts';
import { FLUSH_RETRY_MS } from './constants.ts';
import type { StoreRoom } from './types.ts';

/** A blob with something to mark. */
export interface Committable {
  /** Makes what was written durable, and takes it down for the next marks. */
  sync(): Promise<void>;
  /** What is durable, as it shall stand in the index; undefined when the blob is gone. */
  marks(): BlobMarks | undefined;
  /** The marks just given are in the index. */
  committed(): void;
}

/** Makes writes durable and marks them, many at a time: a sync each piece would cost more than all the rest. */
export class Committer {
  readonly #blobs: Pick<BlobTable, 'mark'>;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #room: StoreRoom | undefined;
  readonly #flushBytes: number;
  readonly #flushMs: number;
  #dirty = new Set<Committable>();
  #dirtyBytes = 0;
  #cancelTimer: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #stopped = false;

  constructor(
    components: { blobs: Pick<BlobTable, 'mark'>; clock: Clock; log: Logger; room?: StoreRoom | undefined },
    init: { flushBytes: number; flushMs: number },
  ) {
    this.#blobs = components.blobs;
    this.#clock = components.clock;
    this.#log = components.log;
    this.#room = components.room;
    this.#flushBytes = init.flushBytes;
    this.#flushMs = init.flushMs;
  }

  /** A blob has `bytes` more to mark. */
  note(blob: Committable, bytes: number): void {
    this.#dirty.add(blob);
    this.#dirtyBytes += bytes;
    if (this.#dirtyBytes >= this.#flushBytes) this.flushSoon();
    else this.#arm(this.#flushMs);
  }

  /** Starts a batch without waiting for it. */
  flushSoon(): void {
    this.flush().catch((error: unknown) => {
      if (this.#room !== undefined && isTidepoolError(error, 'STORE_FULL')) {
        // It says so itself, once.
        void this.#room.make();
        return;
      }
      this.#log.error({ err: error }, 'written pieces could not be marked; they will be tried again');
    });
  }

  /** Resolves when all that was noted before is marked. @throws TidepoolError STORE_FULL, STORE_CORRUPT */
  flush(): Promise<void> {
    if (this.#running !== undefined) {
      // What was noted after that one began is not in it.
      this.#next ??= this.#running
        .catch(() => undefined)
        .then(() => {
          this.#next = undefined;
          return this.flush();
        });
      return this.#next;
    }
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** Marks what there is, once; no timer is left. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#disarm();
    try {
      await this.flush();
    } finally {
      this.#disarm();
    }
  }

  async #run(): Promise<void> {
    this.#disarm();
    const batch = [...this.#dirty];
    this.#dirty = new Set();
    this.#dirtyBytes = 0;
    const failures: unknown[] = [];
    const durable: Committable[] = [];
    for (const blob of batch) {
      // One after the other: a sync holds a thread of the pool that reads and writes need too.
      try {
        await blob.sync();
        durable.push(blob);
      } catch (error) {
        failures.push(error);
      }
    }
    try {
      this.#mark(durable);
    } catch (error) {
      for (const blob of durable) this.#dirty.add(blob);
      this.#arm(FLUSH_RETRY_MS);
      failures.push(error);
    }
    if (failures.length > 0) throw failures[0];
  }

  #mark(blobs: readonly Committable[]): void {
    const marked: Committable[] = [];
    const batch: BlobMarks[] = [];
    for (const blob of blobs) {
      const marks = blob.marks();
      if (marks === undefined) continue;
      batch.push(marks);
      marked.push(blob);
    }
    if (batch.length === 0) return;
    this.#blobs.mark(batch);
    for (const blob of marked) blob.committed();
  }

  #arm(ms: number): void {
    if (this.#stopped || this.#cancelTimer !== undefined) return;
    this.#cancelTimer = this.#clock.after(ms, () => {
      this.#cancelTimer = undefined;
      this.flushSoon();
    });
  }

  #disarm(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }
}
