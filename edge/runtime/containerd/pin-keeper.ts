import type { Clock } from '../../../shared/clock.ts';
import { describeError } from '../../../shared/errors.ts';
import type { Startable } from '../../../shared/lifecycle.ts';
import type { Logger } from '../../../shared/log.ts';
import type { ImagePins } from './image-pins.ts';

interface PinKeeperComponents {
  readonly pins: Pick<ImagePins, 'pin' | 'unpin'>;
  /** Outlives restarts: what was pinned by this node's agent, and only that, is unpinned again. */
  readonly kept: { get(name: string): unknown; put(name: string, value: unknown): void };
  /** Images that are to stay, as pods name them in full. */
  readonly wanted: () => readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1). */
  readonly random: () => number;
}

/** Document in which the names of pinned images stand. */
const PINNED_DOCUMENT = 'runtime-pins';
/** Between looks: kubelet waits minutes before it collects images. */
const LOOK_MS = 60_000;
/** Looks after which every pin is set anew. */
const ALL_ANEW = 10;
/** All calls of one look. */
const LOOK_TIMEOUT_MS = 30_000;
/** Images pinned at most; of more, the first ones. */
const MAX_PINNED = 1_000;

/** Has containerd keep the images of prefetch jobs while the jobs stand, and lets go of them afterwards. */
export class PinKeeper implements Startable {
  readonly name = 'image-pins';
  readonly #c: PinKeeperComponents;
  /** Pinned lately: an image that was removed and came again has lost its pin. */
  readonly #sure = new Set<string>();
  #life = new AbortController();
  #cancel: () => void = () => undefined;
  #work: Promise<void> = Promise.resolve();
  #looks = 0;

  constructor(components: PinKeeperComponents) {
    this.#c = components;
  }

  async start(): Promise<void> {
    this.#life = new AbortController();
    this.#lookIn(LOOK_MS * this.#c.random());
  }

  async stop(): Promise<void> {
    this.#life.abort(new Error('the agent is stopping'));
    this.#cancel();
    await this.#work;
  }

  /** Pins and unpins what has changed. Resolves when that is done; failures are logged and tried again. */
  look(): Promise<void> {
    this.#work = this.#work.then(() => this.#look());
    return this.#work;
  }

  #lookIn(ms: number): void {
    this.#cancel = this.#c.clock.after(ms, () => {
      void this.look().then(() => {
        if (!this.#life.signal.aborted) this.#lookIn(LOOK_MS);
      });
    });
  }

  async #look(): Promise<void> {
    const { pins, kept, wanted, log } = this.#c;
    const signal = AbortSignal.any([this.#life.signal, AbortSignal.timeout(LOOK_TIMEOUT_MS)]);
    if (++this.#looks % ALL_ANEW === 0) this.#sure.clear();
    const names = new Set([...wanted()].slice(0, MAX_PINNED));
    const before = namesIn(kept.get(PINNED_DOCUMENT));
    const pinned = new Set(before);
    try {
      for (const name of names) {
        if (this.#sure.has(name)) continue;
        // Written down first: a pin that nobody remembers would stay for ever.
        if (!pinned.has(name)) kept.put(PINNED_DOCUMENT, [...pinned.add(name)]);
        if (await pins.pin(name, signal)) this.#sure.add(name);
      }
      for (const name of before) {
        if (names.has(name)) continue;
        await pins.unpin(name, signal);
        this.#sure.delete(name);
        pinned.delete(name);
        kept.put(PINNED_DOCUMENT, [...pinned]);
      }
    } catch (error) {
      if (this.#life.signal.aborted) return;
      log.debug({ why: describeError(error) }, 'the runtime does not take word of which images are to stay');
    }
  }
}

function namesIn(document: unknown): string[] {
  return Array.isArray(document) ? document.filter((name) => typeof name === 'string') : [];
}
