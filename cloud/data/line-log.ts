import { type FileHandle, mkdir, open, readFile } from 'node:fs/promises';
import path from 'node:path';
import { replaceFile } from './json-file.ts';

/** Lines that are added to a file, and are on the disk when the call resolves. Calls come one after the other. */
export class LineLog {
  readonly path: string;
  #handle: FileHandle | undefined;
  #bytes = 0;

  constructor(file: string) {
    this.path = file;
  }

  /** Of the file, once it was opened. */
  get bytes(): number {
    return this.#bytes;
  }

  /** What is there, and nothing where there is no file. A last line without an end is part of it. */
  async read(): Promise<string[]> {
    try {
      const text = await readFile(this.path, 'utf8');
      return text.split('\n').filter((line) => line !== '');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
      throw error;
    }
  }

  /** @throws the system's error; then the file has to be replaced, for its last line may be torn */
  async append(lines: readonly string[]): Promise<void> {
    const handle = this.#handle ?? (await this.#open());
    const text = lines.map((line) => `${line}\n`).join('');
    await handle.appendFile(text);
    await handle.datasync();
    this.#bytes += Buffer.byteLength(text);
  }

  /** These lines and no others from now on. @throws the system's error; the file is as it was then */
  async replace(lines: readonly string[]): Promise<void> {
    await this.close();
    const text = lines.map((line) => `${line}\n`).join('');
    await replaceFile(this.path, text);
    this.#bytes = Buffer.byteLength(text);
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  async #open(): Promise<FileHandle> {
    await mkdir(path.dirname(this.path), { recursive: true });
    const handle = await open(this.path, 'a', 0o600);
    this.#handle = handle;
    this.#bytes = (await handle.stat()).size;
    return handle;
  }
}
