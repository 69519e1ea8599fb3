import type { Vault, Versioned } from '../../cloud/trust/types.ts';
import { TidepoolError } from '../../shared/errors.ts';

/** A vault that several hubs share, with compare-and-swap; its writes can be held up, or fail. */
export class MemoryVault<T> implements Vault<T> {
  readonly place = 'memory';
  #found: Versioned<T> | undefined;
  #count = 0;
  /** Awaited before each write. */
  before: (content: T) => Promise<void> = async () => undefined;

  get content(): T | undefined {
    return this.#found?.content;
  }

  async read(): Promise<Versioned<T> | undefined> {
    return this.#found;
  }

  async write(content: T, expected: string | undefined): Promise<string> {
    await this.before(content);
    if (this.#found?.version !== expected) throw new TidepoolError('CONFLICT', 'another was quicker');
    this.#found = { content, version: String(++this.#count) };
    return this.#found.version;
  }
}
