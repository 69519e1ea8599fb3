import type { DocumentTable } from '../../edge/index/types.ts';

/** The index's documents without an index; values pass through JSON as there. */
export class MemoryDocuments implements DocumentTable {
  readonly #texts = new Map<string, string>();

  get(name: string): unknown {
    const text = this.#texts.get(name);
    return text === undefined ? undefined : JSON.parse(text);
  }

  put(name: string, value: unknown): void {
    this.#texts.set(name, JSON.stringify(value));
  }

  delete(name: string): void {
    this.#texts.delete(name);
  }

  list(prefix: string): readonly { readonly name: string; readonly value: unknown }[] {
    return [...this.#texts]
      .filter(([name]) => name.startsWith(prefix))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, text]) => ({ name, value: JSON.parse(text) }));
  }
}
