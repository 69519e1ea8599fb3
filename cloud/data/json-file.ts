import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type { z } from 'zod';
import { describeError, TidepoolError } from '../../shared/errors.ts';

/** One JSON document on disk. It is replaced as a whole, so a crash leaves the old one or the new one. */
export class JsonFile<T> {
  readonly path: string;
  readonly #schema: z.ZodType<T>;
  #writes: Promise<void> = Promise.resolve();

  constructor(file: string, schema: z.ZodType<T>) {
    this.path = file;
    this.#schema = schema;
  }

  /**
   * Undefined when there is none.
   * @throws TidepoolError STORE_CORRUPT when there is one that cannot be read
   */
  async read(): Promise<T | undefined> {
    let text: string;
    try {
      text = await readFile(this.path, 'utf8');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      throw this.#corrupt(error);
    }
    try {
      const result = this.#schema.safeParse(JSON.parse(text));
      if (result.success) return result.data;
      throw new Error(`${result.error.issues[0]?.path.join('.')}: ${result.error.issues[0]?.message}`);
    } catch (error) {
      throw this.#corrupt(error);
    }
  }

  /** Durable when it resolves. Writes happen one after the other. */
  write(value: T): Promise<void> {
    const next = this.#writes.then(() => replaceFile(this.path, `${JSON.stringify(value)}\n`));
    this.#writes = next.catch(() => undefined);
    return next;
  }

  #corrupt(cause: unknown): TidepoolError {
    return new TidepoolError(
      'STORE_CORRUPT',
      `${this.path} cannot be read: ${describeError(cause)}; mend it, or move it away to start without it`,
      { cause },
    );
  }
}

/** Writes beside it, makes it durable, and puts it in place. */
export async function replaceFile(file: string, content: string | Uint8Array): Promise<void> {
  const directory = path.dirname(file);
  await mkdir(directory, { recursive: true });
  const beside = `${file}.new`;
  const handle = await open(beside, 'w', 0o600);
  try {
    await handle.writeFile(content);
    await handle.datasync();
  } finally {
    await handle.close();
  }
  await rename(beside, file);
  await syncDirectory(directory);
}

/** Takes a file away for good; one that is not there is no error. */
export async function removeFile(file: string): Promise<void> {
  await rm(file, { force: true });
  await syncDirectory(path.dirname(file));
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
