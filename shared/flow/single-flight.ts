interface Flight<T> {
  readonly promise: Promise<T>;
  readonly controller: AbortController;
  callers: number;
}

/**
 * One run of a job a key, however many ask for it at the same time. The job's signal aborts when the last caller has
 * left; a caller that leaves gets its own signal's reason and disturbs nobody.
 */
export class SingleFlight<K, T> {
  readonly #flights = new Map<K, Flight<T>>();

  get size(): number {
    return this.#flights.size;
  }

  async run(key: K, job: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#launch(key, job);
    flight.callers++;
    try {
      return await (signal === undefined ? flight.promise : raceAbort(flight.promise, signal));
    } finally {
      flight.callers--;
      if (flight.callers === 0) {
        // Out of the map first: whoever comes now must not join a flight that is being called off.
        if (this.#flights.get(key) === flight) this.#flights.delete(key);
        flight.controller.abort();
      }
    }
  }

  #launch(key: K, job: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const controller = new AbortController();
    const flight: Flight<T> = { promise: job(controller.signal), controller, callers: 0 };
    this.#flights.set(key, flight);
    const settle = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    flight.promise.then(settle, settle);
    return flight;
  }
}

/** `promise`, or the signal's reason if that aborts first. The listener is always taken off again. */
export function raceAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    if (signal.aborted) {
      promise.catch(() => undefined);
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
