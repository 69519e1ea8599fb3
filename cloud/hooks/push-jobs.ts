import type { Clock } from '../../shared/clock.ts';
import { describeError, isTidepoolError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { PrefetchRequest } from '../../shared/wire/api.ts';
import { JsonFile } from '../data/json-file.ts';
import type { Problem } from '../desired/types.ts';
import { COALESCE_MS, MAX_COALESCE_MS, MAX_PUSH_JOBS, RETRY_MS } from './constants.ts';
import { type PushEntry, pushId, type SavedPushes, savedPushes, verdictOf } from './push-book.ts';

export interface PushJobsComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly jobs: {
    has(id: string): boolean;
    add(id: string, request: PrefetchRequest): Promise<unknown>;
    remove(id: string): Promise<void>;
  };
}

export interface PushJobsInit {
  readonly file: string;
  readonly maxJobs?: number;
  readonly coalesceMs?: number;
}

/**
 * Tags that were pushed, as prefetch jobs: one a tag, of the digest that was pushed last. A push is on disk before it is
 * acknowledged; its job is made when the tag has come to rest.
 */
export class PushJobs implements Startable {
  readonly name = 'push jobs';
  readonly #c: PushJobsComponents;
  readonly #maxJobs: number;
  readonly #coalesceMs: number;
  readonly #file: JsonFile<SavedPushes>;
  readonly #entries = new Map<string, PushEntry>();
  readonly #timers = new Map<string, { readonly first: number; readonly cancel: () => void }>();
  readonly #problems = new Map<string, Problem>();
  #work: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(components: PushJobsComponents, init: PushJobsInit) {
    this.#c = components;
    this.#maxJobs = init.maxJobs ?? MAX_PUSH_JOBS;
    this.#coalesceMs = init.coalesceMs ?? COALESCE_MS;
    this.#file = new JsonFile(init.file, savedPushes);
  }

  /** @throws TidepoolError STORE_CORRUPT */
  async start(): Promise<void> {
    this.#stopped = false;
    for (const [id, each] of Object.entries((await this.#file.read()) ?? {})) this.#entries.set(id, each);
    for (const [id, { pending }] of this.#entries) if (pending) this.#soon(id, this.#coalesceMs);
  }

  /** What waits for its tag to come to rest waits no longer. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const waiting = [...this.#timers];
    this.#timers.clear();
    for (const [id, { cancel }] of waiting) {
      cancel();
      void this.#queue(() => this.#make(id));
    }
    await this.#work;
  }

  problems(): readonly Problem[] {
    return [...this.#problems.values()];
  }

  /**
   * Takes one push over; resolves when a restart would not forget it.
   * @throws the system's error when it cannot be saved
   */
  async take(
    image: string,
    push: Pick<PushEntry, 'digest' | 'pools' | 'pushedAt'>,
  ): Promise<{ readonly id: string; readonly verdict: 'new' | 'known' | 'older' }> {
    const id = pushId(image);
    return this.#queue(async () => {
      const known = this.#entries.get(id);
      const verdict = verdictOf(known, push);
      if (verdict !== 'new') return { id, verdict };
      const evicted = known === undefined ? this.#oldest() : undefined;
      // Set anew, so that the order of the entries is that of the pushes.
      this.#entries.delete(id);
      this.#entries.set(id, { image, ...push, pending: true });
      try {
        if (evicted !== undefined) await this.#forget(evicted);
        await this.#save();
      } catch (error) {
        this.#entries.delete(id);
        if (known !== undefined) this.#entries.set(id, known);
        throw error;
      }
      this.#soon(id, this.#coalesceMs);
      return { id, verdict };
    });
  }

  #soon(id: string, ms: number): void {
    if (this.#stopped) return;
    const now = this.#c.clock.mono();
    const before = this.#timers.get(id);
    before?.cancel();
    const first = before?.first ?? now;
    const cancel = this.#c.clock.after(
      Math.max(0, Math.min(ms, first + Math.max(ms, MAX_COALESCE_MS) - now)),
      () => {
        this.#timers.delete(id);
        void this.#queue(() => this.#make(id));
      },
    );
    this.#timers.set(id, { first, cancel });
  }

  /** Never rejects: what cannot be made now is tried again. */
  async #make(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined || !entry.pending) return;
    const { image, digest, pools } = entry;
    try {
      if (this.#c.jobs.has(id)) await this.#c.jobs.remove(id);
      await this.#c.jobs.add(id, { id, images: [{ image, digest }], pools });
      this.#entries.set(id, { ...entry, pending: false });
      this.#problems.delete(id);
      this.#c.log.info({ job: id, image, digest, pools }, 'prefetch of a push');
      await this.#save();
    } catch (error) {
      if (isTidepoolError(error, 'INVALID_ARGUMENT')) {
        // Nothing that time would mend.
        this.#entries.set(id, { ...entry, pending: false });
      } else {
        this.#soon(id, RETRY_MS);
      }
      this.#c.log.error({ job: id, image, err: error }, 'could not make the prefetch of a push');
      this.#problems.set(id, {
        source: `push of ${image}`,
        message: `not prefetched: ${describeError(error)}`,
      });
    }
  }

  /** The push that is to make room for another one. */
  #oldest(): string | undefined {
    if (this.#entries.size < this.#maxJobs) return undefined;
    const first = this.#entries.keys().next();
    return first.done === true ? undefined : first.value;
  }

  async #forget(id: string): Promise<void> {
    this.#timers.get(id)?.cancel();
    this.#timers.delete(id);
    this.#problems.delete(id);
    const image = this.#entries.get(id)?.image;
    this.#entries.delete(id);
    if (this.#c.jobs.has(id)) await this.#c.jobs.remove(id);
    this.#c.log.info({ job: id, image, maxJobs: this.#maxJobs }, 'prefetch of an old push makes room');
  }

  #save(): Promise<void> {
    return this.#file.write(Object.fromEntries(this.#entries));
  }

  /** One after the other: two pushes of one tag must not make two jobs. */
  #queue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#work.then(work);
    this.#work = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
}
