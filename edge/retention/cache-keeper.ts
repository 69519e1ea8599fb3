import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { BlobKey, NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { CustodyWord } from '../peers/types.ts';
import { type Candidate, chooseVictims } from './choose.ts';
import {
  ASK_KEYS,
  ASK_TIMEOUT_MS,
  IN_USE_MS,
  LOOK_MS,
  REOPEN_MS,
  RETRY_MS,
  ROUND_BLOBS,
} from './constants.ts';
import type { Custody } from './custody.ts';
import { type DiskFree, type DiskUse, type Pressure, pressureOf } from './pressure.ts';

/** A blob as the index has it. */
export interface HeldBlob {
  readonly key: BlobKey;
  readonly whole: boolean;
  readonly heldBytes: number;
  readonly lastUsed: number;
}

export interface CacheNeighbour {
  readonly node: NodeName;
}

export interface CacheKeeperComponents<M extends CacheNeighbour = CacheNeighbour> {
  /** The one longest unused first; read to the end or left, never written to meanwhile. */
  readonly blobs: { list(): Iterable<HeldBlob> };
  readonly store: { remove(key: BlobKey): Promise<void>; usage(): { readonly bytes: number } };
  readonly disk: () => Promise<DiskFree>;
  readonly custody: Pick<Custody, 'leave'>;
  readonly members: { live(): readonly M[]; readonly rosterSize: number };
  /** In the order of the keys. Errors: PEER_UNREACHABLE, or the signal's reason. */
  readonly ask: (member: M, keys: readonly BlobKey[], signal: AbortSignal) => Promise<readonly CustodyWord[]>;
  /** Told how full the disk is after each look. */
  readonly room?: { readonly open: boolean; seen(use: DiskFree): Promise<void> } | undefined;
  /** True for what has to stay: being downloaded, in use, or kept for a prefetch. */
  readonly pinned: (key: BlobKey) => boolean;
  /** Looks again what is pinned; called before anything is evicted. */
  readonly refreshPins?: (() => Promise<void>) | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1). */
  readonly random: () => number;
}

export interface CacheState {
  readonly quotaBytes: number | undefined;
  readonly minReplicas: number;
  /** What the last look found; undefined before the first. */
  readonly pressure: Pressure | undefined;
  readonly evictedBlobs: number;
  readonly evictedBytes: number;
  /** Of these, blobs that no reachable neighbour had. */
  readonly lastCopies: number;
  /** Bytes that the last round could not find. */
  readonly shortBytes: number;
}

/** Keeps the store within its quota and the file system below its mark, without losing to the pool what others rely on. */
export class CacheKeeper<M extends CacheNeighbour = CacheNeighbour> implements Startable {
  readonly name = 'cache';
  readonly #c: CacheKeeperComponents<M>;
  #quota: number | undefined;
  #minReplicas = 2;
  #pressure: Pressure | undefined;
  #evictedBlobs = 0;
  #evictedBytes = 0;
  #lastCopies = 0;
  #short = 0;
  #cancel: () => void = () => undefined;
  #running = false;
  #life = new AbortController();
  #round: Promise<void> = Promise.resolve();

  constructor(components: CacheKeeperComponents<M>) {
    this.#c = components;
  }

  configure(cache: { readonly quota: number | undefined; readonly minReplicas: number }): void {
    const tighter = cache.quota !== undefined && (this.#quota === undefined || cache.quota < this.#quota);
    this.#quota = cache.quota;
    this.#minReplicas = cache.minReplicas;
    if (tighter && this.#running) this.#lookIn(0);
  }

  get state(): CacheState {
    return {
      quotaBytes: this.#quota,
      minReplicas: this.#minReplicas,
      pressure: this.#pressure,
      evictedBlobs: this.#evictedBlobs,
      evictedBytes: this.#evictedBytes,
      lastCopies: this.#lastCopies,
      shortBytes: this.#short,
    };
  }

  async start(): Promise<void> {
    this.#running = true;
    this.#life = new AbortController();
    this.#lookIn(LOOK_MS * this.#c.random());
  }

  async stop(): Promise<void> {
    this.#running = false;
    this.#cancel();
    this.#life.abort();
    await this.#round;
  }

  /** Looks at the disk and frees what has to be freed. Resolves when that is done; failures are logged. */
  look(): Promise<void> {
    this.#round = this.#round.then(() => this.#look());
    return this.#round;
  }

  /** Frees at least so many bytes if they may go, whatever the bounds say; how many it were. @throws what the store throws */
  freeNow(bytes: number): Promise<number> {
    const freed = this.#round.then(async () => {
      const before = this.#evictedBytes;
      await this.#free(bytes);
      return this.#evictedBytes - before;
    });
    this.#round = freed.then(
      () => undefined,
      () => undefined,
    );
    return freed;
  }

  /** Looks again soon: the disk is full, and may be so for a moment only. */
  lookSoon(): void {
    if (this.#running) this.#lookIn(REOPEN_MS);
  }

  #lookIn(ms: number): void {
    this.#cancel();
    this.#cancel = this.#c.clock.after(ms, () => {
      void this.look().then(() => {
        // Members that asked each other at the same moment shall not do so again.
        if (this.#running) this.#lookIn(this.#short > 0 ? RETRY_MS * (1 + this.#c.random()) : this.#pause);
      });
    });
  }

  get #pause(): number {
    return this.#c.room?.open === false ? REOPEN_MS : LOOK_MS;
  }

  async #look(): Promise<void> {
    try {
      const use: DiskUse = { storeBytes: this.#c.store.usage().bytes, ...(await this.#c.disk()) };
      const pressure = pressureOf(use, this.#quota);
      this.#pressure = pressure;
      this.#short = pressure.toFree;
      if (pressure.toFree > 0 && !this.#life.signal.aborted) {
        this.#short = await this.#free(pressure.toFree);
        if (this.#short > 0) {
          this.#c.log.warn(
            { shortBytes: this.#short, why: pressure.why },
            'the cache is larger than it should be, and all that is left is in use, pinned, or perhaps the last copy in the pool',
          );
        }
      }
      if (!this.#life.signal.aborted) await this.#c.room?.seen(await this.#c.disk());
    } catch (error) {
      if (!this.#life.signal.aborted)
        this.#c.log.warn({ why: describeError(error) }, 'cannot look after the cache');
    }
  }

  /** Bytes that could not be found. */
  async #free(toFree: number): Promise<number> {
    await this.#c.refreshPins?.();
    const now = this.#c.clock.now();
    const idle: HeldBlob[] = [];
    for (const blob of this.#c.blobs.list()) {
      // Listed by last use: all that follow were used later.
      if (now - blob.lastUsed < IN_USE_MS && blob.lastUsed <= now) break;
      if (this.#c.pinned(blob.key)) continue;
      idle.push(blob);
      if (idle.length === ROUND_BLOBS) break;
    }
    let short = toFree;
    // Half a blob is no copy that anybody could rely on.
    for (const blob of idle.filter(({ whole }) => !whole)) {
      if (short <= 0) break;
      short -= await this.#evict({ ...blob, bytes: blob.heldBytes, keepers: 0, doubtful: false }, 'part');
    }
    let whole = idle.filter((blob) => blob.whole);
    const contested = new Set<BlobKey>();
    // Once everything has been asked about, what is left here is what no neighbour keeps.
    for (const nothingElse of [false, true]) {
      // Where a neighbour is giving some of these up itself, what it will keep in the end is not known yet: there may be others
      // than last copies to take, a moment later.
      if (nothingElse && contested.size > 0) break;
      const gone = new Set<BlobKey>();
      for (let from = 0; short > 0 && from < whole.length; from += ASK_KEYS) {
        short = await this.#freeWhole(whole.slice(from, from + ASK_KEYS), {
          bytes: short,
          nothingElse,
          gone,
          contested,
        });
      }
      whole = whole.filter(({ key }) => !gone.has(key));
    }
    return Math.max(0, short);
  }

  /** Bytes that are still to be freed. */
  async #freeWhole(
    blobs: readonly HeldBlob[],
    want: {
      readonly bytes: number;
      readonly nothingElse: boolean;
      readonly gone: Set<BlobKey>;
      readonly contested: Set<BlobKey>;
    },
  ): Promise<number> {
    const keys = blobs.map(({ key }) => key);
    const stay = this.#c.custody.leave(keys);
    try {
      const words = await this.#askAll(keys);
      const candidates = blobs.map((blob, at): Candidate => {
        const said = words.map((word) => word?.[at]);
        return {
          key: blob.key,
          bytes: blob.heldBytes,
          lastUsed: blob.lastUsed,
          keepers: said.filter((word) => word === 'kept').length,
          doubtful: said.some((word) => word === undefined || word === 'leaving'),
        };
      });
      const now = this.#c.clock.now();
      const { bytes, gone, contested } = want;
      for (const said of words) {
        for (const [at, word] of (said ?? []).entries()) {
          const key = keys[at];
          if (word === 'leaving' && key !== undefined) contested.add(key);
        }
      }
      const nothingElse = want.nothingElse && contested.size === 0;
      const choice = chooseVictims(candidates, { bytes, minReplicas: this.#minReplicas, now, nothingElse });
      let short = bytes;
      for (const victim of choice.evict) {
        if (this.#life.signal.aborted) break;
        // Somebody may have begun to use it while the neighbours were asked.
        if (this.#c.pinned(victim.key)) continue;
        short -= await this.#evict(victim, victim.keepers > 0 ? 'spare' : 'last');
        gone.add(victim.key);
      }
      return short;
    } finally {
      stay();
    }
  }

  /** One entry a neighbour, and one for each that is not even reachable; undefined: no answer. */
  async #askAll(keys: readonly BlobKey[]): Promise<(readonly CustodyWord[] | undefined)[]> {
    const members = this.#c.members.live();
    const given = new AbortController();
    const cancel = this.#c.clock.after(ASK_TIMEOUT_MS, () => given.abort());
    const stop = (): void => given.abort();
    this.#life.signal.addEventListener('abort', stop, { once: true });
    try {
      const answers = await Promise.all(
        members.map(async (member) => {
          try {
            const words = await this.#c.ask(member, keys, given.signal);
            return words.length === keys.length ? words : undefined;
          } catch (error) {
            this.#c.log.debug(
              { node: member.node, why: describeError(error) },
              'a neighbour does not say what it keeps',
            );
            return undefined;
          }
        }),
      );
      const away = Math.max(0, this.#c.members.rosterSize - 1 - members.length);
      return [...answers, ...Array.from({ length: away }, () => undefined)];
    } finally {
      cancel();
      this.#life.signal.removeEventListener('abort', stop);
    }
  }

  /** Bytes that it freed. */
  async #evict(
    { key, bytes, keepers, lastUsed }: Candidate,
    what: 'part' | 'spare' | 'last',
  ): Promise<number> {
    await this.#c.store.remove(key);
    this.#evictedBlobs++;
    this.#evictedBytes += bytes;
    if (what === 'last') this.#lastCopies++;
    this.#c.log.info(
      { key, bytes, keepers, what, lastUsed: new Date(lastUsed).toISOString() },
      'a blob is evicted',
    );
    return bytes;
  }
}
