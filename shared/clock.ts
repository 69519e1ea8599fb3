/** Time as a part sees it; tests and the simulator give their own. */
export interface Clock {
  /** Wall clock, ms since 1970. May jump; for records that people read. */
  now(): number;
  /** Monotonic ms, from an arbitrary start; for durations and deadlines. */
  mono(): number;
  /** Runs `fn` once after `ms`; the answer cancels it. */
  after(ms: number, fn: () => void): () => void;
}

/** Longest time a timer takes, 24.8 days; Node runs a longer one after 1 ms. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  mono: () => performance.now(),
  after(ms, fn) {
    let timer = arm(ms);
    function arm(left: number): NodeJS.Timeout {
      if (left <= MAX_TIMER_MS) return setTimeout(fn, left);
      return setTimeout(() => {
        timer = arm(left - MAX_TIMER_MS);
      }, MAX_TIMER_MS);
    }
    return () => clearTimeout(timer);
  },
};

/** Resolves after `ms`; rejects with the signal's reason when that aborts first. */
export function delay(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** Runs `fn` every `ms` until the answer is called. The next run is timed from the start of the last. */
export function every(clock: Clock, ms: number, fn: () => void): () => void {
  let cancel = clock.after(ms, tick);
  function tick(): void {
    cancel = clock.after(ms, tick);
    fn();
  }
  return () => cancel();
}
