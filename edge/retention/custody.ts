import { describeError } from '../../shared/errors.ts';
import type { BlobKey } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { Custodian, CustodyWord } from '../peers/types.ts';
import type { BlobStore } from '../store/types.ts';

/** Promises that outlive a power cut. */
export interface CustodyBook {
  has(key: BlobKey): boolean;
  /** On the disk when it returns, and with it everything marked before. */
  add(keys: readonly BlobKey[]): void;
}

interface CustodyComponents {
  readonly store: Pick<BlobStore, 'get' | 'flush'>;
  readonly book: CustodyBook;
  readonly log: Logger;
}

/**
 * Both sides of a blob's going. A member that wants to give some up marks them as leaving, then asks its neighbours; one
 * that is marked so here is promised to nobody. So of two that ask each other at the same moment neither gets a promise,
 * and of two that ask one after the other the second finds the first's copy gone.
 */
export class Custody implements Custodian {
  readonly #c: CustodyComponents;
  readonly #leaving = new Set<BlobKey>();

  constructor(components: CustodyComponents) {
    this.#c = components;
  }

  /** Promises what can be promised. A neighbour that hears `kept` may delete its own copy at once. */
  async keep(keys: readonly BlobKey[]): Promise<CustodyWord[]> {
    const fresh = keys.filter((key) => this.#holds(key) && !this.#c.book.has(key));
    if (fresh.length > 0) {
      try {
        await this.#c.store.flush();
        // Some may have gone while this waited.
        this.#c.book.add(fresh.filter((key) => this.#holds(key)));
      } catch (error) {
        this.#c.log.warn({ why: describeError(error) }, 'cannot promise neighbours to keep blobs');
        return keys.map((key) => (this.#leaving.has(key) || this.#holds(key) ? 'leaving' : 'absent'));
      }
    }
    return keys.map((key): CustodyWord => {
      if (this.#leaving.has(key)) return 'leaving';
      return this.#holds(key) && this.#c.book.has(key) ? 'kept' : 'absent';
    });
  }

  /** From here on these are promised to nobody, until the answer is called. */
  leave(keys: readonly BlobKey[]): () => void {
    const mine = keys.filter((key) => !this.#leaving.has(key));
    for (const key of mine) this.#leaving.add(key);
    return () => {
      for (const key of mine) this.#leaving.delete(key);
    };
  }

  #holds(key: BlobKey): boolean {
    return !this.#leaving.has(key) && this.#c.store.get(key)?.whole === true;
  }
}
