import type { Clock } from '../clock.ts';

interface Entry<V> {
  readonly value: V;
  readonly endsAt: number;
}

/** A bounded map whose entries end: when their time is up, or when too many others were used since. */
export class Recent<V> {
  readonly #clock: Clock;
  readonly #max: number;
  readonly #entries = new Map<string, Entry<V>>();

  constructor(clock: Clock, max: number) {
    this.#clock = clock;
    this.#max = max;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    if (entry.endsAt <= this.#clock.mono()) return undefined;
    // Back in at the end: a Map keeps the order of insertion, so the first is the one used longest ago.
    this.#entries.set(key, entry);
    return entry.value;
  }

  /** @param lifeMs how long the entry may be used */
  set(key: string, value: V, lifeMs: number): void {
    this.#entries.delete(key);
    this.#entries.set(key, { value, endsAt: this.#clock.mono() + lifeMs });
    if (this.#entries.size <= this.#max) return;
    const oldest = this.#entries.keys().next();
    if (oldest.done !== true) this.#entries.delete(oldest.value);
  }

  clear(): void {
    this.#entries.clear();
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }
}
