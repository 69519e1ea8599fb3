import type Database from 'better-sqlite3';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { type Run, run } from './sqlite-errors.ts';
import type { DocumentTable } from './types.ts';

/** Sorts after every name that starts with the prefix before it. */
const LAST = '\u{10ffff}';

export class SqliteDocumentTable implements DocumentTable {
  readonly #run: Run;
  readonly #get: Database.Statement<[string], { value: string }>;
  readonly #put: Database.Statement<[string, string]>;
  readonly #delete: Database.Statement<[string]>;
  readonly #list: Database.Statement<[string, string], { name: string; value: string }>;

  constructor(database: Database.Database, guard: Run = run) {
    this.#run = guard;
    this.#get = database.prepare('SELECT value FROM documents WHERE name = ?');
    this.#put = database.prepare(
      'INSERT INTO documents (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value',
    );
    this.#delete = database.prepare('DELETE FROM documents WHERE name = ?');
    this.#list = database.prepare(
      'SELECT name, value FROM documents WHERE name >= ? AND name < ? ORDER BY name',
    );
  }

  get(name: string): unknown {
    const row = this.#run('read a document', () => this.#get.get(name));
    return row === undefined ? undefined : parse(name, row.value);
  }

  /** @throws TidepoolError INVALID_ARGUMENT for what JSON cannot say, STORE_FULL */
  put(name: string, value: unknown): void {
    const text: string | undefined = JSON.stringify(value);
    if (text === undefined) {
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `document ${quote(name)}: JSON has no word for ${typeof value}`,
      );
    }
    this.#run('keep a document', () => this.#put.run(name, text));
  }

  delete(name: string): void {
    this.#run('forget a document', () => this.#delete.run(name));
  }

  list(prefix: string): readonly { readonly name: string; readonly value: unknown }[] {
    return this.#run('list documents', () => {
      const found: { name: string; value: unknown }[] = [];
      for (const { name, value } of this.#list.iterate(prefix, prefix + LAST)) {
        found.push({ name, value: parse(name, value) });
      }
      return found;
    });
  }
}

function parse(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new TidepoolError('STORE_CORRUPT', `document ${quote(name)} in the index is no JSON`, {
      cause: error,
    });
  }
}
