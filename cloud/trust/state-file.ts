import { readFile } from 'node:fs/promises';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { replaceFile } from '../data/json-file.ts';
import type { Vault, Versioned } from './types.ts';

/** A text in a file that is the hub's alone, mode 0600. */
export class StateFile implements Vault<string> {
  readonly place: string;

  constructor(init: { readonly file: string }) {
    this.place = init.file;
  }

  async read(): Promise<Versioned<string> | undefined> {
    try {
      return { content: await readFile(this.place, 'utf8'), version: '' };
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      const message = `${this.place} cannot be read: ${describeError(error)}`;
      throw new TidepoolError('STORE_CORRUPT', message, { cause: error });
    }
  }

  async write(content: string): Promise<string> {
    await replaceFile(this.place, content);
    return '';
  }
}
