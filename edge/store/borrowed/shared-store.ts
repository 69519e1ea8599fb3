import type { Clock } from '../../../shared/clock.ts';
import { every } from '../../../shared/clock.ts';
import { describeError } from '../../../shared/errors.ts';
import type { BlobKey } from '../../../shared/ids.ts';
import type { Startable } from '../../../shared/lifecycle.ts';
import type { Logger } from '../../../shared/log.ts';
import type { BlobStore, PassingBlob, PassingStore, PieceBuffer, StoredBlob, StoreUsage } from '../types.ts';
import type { BorrowedBlobs } from './borrowed-blobs.ts';
import { TWICE_ALL_MS, TWICE_LOOK_MS } from './constants.ts';

export interface SharedStoreComponents {
  readonly own: BlobStore & PassingStore;
  readonly borrowed: Pick<BorrowedBlobs, 'get' | 'holds' | 'keys'>;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * What lies in files of our own and what lies in the container runtime's, as one store. It is written to our own alone. A
 * blob that lies in both is given up here, where that is wished: the runtime's is the one that it needs anyway.
 */
export class SharedStore implements BlobStore, PassingStore, Startable {
  readonly name = 'shared-store';
  readonly #c: SharedStoreComponents;
  /** Perhaps in both places. */
  readonly #twice = new Set<BlobKey>();
  #keepTwice = true;
  #releasing: Promise<void> = Promise.resolve();
  #cancel: () => void = () => undefined;
  #cancelAll: () => void = () => undefined;
  #stopped = false;
  releasedBlobs = 0;
  releasedBytes = 0;
  /** True for a blob of which our own copy has to stay: somebody writes to it, or was promised it. */
  busy: (key: BlobKey) => boolean = () => true;

  constructor(components: SharedStoreComponents) {
    this.#c = components;
  }

  async start(): Promise<void> {
    this.#stopped = false;
    this.#cancel = every(this.#c.clock, TWICE_LOOK_MS, () => void this.releaseTwice());
    // What was fetched here while the runtime's copy could not be had.
    this.#cancelAll = every(this.#c.clock, TWICE_ALL_MS, () => this.#noteAll());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    this.#cancelAll();
    await this.#releasing;
  }

  setKeepTwice(keep: boolean): void {
    if (keep === this.#keepTwice) return;
    this.#keepTwice = keep;
    this.#noteAll();
  }

  /** The runtime has this one too. */
  heldTwice(key: BlobKey): void {
    if (!this.#keepTwice) this.#twice.add(key);
  }

  get(key: BlobKey): StoredBlob | undefined {
    return this.#c.borrowed.get(key) ?? this.#c.own.get(key);
  }

  open(key: BlobKey, size: number): StoredBlob {
    return this.#c.own.open(key, size);
  }

  pass(key: BlobKey, size: number, init?: { readonly anew: boolean }): PassingBlob {
    return this.#c.own.pass(key, size, init);
  }

  buffer(length: number, signal?: AbortSignal): Promise<PieceBuffer> {
    return this.#c.own.buffer(length, signal);
  }

  async reach(key: BlobKey, signal?: AbortSignal): Promise<void> {
    if (this.#c.borrowed.get(key) === undefined) await this.#c.own.reach?.(key, signal);
  }

  /** Of our own alone. */
  remove(key: BlobKey): Promise<void> {
    return this.#c.own.remove(key);
  }

  flush(): Promise<void> {
    return this.#c.own.flush();
  }

  /** What lies in our own files: the runtime's are its own business. */
  usage(): StoreUsage {
    return this.#c.own.usage();
  }

  /** Gives up our own copies of what the runtime has. Resolves when all are gone that can go now; failures are logged. */
  releaseTwice(): Promise<void> {
    this.#releasing = this.#releasing.then(() => this.#release());
    return this.#releasing;
  }

  #noteAll(): void {
    for (const key of this.#c.borrowed.keys()) this.heldTwice(key);
  }

  async #release(): Promise<void> {
    for (const key of [...this.#twice]) {
      if (this.#stopped || this.#keepTwice) return;
      try {
        await this.#releaseOne(key);
      } catch (error) {
        this.#c.log.warn(
          { key, why: describeError(error) },
          'cannot give up what the container runtime has too',
        );
      }
    }
  }

  async #releaseOne(key: BlobKey): Promise<void> {
    const { borrowed, own } = this.#c;
    const mine = borrowed.holds(key) ? own.get(key) : undefined;
    if (mine === undefined) {
      this.#twice.delete(key);
      return;
    }
    if (this.busy(key) || borrowed.get(key) === undefined) return;
    const bytes = mine.whole ? mine.layout.size : 0;
    this.#twice.delete(key);
    // The row of the runtime's copy was written before this one goes, durably, and with it all that came before.
    await own.remove(key);
    this.releasedBlobs++;
    this.releasedBytes += bytes;
    this.#c.log.debug({ key, bytes }, 'the container runtime has it: no second copy is kept');
  }
}
