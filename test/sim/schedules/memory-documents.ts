import type { DocumentTable } from '../../../edge/index/types.ts';

/** Documents in memory that a power cut leaves as they are: each is a commit of its own. */
export class MemoryDocuments implements DocumentTable {
  readonly #values: Map<string, string>;

  constructor(from?: MemoryDocuments) {
    this.#values = new Map(from === undefined ? [] : from.#values);
  }

  get(name: string): unknown {
    const value = this.#values.get(name);
    return value === undefined ? undefined : JSON.parse(value);
  }

  put(name: string, value: unknown): void {
    this.#values.set(name, JSON.stringify(value));
  }

  delete(name: string): void {
    this.#values.delete(name);
  }

  list(prefix: string): readonly { readonly name: string; readonly value: unknown }[] {
    return [...this.#values]
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => ({ name, value: JSON.parse(value) }));
  }
}
