import type { Logger } from '../../shared/log.ts';

/** Who wants to know a value. A newcomer is told the present one at once, so that nobody depends on who came first. */
export class Listeners<T> {
  readonly #log: Logger;
  readonly #what: string;
  readonly #all = new Set<(value: T) => void>();

  constructor(components: { readonly log: Logger }, what: string) {
    this.#log = components.log;
    this.#what = what;
  }

  /** @param present undefined when there is nothing to tell yet */
  add(listener: (value: T) => void, present: T | undefined): () => void {
    this.#all.add(listener);
    if (present !== undefined) this.#call(listener, present);
    return () => this.#all.delete(listener);
  }

  tell(value: T): void {
    for (const listener of this.#all) this.#call(listener, value);
  }

  /** One part that fails must not keep the news from the others, nor break the link. */
  #call(listener: (value: T) => void, value: T): void {
    try {
      listener(value);
    } catch (error) {
      this.#log.error({ err: error, what: this.#what }, 'a part could not take what the hub says');
    }
  }
}
