import type { Digest } from '../../../shared/ids.ts';
import type { BodyLabel, LoggedRequest, SampleRequest } from './options.ts';

const LOG_MAX = 20_000;

interface Entry extends SampleRequest {
  status: number;
  bytes: number;
}

/** What the registry has answered: bytes of bodies by source pool and digest, and the last requests. */
export class Ledger {
  readonly #byPool = new Map<string, number>();
  readonly #byDigest = new Map<string, number>();
  #log: Entry[] = [];

  get requests(): readonly LoggedRequest[] {
    return this.#log;
  }

  open(request: SampleRequest): Entry {
    const entry = { ...request, status: 0, bytes: 0 };
    this.#log.push(entry);
    // Cut in halves: dropping one a request would copy the log each time.
    if (this.#log.length > LOG_MAX) this.#log = this.#log.slice(LOG_MAX / 2);
    return entry;
  }

  sent(entry: Entry, label: BodyLabel, bytes: number): void {
    entry.bytes += bytes;
    this.#byPool.set(label.pool, (this.#byPool.get(label.pool) ?? 0) + bytes);
    if (label.digest === undefined) return;
    for (const key of [label.digest, `${label.pool} ${label.digest}`]) {
      this.#byDigest.set(key, (this.#byDigest.get(key) ?? 0) + bytes);
    }
  }

  bytesSent(pool?: string): number {
    if (pool !== undefined) return this.#byPool.get(pool) ?? 0;
    return [...this.#byPool.values()].reduce((total, bytes) => total + bytes, 0);
  }

  bytesOf(digest: Digest, pool?: string): number {
    return this.#byDigest.get(pool === undefined ? digest : `${pool} ${digest}`) ?? 0;
  }

  pools(): readonly string[] {
    return [...this.#byPool.keys()];
  }

  reset(): void {
    this.#byPool.clear();
    this.#byDigest.clear();
    this.#log = [];
  }
}

export type LedgerEntry = Entry;
