import { TidepoolError } from '../../shared/errors.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** A wire that serves one chunk after the other. */
export class Link {
  readonly #clock: VirtualClock;
  /** Bytes a second. */
  rate: number;
  #free = 0;
  bytes = 0;

  constructor(clock: VirtualClock, rate: number) {
    this.#clock = clock;
    this.rate = rate;
  }

  /** When `bytes` that start now, or when the wire is free, are through. */
  reserve(bytes: number, from: number): number {
    this.bytes += bytes;
    this.#free = Math.max(this.#free, from) + (bytes / this.rate) * 1000;
    return this.#free;
  }

  send(bytes: number): Promise<void> {
    return this.#clock.sleep(this.reserve(bytes, this.#clock.mono()) - this.#clock.mono());
  }
}

export function unreachable(address: string): TidepoolError {
  return new TidepoolError('PEER_UNREACHABLE', `${address} does not answer`);
}

/** `work`, or the signal's reason; with `reaches`, also a broken connection is noticed, as keep-alives would. */
export async function abortable<T>(
  work: Promise<T>,
  signal: AbortSignal,
  clock?: VirtualClock,
  reaches?: () => boolean,
): Promise<T> {
  signal.throwIfAborted();
  let onAbort: () => void = () => undefined;
  let settled = false;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    const watch = (): void => {
      if (settled || clock === undefined || reaches === undefined) return;
      if (reaches()) clock.after(500, watch);
      else reject(unreachable('the neighbour'));
    };
    clock?.after(500, watch);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    settled = true;
    work.catch(() => undefined);
    aborted.catch(() => undefined);
    signal.removeEventListener('abort', onAbort);
  }
}
