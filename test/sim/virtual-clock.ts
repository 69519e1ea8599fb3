import type { Clock } from '../../shared/clock.ts';

interface Timer {
  readonly at: number;
  readonly id: number;
  readonly fn: () => void;
  cancelled: boolean;
}

/** Time that passes only when everything that can happen now has happened. */
export class VirtualClock implements Clock {
  #now = 0;
  #ids = 0;
  readonly #heap: Timer[] = [];

  now(): number {
    return 1_700_000_000_000 + this.#now;
  }

  mono(): number {
    return this.#now;
  }

  after(ms: number, fn: () => void): () => void {
    const timer: Timer = { at: this.#now + Math.max(0, ms), id: this.#ids++, fn, cancelled: false };
    this.#push(timer);
    return () => {
      timer.cancelled = true;
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(ms, resolve);
    });
  }

  /** Runs until `done` says so; throws when virtual time passes `limitMs`: that is how a deadlock shows. */
  async run(done: () => boolean, limitMs: number): Promise<void> {
    for (;;) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      if (done()) return;
      const timer = this.#pop();
      if (timer === undefined) throw new Error(`nothing left to happen at ${this.#now} ms, and not done`);
      if (timer.at > limitMs) throw new Error(`not done after ${limitMs} virtual ms`);
      this.#now = timer.at;
      timer.fn();
      // Timers of the same instant belong together.
      for (let next = this.#heap[0]; next !== undefined && next.at === this.#now; next = this.#heap[0])
        this.#pop()?.fn();
    }
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    heap.push(timer);
    for (let i = heap.length - 1; i > 0; ) {
      const parent = (i - 1) >> 1;
      if (before(heap[parent], timer)) break;
      heap[i] = heap[parent] ?? timer;
      heap[parent] = timer;
      i = parent;
    }
  }

  #pop(): Timer | undefined {
    const heap = this.#heap;
    for (;;) {
      const top = heap[0];
      const last = heap.pop();
      if (top === undefined || last === undefined) return undefined;
      if (heap.length > 0) {
        heap[0] = last;
        for (let i = 0; ; ) {
          let small = i;
          for (const child of [2 * i + 1, 2 * i + 2]) {
            if (child < heap.length && !before(heap[small], heap[child])) small = child;
          }
          if (small === i) break;
          const swap = heap[i];
          const other = heap[small];
          if (swap === undefined || other === undefined) break;
          heap[i] = other;
          heap[small] = swap;
          i = small;
        }
      }
      if (!top.cancelled) return top;
    }
  }
}

function before(a: Timer | undefined, b: Timer | undefined): boolean {
  if (a === undefined || b === undefined) return true;
  return a.at < b.at || (a.at === b.at && a.id < b.id);
}

/** A small seeded generator (mulberry32): every run of a seed is the same. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
