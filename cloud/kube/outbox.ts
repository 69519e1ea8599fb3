import { type Clock, delay } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import { Backoff } from '../../shared/flow/backoff.ts';
import type { Logger } from '../../shared/log.ts';
import type { Leadership, Problem } from '../desired/types.ts';
import { DENIED_RETRY, MAX_WAITING_WRITES, RETRY } from './constants.ts';
import { isKubeError } from './kube-error.ts';

export interface OutboxComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly leadership: Leadership;
}

export interface OutboxInit {
  /** For log lines and problems, as in `status of prefetches`. */
  readonly what: string;
  /** Between two writes. */
  readonly intervalMs: number;
  readonly maxWaiting?: number;
  readonly random?: () => number;
}

export type Write = (signal: AbortSignal) => Promise<void>;

/**
 * Writes to the API, one after the other and never faster than agreed; of one key only the newest counts. Nothing is
 * written while this hub does not lead: what waits is dropped, for the next leader knows it as well.
 */
export class Outbox {
  readonly #c: OutboxComponents;
  readonly #init: Required<OutboxInit>;
  readonly #waiting = new Map<string, Write>();
  readonly #retry: Backoff;
  readonly #denied: Backoff;
  readonly #unsubscribe: () => void;
  #controller = new AbortController();
  #run: Promise<void> | undefined;
  #problem: Problem | undefined;
  #dropped = 0;
  #stopped = false;

  constructor(components: OutboxComponents, init: OutboxInit) {
    this.#c = components;
    this.#init = { maxWaiting: MAX_WAITING_WRITES, random: Math.random, ...init };
    const { random } = this.#init;
    this.#retry = new Backoff({ ...RETRY, random });
    this.#denied = new Backoff({ ...DENIED_RETRY, random });
    this.#unsubscribe = components.leadership.onChange(() => {
      if (!components.leadership.leads) this.#drop();
    });
  }

  get problem(): Problem | undefined {
    return this.#problem;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Writes that found no room. */
  get dropped(): number {
    return this.#dropped;
  }

  put(key: string, write: Write): void {
    if (this.#stopped || !this.#c.leadership.leads) return;
    if (!this.#waiting.has(key) && this.#waiting.size >= this.#init.maxWaiting) {
      this.#dropped++;
      return;
    }
    this.#waiting.set(key, write);
    this.#run ??= this.#work().finally(() => {
      this.#run = undefined;
    });
  }

  /** Takes back what waits under the key. */
  cancel(key: string): void {
    this.#waiting.delete(key);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unsubscribe();
    this.#drop();
    await this.#run;
  }

  #drop(): void {
    this.#waiting.clear();
    this.#controller.abort(new Error('this hub does not lead'));
    this.#controller = new AbortController();
  }

  async #work(): Promise<void> {
    for (;;) {
      const [next] = this.#waiting;
      if (next === undefined) return;
      const [key, write] = next;
      this.#waiting.delete(key);
      const { signal } = this.#controller;
      const waitMs = await this.#attempt(key, write, signal);
      await delay(this.#c.clock, waitMs, signal).catch(() => undefined);
    }
  }

  /** The answer is how long to leave the server alone. */
  async #attempt(key: string, write: Write, signal: AbortSignal): Promise<number> {
    const { leadership, log } = this.#c;
    // Asked for each: the lease may have run out while this one waited.
    if (!leadership.leads) {
      this.#waiting.clear();
      return 0;
    }
    try {
      await write(signal);
      this.#retry.reset();
      this.#denied.reset();
      this.#problem = undefined;
      return this.#init.intervalMs;
    } catch (error) {
      if (signal.aborted) return 0;
      const { what, intervalMs } = this.#init;
      // Gone, or another object by now: what was to be said of it has no place any more.
      if (isKubeError(error, 404, 409)) return intervalMs;
      const again = isKubeError(error, 0, 401, 403, 429) || (isKubeError(error) && error.httpStatus >= 500);
      if (again && !this.#waiting.has(key)) this.#waiting.set(key, write);
      const denied = isKubeError(error, 401, 403);
      const message = describeError(error);
      if (this.#problem === undefined) log.warn({ what, reason: message }, 'could not write');
      this.#problem = {
        source: `kubernetes ${what}`,
        message: denied
          ? `the hub may not write the ${what}: ${message}`
          : `could not write the ${what}: ${message}`,
      };
      if (!again) return intervalMs;
      const asked = isKubeError(error) ? (error.retryAfterMs ?? 0) : 0;
      return Math.max(intervalMs, asked + (denied ? this.#denied : this.#retry).next());
    }
  }
}
