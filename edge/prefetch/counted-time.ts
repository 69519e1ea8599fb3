import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import type { DocumentTable } from '../index/types.ts';

export interface CountedTimeComponents {
  readonly clock: Pick<Clock, 'mono'>;
  readonly documents: Pick<DocumentTable, 'get' | 'put'>;
  readonly log: Logger;
  /** The hub's time, ms, once it has been heard in this start; absent: there is no hub. */
  readonly hubTime?: (() => number | undefined) | undefined;
}

const DOCUMENT = 'prefetch-time';
const saved = z.object({ counted: z.number().nonnegative(), hub: z.number().optional() });

/**
 * Time that has passed on this node, in ms from its first start on. It is counted and never read off the node's clock, which
 * may be years off: while the agent runs by a clock that nobody can set, and for the time that it was off by what the hub
 * says when it is heard again. Without a hub such time does not count, so nothing that waits for it comes too early.
 */
export class CountedTime {
  readonly #c: CountedTimeComponents;
  readonly #startedAt: number;
  #base = 0;
  /** The hub's time when the count was last put down, until the time since then is counted. */
  #hubBefore: number | undefined;

  constructor(components: CountedTimeComponents) {
    this.#c = components;
    this.#startedAt = components.clock.mono();
    const result = saved.safeParse(components.documents.get(DOCUMENT) ?? { counted: 0 });
    if (result.success) {
      this.#base = result.data.counted;
      this.#hubBefore = result.data.hub;
    } else {
      components.log.warn({ name: DOCUMENT }, 'the counted time cannot be read; it begins anew');
    }
  }

  now(): number {
    const life = this.#c.clock.mono() - this.#startedAt;
    const hub = this.#hubBefore === undefined ? undefined : this.#c.hubTime?.();
    if (this.#hubBefore !== undefined && hub !== undefined) {
      this.#base += Math.max(0, hub - life - this.#hubBefore);
      this.#hubBefore = undefined;
    }
    return this.#base + life;
  }

  /** What was counted since is lost in a crash. */
  save(): void {
    const counted = this.now();
    const life = this.#c.clock.mono() - this.#startedAt;
    // Not heard yet, the hub's time of then is good for as long as what was counted since is taken off.
    const hub = this.#c.hubTime?.() ?? (this.#hubBefore === undefined ? undefined : this.#hubBefore + life);
    try {
      this.#c.documents.put(DOCUMENT, { counted, ...(hub === undefined ? {} : { hub }) });
    } catch (error) {
      this.#c.log.warn({ why: describeError(error) }, 'the counted time could not be kept');
    }
  }
}
