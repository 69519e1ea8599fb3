import { type Clock, every } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { RegistryOrigin } from '../origin/types.ts';
import { within } from './ask-all.ts';
import type { RegistryPace } from './registry-pace.ts';

/** How often a registry in use is looked at; a HEAD is some 600 bytes both ways. */
const LOOK_MS = 10_000;
const LOOK_WAIT_MS = 6_000;
/** A registry that no tag was asked of for this long is not looked at any more. */
const IN_USE_MS = 3_600_000;
const MAX_REGISTRIES = 8;

interface Used {
  readonly repository: string;
  readonly tag: string;
  /** Monotonic ms. */
  readonly at: number;
}

/**
 * Looks at the registries in use now and then, so that their circuit breakers know of an outage before a pull has to find
 * it out by waiting, and of its end soon after.
 */
export class OriginWatch implements Startable {
  readonly name = 'origin-watch';
  readonly #c: {
    readonly origin: Pick<RegistryOrigin, 'manifest'>;
    readonly pace: Pick<RegistryPace, 'answered'>;
    readonly clock: Clock;
    readonly log: Logger;
    readonly random: () => number;
  };
  readonly #used = new Map<string, Used>();
  #cancel: () => void = () => undefined;
  #looking = false;

  constructor(components: {
    readonly origin: Pick<RegistryOrigin, 'manifest'>;
    readonly pace: Pick<RegistryPace, 'answered'>;
    readonly clock: Clock;
    readonly log: Logger;
    readonly random: () => number;
  }) {
    this.#c = components;
  }

  async start(): Promise<void> {
    // Members of a pool start together after a power cut: each takes a place of its own in the interval.
    const cancelFirst = this.#c.clock.after(this.#c.random() * LOOK_MS, () => {
      this.#cancel = every(this.#c.clock, LOOK_MS, () => void this.#look());
    });
    this.#cancel = cancelFirst;
  }

  async stop(): Promise<void> {
    this.#cancel();
  }

  /** A tag was asked for: its registry is in use, and can be asked for it again. */
  used(registry: string, repository: string, tag: string): void {
    this.#used.delete(registry);
    this.#used.set(registry, { repository, tag, at: this.#c.clock.mono() });
    const oldest = this.#used.keys().next();
    if (this.#used.size > MAX_REGISTRIES && !oldest.done) this.#used.delete(oldest.value);
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const since = this.#c.clock.mono() - IN_USE_MS;
    for (const [registry, { repository, tag, at }] of [...this.#used]) {
      if (at < since) {
        this.#used.delete(registry);
        continue;
      }
      const askedAt = this.#c.clock.mono();
      try {
        await within(this.#c.clock, LOOK_WAIT_MS, undefined, (signal) =>
          this.#c.origin.manifest({ registry, repository, reference: tag, method: 'HEAD', signal }),
        );
        this.#c.pace.answered(registry, this.#c.clock.mono() - askedAt);
      } catch (error) {
        // Refusals are answers, and silence has been counted by the origin's breaker: nothing is left to do.
        this.#c.log.trace({ registry, why: describeError(error) }, 'looked at a registry');
      }
    }
    this.#looking = false;
  }
}
