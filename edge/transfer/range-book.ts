import type { Clock } from '../../shared/clock.ts';
import { raceAbort } from '../../shared/flow/single-flight.ts';
import { PROBE_ROUNDS, PROBE_WAIT_MS, RANGELESS_MS } from './constants.ts';
import { withResolvers } from './flight.ts';

/** Registries remembered. */
const REGISTRIES_MAX = 256;

interface Entry {
  /** Undefined while only a probe is under way. */
  ranged: boolean | undefined;
  learnedAt: number;
  probedAt: number;
  readonly news: ReturnType<typeof withResolvers<void>>;
}

/** Which registries take ranges: where that is not known yet, one read finds out and the others wait for it. */
export class RangeBook {
  readonly #clock: Clock;
  readonly #entries = new Map<string, Entry>();

  constructor(components: { readonly clock: Clock }) {
    this.#clock = components.clock;
  }

  /** Undefined when it is not known. That a registry takes none is forgotten after a while: it may be mended. */
  takesRanges(registry: string): boolean | undefined {
    const entry = this.#entries.get(registry);
    const stale = entry?.ranged === false && this.#clock.mono() - entry.learnedAt >= RANGELESS_MS;
    return stale ? undefined : entry?.ranged;
  }

  /** @returns true when it is news */
  learn(registry: string, ranged: boolean): boolean {
    const known = this.takesRanges(registry);
    const entry = this.#entry(registry);
    entry.ranged = ranged;
    entry.learnedAt = this.#clock.mono();
    entry.news.resolve();
    return known !== ranged;
  }

  /** A read is going out that will tell. */
  probe(registry: string): void {
    this.#entry(registry).probedAt = this.#clock.mono();
  }

  /** Resolves when it is known, or when it is the caller's turn to find out: nobody has for a bounded time. */
  async turn(registry: string, signal: AbortSignal): Promise<void> {
    for (let round = 0; round < PROBE_ROUNDS; round++) {
      if (this.takesRanges(registry) !== undefined) return;
      await this.#wait(registry, signal);
      const entry = this.#entry(registry);
      if (this.takesRanges(registry) === undefined && this.#clock.mono() - entry.probedAt >= PROBE_WAIT_MS)
        break;
    }
    this.probe(registry);
  }

  async #wait(registry: string, signal: AbortSignal): Promise<void> {
    const late = withResolvers<void>();
    const cancel = this.#clock.after(PROBE_WAIT_MS, () => late.resolve());
    try {
      await raceAbort(Promise.race([this.#entry(registry).news.promise, late.promise]), signal);
    } finally {
      cancel();
    }
  }

  #entry(registry: string): Entry {
    let entry = this.#entries.get(registry);
    // One whose word has gone stale is begun anew, so that there can be news of it again.
    if (entry?.ranged !== undefined && this.takesRanges(registry) === undefined) entry = undefined;
    if (entry === undefined) {
      entry = {
        ranged: undefined,
        learnedAt: Number.NEGATIVE_INFINITY,
        probedAt: Number.NEGATIVE_INFINITY,
        news: withResolvers<void>(),
      };
      this.#entries.delete(registry);
      this.#entries.set(registry, entry);
      for (const oldest of this.#entries.keys()) {
        if (this.#entries.size <= REGISTRIES_MAX) break;
        this.#entries.delete(oldest);
      }
    }
    return entry;
  }
}
