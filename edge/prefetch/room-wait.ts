import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import { ROOM_RETRY } from './constants.ts';

/** The disk that images come to. */
export interface DiskRoom {
  /** Whether anything is kept at all now. */
  open(): boolean;
  /** Bytes that it still takes. */
  free(): Promise<number>;
}

interface RoomWaitComponents {
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  readonly room: DiskRoom;
}

interface RoomWaitInit {
  readonly bytes: number;
  /** Room that was there, and was not enough after all, is waited for longer. */
  readonly afterTries: number;
  /** Called once. */
  readonly onRoom: () => void;
}

/** Looks now and then whether the disk takes so many bytes. */
export class RoomWait {
  readonly #c: RoomWaitComponents;
  readonly #init: RoomWaitInit;
  #cancel: () => void = () => undefined;
  #over = false;

  constructor(components: RoomWaitComponents, init: RoomWaitInit) {
    this.#c = components;
    this.#init = init;
    this.#lookIn();
  }

  end(): void {
    this.#over = true;
    this.#cancel();
  }

  #lookIn(): void {
    const { baseMs, maxMs } = ROOM_RETRY;
    const ms = Math.min(maxMs, baseMs * 2 ** this.#init.afterTries) * (0.5 + this.#c.random() / 2);
    this.#cancel = this.#c.clock.after(ms, () => void this.#look());
  }

  async #look(): Promise<void> {
    const { log, room } = this.#c;
    let free = 0;
    try {
      if (room.open()) free = await room.free();
    } catch (error) {
      log.debug({ why: describeError(error) }, 'nobody knows how full the disk is');
    }
    if (this.#over) return;
    if (free < this.#init.bytes) {
      this.#lookIn();
      return;
    }
    this.#over = true;
    this.#init.onRoom();
  }
}
