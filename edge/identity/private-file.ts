import * as fs from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Of `node:fs`; tests end the process, so to speak, at any of them. */
export type FileOps = Pick<
  typeof fs,
  | 'chmodSync'
  | 'closeSync'
  | 'fsyncSync'
  | 'mkdirSync'
  | 'openSync'
  | 'readFileSync'
  | 'renameSync'
  | 'statSync'
  | 'unlinkSync'
  | 'writeSync'
>;

export const systemFiles: FileOps = fs;

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
const OTHERS = 0o077;

/** Files that nobody but the agent reads, each of which is the old one or the new one, whole, also after a power cut. */
export class PrivateDirectory {
  readonly #path: string;
  readonly #files: FileOps;

  constructor(path: string, files: FileOps = systemFiles) {
    this.#path = path;
    this.#files = files;
  }

  /** Undefined when there is no such file. */
  read(name: string): string | undefined {
    const path = join(this.#path, name);
    try {
      const text = this.#files.readFileSync(path, 'utf8');
      if ((this.#files.statSync(path).mode & OTHERS) !== 0) this.#files.chmodSync(path, FILE_MODE);
      return text;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  write(name: string, text: string): void {
    this.#make();
    const path = join(this.#path, name);
    const temporary = join(this.#path, `.${basename(name)}.tmp`);
    const file = this.#files.openSync(temporary, 'w', FILE_MODE);
    try {
      const bytes = Buffer.from(text);
      for (let written = 0; written < bytes.length; ) written += this.#files.writeSync(file, bytes, written);
      this.#files.fsyncSync(file);
    } finally {
      this.#files.closeSync(file);
    }
    this.#files.renameSync(temporary, path);
    this.#sync(this.#path);
  }

  remove(name: string): void {
    try {
      this.#files.unlinkSync(join(this.#path, name));
    } catch (error) {
      if (isMissing(error)) return;
      throw error;
    }
    this.#sync(this.#path);
  }

  #make(): void {
    const made = this.#files.mkdirSync(this.#path, { recursive: true, mode: DIRECTORY_MODE });
    if (made !== undefined) this.#sync(dirname(this.#path));
    else if ((this.#files.statSync(this.#path).mode & OTHERS) !== 0) {
      this.#files.chmodSync(this.#path, DIRECTORY_MODE);
    }
  }

  #sync(path: string): void {
    const directory = this.#files.openSync(path, 'r');
    try {
      this.#files.fsyncSync(directory);
    } finally {
      this.#files.closeSync(directory);
    }
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
