import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import type { StoreRoom } from '../store/types.ts';
import { MAKE_BYTES, REOPEN_MS } from './constants.ts';
import { type DiskFree, hasRoom } from './pressure.ts';
import type { Reserve } from './reserve.ts';

interface RoomComponents {
  readonly reserve: Pick<Reserve, 'release' | 'take'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly events: EventSink;
}

const MIB = 1024 * 1024;

/** What is told of it. */
export interface RoomState {
  /** Wall clock ms since when nothing is kept, or null. */
  readonly fullSince: number | null;
  /** Times that it came to that. */
  readonly timesFull: number;
}

/**
 * Whether the disk takes more. A write that finds no room waits here while some is made; where none can be, the node keeps
 * nothing more and passes on what is asked of it, until there is room again.
 */
export class Room implements StoreRoom {
  /** Frees at least so many bytes of what may go; how many it were. Set once the keeper of the cache is there. */
  free: (bytes: number) => Promise<number> = async () => 0;
  /** Called when nothing can be kept any more. */
  onFull: () => void = () => undefined;
  readonly #c: RoomComponents;
  #fullSince: number | null = null;
  #timesFull = 0;
  #making: Promise<boolean> | undefined;
  #triedAt = Number.NEGATIVE_INFINITY;
  #stopped = false;

  constructor(components: RoomComponents) {
    this.#c = components;
  }

  get open(): boolean {
    return this.#fullSince === null;
  }

  get state(): RoomState {
    return { fullSince: this.#fullSince, timesFull: this.#timesFull };
  }

  /** For good: what is written from here on has to do with what there is. */
  stop(): void {
    this.#stopped = true;
  }

  make(): Promise<boolean> {
    if (!this.open || this.#stopped) return Promise.resolve(false);
    this.#making ??= this.#make().finally(() => {
      this.#making = undefined;
    });
    return this.#making;
  }

  /** Told of each look at the disk, after what may go has gone: closes below the hard mark, opens when there is enough. */
  async seen(use: DiskFree): Promise<void> {
    if (this.#stopped) return;
    if (this.open) {
      if (hasRoom(use, true)) await this.#replenish();
      else this.#close(`only ${Math.round(use.freeBytes / MIB)} MiB are free on the file system`);
      return;
    }
    const now = this.#c.clock.mono();
    if (!hasRoom(use, false) || now - this.#triedAt < REOPEN_MS) return;
    this.#triedAt = now;
    try {
      // The numbers of a file system do not tell of quotas: that something can be written does.
      await this.#c.reserve.take();
    } catch (error) {
      this.#c.log.debug({ why: describeError(error) }, 'the disk takes nothing yet');
      return;
    }
    const since = this.#fullSince;
    this.#fullSince = null;
    this.#c.log.info(
      { fullForMs: since === null ? 0 : this.#c.clock.now() - since, freeBytes: use.freeBytes },
      'there is room again: content is kept as before',
    );
  }

  async #make(): Promise<boolean> {
    try {
      this.#c.reserve.release();
      const freed = await this.free(MAKE_BYTES);
      if (freed > 0) {
        this.#c.log.info({ freedBytes: freed }, 'the disk was full; room has been made');
        return true;
      }
      this.#close('a write found no room, and nothing that is here may be evicted');
    } catch (error) {
      this.#close(`a write found no room, and none can be made: ${describeError(error)}`);
    }
    return false;
  }

  async #replenish(): Promise<void> {
    try {
      await this.#c.reserve.take();
    } catch (error) {
      this.#c.log.debug({ why: describeError(error) }, 'no room for the reserve');
    }
  }

  #close(why: string): void {
    if (!this.open) return;
    this.#fullSince = this.#c.clock.now();
    this.#triedAt = this.#c.clock.mono();
    this.#timesFull++;
    this.#c.log.warn({ why }, 'nothing more is kept until there is room: content is passed on without');
    this.onFull();
    this.#c.events.note({ kind: 'store-full', detail: why });
  }
}
