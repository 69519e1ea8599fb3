import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { BlobKey, NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { layoutOf, MAX_BLOB_BYTES } from '../../shared/pieces.ts';
import { type EventSink, NO_EVENTS } from '../../shared/wire/events.ts';
import type { BlobRow, BlobTable } from '../index/blob-table.ts';
import type { DocumentTable } from '../index/types.ts';
import { BlobFiles } from './blob-files.ts';
import { BufferPool } from './buffer-pool.ts';
import { Committer } from './committer.ts';
import {
  CACHE_BYTES,
  FLUSH_BYTES,
  FLUSH_MS,
  IDLE_MS,
  OPEN_FILES,
  READ_BYTES,
  READY_BLOBS,
} from './constants.ts';
import { type DamageCounts, DamageLog } from './damage-log.ts';
import { IndexRebuild, type RebuildState } from './index-rebuild.ts';
import { type StoreIo, systemIo } from './io.ts';
import { MemoryBlob } from './memory-blob.ts';
import { PieceBlob, type PieceBlobComponents } from './piece-blob.ts';
import { PieceMemory } from './piece-memory.ts';
import type { BlobStore, PassingBlob, PassingStore, PieceBuffer, StoreRoom, StoreUsage } from './types.ts';

export interface PieceStoreComponents {
  readonly blobs: BlobTable;
  /** Says whether the index knows all that lies in the store; without it an index is taken to. */
  readonly documents?: DocumentTable;
  readonly clock: Clock;
  readonly log: Logger;
  /** Told of damage and its repair. */
  readonly events?: EventSink;
  /** The disk, unless told otherwise. */
  readonly io?: StoreIo;
  /** Absent: nothing is done about a full disk. */
  readonly room?: StoreRoom | undefined;
}

export interface PieceStoreInit {
  /** This node: whoever checks what lies in the store says so. */
  readonly node?: NodeName;
  /** The agent's data directory; files go to `blobs/` in it. */
  readonly directory: string;
  /** Memory for pieces that arrive and just have. */
  readonly cacheBytes?: number;
  /** Memory for pieces read from disk. */
  readonly readBytes?: number;
  readonly openFiles?: number;
  readonly readyBlobs?: number;
  readonly flushBytes?: number;
  readonly flushMs?: number;
}

/** Blobs on disk. Nothing is loaded at the start: a blob's row is read when it is first asked for. */
export class PieceStore implements BlobStore, PassingStore, Startable {
  readonly name = 'store';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #rows: BlobTable;
  readonly #files: BlobFiles;
  readonly #memory: PieceMemory;
  readonly #readPool: BufferPool;
  readonly #committer: Committer;
  readonly #damage: DamageLog;
  readonly #rebuild: IndexRebuild | undefined;
  #life = new AbortController();
  readonly #parts: PieceBlobComponents;
  readonly #readyBlobs: number;
  /** Every blob that anybody holds: there must never be two of one. */
  readonly #known = new Map<BlobKey, WeakRef<PieceBlob>>();
  readonly #collected = new FinalizationRegistry<BlobKey>((key) => {
    if (this.#known.get(key)?.deref() === undefined) this.#known.delete(key);
  });
  /** Blobs kept ready, the one longest unused first. */
  readonly #ready = new Map<BlobKey, PieceBlob>();
  #bytes = 0;
  #blobs = 0;
  #running = false;
  #sweeping: Promise<void> = Promise.resolve();
  #lastAsked = 0;
  #cancelTrim: (() => void) | undefined;

  constructor(components: PieceStoreComponents, init: PieceStoreInit) {
    const { blobs, clock, log } = components;
    this.#clock = clock;
    this.#log = log;
    this.#rows = blobs;
    this.#files = new BlobFiles(
      { io: components.io ?? systemIo },
      { directory: init.directory, maxOpen: init.openFiles ?? OPEN_FILES },
    );
    this.#memory = new PieceMemory({ limitBytes: init.cacheBytes ?? CACHE_BYTES });
    this.#readPool = new BufferPool({ limitBytes: init.readBytes ?? READ_BYTES });
    this.#committer = new Committer(components, {
      flushBytes: init.flushBytes ?? FLUSH_BYTES,
      flushMs: init.flushMs ?? FLUSH_MS,
    });
    this.#damage = new DamageLog({ events: components.events ?? NO_EVENTS });
    const { documents } = components;
    this.#rebuild =
      documents === undefined || init.node === undefined
        ? undefined
        : new IndexRebuild(
            {
              rows: blobs,
              documents,
              files: this.#files,
              readPool: this.#readPool,
              events: components.events ?? NO_EVENTS,
              clock,
              log,
              onFound: (bytes) => {
                this.#bytes += bytes;
                this.#blobs++;
              },
            },
            { self: init.node },
          );
    this.#readyBlobs = init.readyBlobs ?? READY_BLOBS;
    this.#parts = {
      rows: blobs,
      files: this.#files,
      memory: this.#memory,
      readPool: this.#readPool,
      committer: this.#committer,
      clock,
      log,
      room: components.room,
      damage: this.#damage,
      onHeld: (bytes) => {
        this.#bytes += bytes;
      },
      onDiskRead: () => this.#asked(),
    };
  }

  /**
   * Must have run before anything is asked. Files that no row speaks of are deleted in the background; where the index was
   * lost, they are what it is made from.
   */
  async start(): Promise<void> {
    await this.#files.prepare();
    this.#rows.removeEmpty();
    const { bytes, blobs } = this.#rows.totals();
    this.#bytes = bytes;
    this.#blobs = blobs;
    this.#running = true;
    this.#life = new AbortController();
    const rebuild = this.#rebuild;
    this.#sweeping =
      rebuild === undefined || rebuild.complete ? this.#sweep() : rebuild.run(this.#life.signal);
  }

  /** Marks what was written, and closes the files. */
  async stop(): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    this.#cancelTrim?.();
    this.#cancelTrim = undefined;
    this.#life.abort();
    await this.#sweeping;
    try {
      await this.#committer.stop();
    } catch (error) {
      this.#log.error(
        { err: error },
        'the last written pieces could not be marked: they will be fetched again',
      );
    }
    await this.#files.close();
  }

  get(key: BlobKey): PieceBlob | undefined {
    const known = this.#known.get(key)?.deref();
    if (known !== undefined) return this.#keepReady(known);
    const row = this.#rows.find(key);
    return row === undefined ? undefined : this.#add(row);
  }

  open(key: BlobKey, size: number): PieceBlob {
    if (!Number.isSafeInteger(size) || size < 0 || size > MAX_BLOB_BYTES) {
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `${key} cannot have ${size} bytes: at most ${MAX_BLOB_BYTES}`,
      );
    }
    const known = this.get(key);
    if (known === undefined) {
      const { pieceSize, pieceCount } = layoutOf(size);
      const bitmap = new Uint8Array(Math.ceil(pieceCount / 8));
      const row = this.#rows.insert({ key, size, pieceSize, bitmap, lastUsed: this.#clock.now() });
      this.#blobs++;
      return this.#add(row);
    }
    if (known.layout.size !== size) {
      throw new TidepoolError(
        'SIZE_MISMATCH',
        `${key} is known with ${known.layout.size} bytes, not ${size}`,
      );
    }
    return known;
  }

  pass(key: BlobKey, size: number, init: { readonly anew: boolean } = { anew: false }): PassingBlob {
    const components = { memory: this.#memory, readPool: this.#readPool };
    return new MemoryBlob(components, { key, size, kept: this.get(key), ...init });
  }

  buffer(length: number, signal?: AbortSignal): Promise<PieceBuffer> {
    this.#asked();
    return this.#memory.lend(length, signal);
  }

  async remove(key: BlobKey): Promise<void> {
    const blob = this.get(key);
    if (blob === undefined) return;
    blob.remove();
    this.#blobs--;
    this.#known.delete(key);
    this.#ready.delete(key);
    await this.#files.remove(key);
  }

  flush(): Promise<void> {
    return this.#committer.flush();
  }

  /** What the disk has done since the start. */
  get damage(): DamageCounts {
    return this.#damage.counts;
  }

  /** How a lost index is coming back; undefined where none was. */
  get rebuild(): RebuildState | undefined {
    const state = this.#rebuild?.state;
    return state === undefined || (!state.running && state.files === 0) ? undefined : state;
  }

  async reach(key: BlobKey, signal?: AbortSignal): Promise<void> {
    await this.#rebuild?.reach(key, signal);
  }

  usage(): StoreUsage {
    return { bytes: this.#bytes, blobs: this.#blobs };
  }

  /** Resolves when the files that belong to no blob have been looked for and deleted. */
  swept(): Promise<void> {
    return this.#sweeping;
  }

  /** Memory held for pieces, bytes. */
  memoryUsage(): { readonly cacheBytes: number; readonly readBytes: number } {
    return { cacheBytes: this.#memory.allocated, readBytes: this.#readPool.allocated };
  }

  #add(row: BlobRow): PieceBlob {
    const blob = new PieceBlob(this.#parts, row);
    this.#known.set(row.key, new WeakRef(blob));
    this.#collected.register(blob, row.key);
    return this.#keepReady(blob);
  }

  #keepReady(blob: PieceBlob): PieceBlob {
    this.#ready.delete(blob.key);
    this.#ready.set(blob.key, blob);
    if (this.#ready.size > this.#readyBlobs) {
      const [oldest] = this.#ready.keys();
      if (oldest !== undefined) this.#ready.delete(oldest);
    }
    return blob;
  }

  /** Files whose rows were never written or are gone: a crash came between. */
  async #sweep(): Promise<void> {
    let swept = 0;
    try {
      for await (const keys of this.#files.list()) {
        if (!this.#running) return;
        for (const key of keys) {
          if (this.#rows.find(key) !== undefined) continue;
          await this.#files.remove(key);
          swept++;
        }
      }
    } catch (error) {
      this.#log.warn({ why: describeError(error) }, 'cannot look for files that belong to no blob');
    }
    if (swept > 0) this.#log.info({ files: swept }, 'deleted files that belong to no blob');
  }

  /** Memory is in use: it is looked at again when that has been a while ago. */
  #asked(): void {
    this.#lastAsked = this.#clock.mono();
    if (this.#running) this.#cancelTrim ??= this.#clock.after(IDLE_MS, () => this.#trim());
  }

  #trim(): void {
    const idleMs = this.#clock.mono() - this.#lastAsked;
    if (idleMs < IDLE_MS) {
      this.#cancelTrim = this.#clock.after(IDLE_MS - idleMs, () => this.#trim());
      return;
    }
    this.#cancelTrim = undefined;
    this.#memory.trim();
    this.#readPool.trim();
  }
}
