import { type BigIntStats, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Clock } from '../../../shared/clock.ts';
import { describeError } from '../../../shared/errors.ts';
import { TokenBucket } from '../../../shared/flow/token-bucket.ts';
import type { BlobKey, NodeName } from '../../../shared/ids.ts';
import type { Startable } from '../../../shared/lifecycle.ts';
import type { Logger } from '../../../shared/log.ts';
import type { BorrowedTable } from '../../index/borrowed-table.ts';
import { BufferPool } from '../buffer-pool.ts';
import type { StoredBlob } from '../types.ts';
import { BorrowedBlob } from './borrowed-blob.ts';
import { checkFile } from './check-file.ts';
import { CheckQueue } from './check-queue.ts';
import { BORROWED_READ_BYTES, CHECK_BYTES_PER_SECOND, READY_BORROWED } from './constants.ts';
import { validatorOf } from './validator.ts';

export interface BorrowedBlobsComponents {
  readonly table: Pick<BorrowedTable, 'find' | 'list' | 'put' | 'remove'>;
  /** Of this node's own files. */
  readonly own: (key: BlobKey) => StoredBlob | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface BorrowedBlobsInit {
  readonly self: NodeName;
  /** Where the file of a blob is. */
  readonly pathOf: (key: BlobKey) => string;
  /** Bytes a second that are read to check files before anybody asks for them; Infinity for as fast as can be. */
  readonly checkRate?: number;
}

/** A file with a blob's name. */
interface Entry {
  readonly size: number;
  readonly validator: string;
  readonly checked: boolean;
  /** Its bytes are not what its name says. */
  wrong?: true;
  /** Some registry is known to have given these bytes; asked for until it is. */
  placed: boolean;
}

export interface BorrowedCounts {
  readonly blobs: number;
  readonly bytes: number;
  /** Of these, blobs whose bytes were checked. */
  readonly checked: number;
  readonly checkedBytes: number;
  /** Files whose bytes were not what their names say. */
  readonly wrong: number;
}

/**
 * Blobs whose bytes lie in another program's files. Nothing is said of one before its bytes were read through and hash to
 * its name; that is written down, so that it is done once.
 */
export class BorrowedBlobs implements Startable {
  readonly name = 'borrowed-blobs';
  readonly #c: BorrowedBlobsComponents;
  readonly #init: BorrowedBlobsInit;
  readonly #readPool = new BufferPool({ limitBytes: BORROWED_READ_BYTES });
  readonly #entries = new Map<BlobKey, Entry>();
  /** The one longest unused first. */
  readonly #ready = new Map<BlobKey, BorrowedBlob>();
  readonly #queue = new CheckQueue((key, hurried, signal) => this.#check(key, hurried, signal));
  readonly #pace: TokenBucket;
  #sharing = true;
  #wrong = 0;
  /** Told of each blob whose bytes are right; after a start, of those that were. */
  onChecked: (key: BlobKey) => void = () => undefined;
  /** Says, and may settle, whether it is known whose bytes a blob's are: else nobody may have them. */
  placed: (key: BlobKey) => boolean = () => false;

  constructor(components: BorrowedBlobsComponents, init: BorrowedBlobsInit) {
    this.#c = components;
    this.#init = init;
    const { checkRate = CHECK_BYTES_PER_SECOND } = init;
    this.#pace = new TokenBucket(components.clock, Number.isFinite(checkRate) ? checkRate : undefined);
  }

  /** What was checked before can be had from now on: a file is looked at when it is asked for. */
  async start(): Promise<void> {
    for (const { key, size, validator } of this.#c.table.list()) {
      if (!this.#entries.has(key)) this.#entries.set(key, { size, validator, checked: true, placed: false });
      this.onChecked(key);
    }
    if (this.#sharing) this.#queue.start();
  }

  async stop(): Promise<void> {
    await this.#queue.stop();
    for (const blob of this.#ready.values()) blob.close();
    this.#ready.clear();
  }

  /** Off: nothing is told or read of what lies there, and nothing is checked; what is there is still kept in mind. */
  setSharing(sharing: boolean): void {
    if (sharing === this.#sharing) return;
    this.#sharing = sharing;
    if (sharing) this.#queue.start();
    else {
      void this.#queue.stop();
      for (const blob of this.#ready.values()) blob.close();
      this.#ready.clear();
      // What is fetched meanwhile may be somebody else's.
      for (const entry of this.#entries.values()) entry.placed = false;
    }
  }

  /** Looks whether there is a file of this name, all of it. True when that is news. */
  async look(key: BlobKey): Promise<boolean> {
    let found: BigIntStats;
    try {
      found = await stat(this.#init.pathOf(key), { bigint: true });
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) {
        this.#c.log.debug({ key, why: describeError(error) }, 'a borrowed file cannot be looked at');
      }
      return this.vanished(key);
    }
    const size = Number(found.size);
    const validator = validatorOf(found);
    const before = this.#entries.get(key);
    if (before?.validator === validator) return false;
    if (before !== undefined) this.vanished(key);
    this.#entries.set(key, { size, validator, checked: false, placed: false });
    this.#queue.add(key);
    return true;
  }

  /** The file is gone: what is being read of it comes to its end, and that is all. True when that is news. */
  vanished(key: BlobKey): boolean {
    this.#queue.remove(key);
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    this.#entries.delete(key);
    const blob = this.#ready.get(key);
    this.#ready.delete(key);
    blob?.end();
    if (entry.checked) this.#c.table.remove(key);
    return true;
  }

  /** Names of the files that are known. */
  keys(): Iterable<BlobKey> {
    return this.#entries.keys();
  }

  /** There is a file of this name. */
  has(key: BlobKey): boolean {
    return this.#entries.has(key);
  }

  /** Its bytes are here and right, whoever may have them. */
  holds(key: BlobKey): boolean {
    return this.#entries.get(key)?.checked === true;
  }

  /** What can be read and told of now; one that is not checked yet is checked at once. */
  get(key: BlobKey): BorrowedBlob | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.wrong === true || !this.#sharing) return undefined;
    if (!entry.placed && !this.#place(key, entry)) return undefined;
    const ready = this.#ready.get(key);
    if (ready !== undefined) {
      this.#ready.delete(key);
      this.#ready.set(key, ready);
      return ready;
    }
    if (entry.checked) return this.#open(key, entry);
    this.#queue.want(key);
    return undefined;
  }

  counts(): BorrowedCounts {
    let [bytes, checked, checkedBytes] = [0, 0, 0];
    for (const entry of this.#entries.values()) {
      bytes += entry.size;
      if (!entry.checked) continue;
      checked++;
      checkedBytes += entry.size;
    }
    return { blobs: this.#entries.size, bytes, checked, checkedBytes, wrong: this.#wrong };
  }

  /** Resolves when nothing waits to be checked. */
  async settled(): Promise<void> {
    await this.#queue.settled();
  }

  #place(key: BlobKey, entry: Entry): boolean {
    // Whose bytes they are is settled when they can be had, and not before: what goes on meanwhile counts too.
    if (!entry.checked) return true;
    entry.placed = this.placed(key);
    return entry.placed;
  }

  #open(key: BlobKey, entry: Entry): BorrowedBlob | undefined {
    const path = this.#init.pathOf(key);
    const row = this.#c.table.find(key);
    const found = statSync(path, { bigint: true, throwIfNoEntry: false });
    if (row === undefined || found === undefined || validatorOf(found) !== entry.validator) {
      this.#lost(key, found === undefined ? 'it is gone' : 'another file has its name');
      return undefined;
    }
    const { clock } = this.#c;
    const blob = new BorrowedBlob(
      { clock, readPool: this.#readPool, onLost: (lost, why) => this.#lost(lost, why) },
      row,
      { path, self: this.#init.self },
    );
    this.#ready.set(key, blob);
    if (this.#ready.size > READY_BORROWED) {
      const [oldest] = this.#ready.keys();
      if (oldest !== undefined) this.#ready.delete(oldest);
    }
    return blob;
  }

  #lost(key: BlobKey, why: string): void {
    if (!this.#entries.has(key)) return;
    this.#c.log.info({ key, why }, 'a blob in the container runtime cannot be shared any more');
    this.vanished(key);
  }

  async #check(key: BlobKey, hurried: () => boolean, signal: AbortSignal): Promise<void> {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.checked || entry.wrong === true) return;
    try {
      const found = await checkFile(this.#init.pathOf(key), {
        own: (size) => {
          const own = this.#c.own(key);
          return own?.whole === true && own.layout.size === size ? own : undefined;
        },
        pace: (bytes) => (hurried() ? Promise.resolve() : this.#pace.take(bytes, { signal })),
        signal,
      });
      if (this.#entries.get(key) !== entry) return;
      if (found.key !== key) {
        this.#wrong++;
        entry.wrong = true;
        this.#c.log.error(
          { key, found: found.key, path: this.#init.pathOf(key) },
          'a blob of the container runtime does not match its digest, and is not shared: the runtime should fetch it again',
        );
        return;
      }
      const { size, validator, hashes } = found;
      this.#c.table.put({ key, size, validator, hashes });
      this.#entries.set(key, { size, validator, checked: true, placed: false });
      this.onChecked(key);
    } catch (error) {
      if (signal.aborted) return;
      this.#lost(key, describeError(error));
    }
  }
}
