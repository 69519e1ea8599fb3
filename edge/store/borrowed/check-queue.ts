import type { BlobKey } from '../../../shared/ids.ts';

/** `hurried` may change while it works. */
export type CheckOne = (key: BlobKey, hurried: () => boolean, signal: AbortSignal) => Promise<void>;

/**
 * What waits to be checked: one after the other at leisure, and beside that, one after the other, what somebody waits for.
 */
export class CheckQueue {
  readonly #check: CheckOne;
  readonly #waiting = new Set<BlobKey>();
  /** Somebody waits for these of them. */
  readonly #wanted = new Set<BlobKey>();
  /** These of them are being checked. */
  readonly #busy = new Set<BlobKey>();
  /** Of those, files that were replaced meanwhile. */
  readonly #again = new Set<BlobKey>();
  #life: AbortController | undefined;
  #leisure: Promise<void> | undefined;
  #hurry: Promise<void> | undefined;

  /** `check` does not throw. */
  constructor(check: CheckOne) {
    this.#check = check;
  }

  get size(): number {
    return this.#waiting.size;
  }

  start(): void {
    this.#life ??= new AbortController();
    this.#go();
  }

  /** What was not checked waits on. */
  async stop(): Promise<void> {
    this.#life?.abort();
    this.#life = undefined;
    await Promise.all([this.#leisure, this.#hurry]);
  }

  add(key: BlobKey): void {
    if (this.#busy.has(key)) this.#again.add(key);
    this.#waiting.add(key);
    this.#go();
  }

  /** Checks it as soon and as fast as can be, if it waits to be checked or is being. */
  want(key: BlobKey): void {
    if (!this.#waiting.has(key)) return;
    this.#wanted.add(key);
    this.#go();
  }

  remove(key: BlobKey): void {
    this.#waiting.delete(key);
    this.#wanted.delete(key);
  }

  /** Resolves when nothing waits. */
  async settled(): Promise<void> {
    while (this.#leisure !== undefined || this.#hurry !== undefined) {
      await Promise.all([this.#leisure, this.#hurry]);
    }
  }

  #go(): void {
    const signal = this.#life?.signal;
    if (signal === undefined) return;
    if (this.#next(this.#wanted) !== undefined) {
      this.#hurry ??= this.#run(this.#wanted, signal).finally(() => {
        this.#hurry = undefined;
        this.#go();
      });
    }
    if (this.#next(this.#waiting) !== undefined) {
      this.#leisure ??= this.#run(this.#waiting, signal).finally(() => {
        this.#leisure = undefined;
        this.#go();
      });
    }
  }

  async #run(keys: Set<BlobKey>, signal: AbortSignal): Promise<void> {
    for (;;) {
      if (signal.aborted) return;
      const key = this.#next(keys);
      if (key === undefined) return;
      this.#busy.add(key);
      try {
        await this.#check(key, () => this.#wanted.has(key), signal);
      } finally {
        this.#busy.delete(key);
        if (!signal.aborted && !this.#again.delete(key)) this.remove(key);
      }
    }
  }

  #next(keys: Set<BlobKey>): BlobKey | undefined {
    for (const key of keys) if (!this.#busy.has(key)) return key;
    return undefined;
  }
}
