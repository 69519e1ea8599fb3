import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';

/** Told one by one at most this often; the rest is counted. */
const EVERY_MS = 10_000;

/** Tells of what strangers can cause as often as they like: a log must not grow by their will. */
export class Complaints {
  readonly #c: { readonly clock: Clock; readonly log: Logger };
  readonly #what: string;
  #untold = 0;
  #total = 0;
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(components: { readonly clock: Clock; readonly log: Logger }, what: string) {
    this.#c = components;
    this.#what = what;
  }

  get total(): number {
    return this.#total;
  }

  tell(facts: Readonly<Record<string, unknown>>, reason: unknown): void {
    const { clock, log } = this.#c;
    this.#total++;
    const now = clock.mono();
    if (now - this.#toldAt < EVERY_MS) {
      this.#untold++;
      return;
    }
    log.warn({ ...facts, reason: describeError(reason), andOthers: this.#untold }, this.#what);
    this.#toldAt = now;
    this.#untold = 0;
  }
}
