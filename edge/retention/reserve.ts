import { closeSync, openSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';

const CHUNK_BYTES = 1024 * 1024;

/**
 * A file that is nothing but room: given up when the disk is full, so that the index can still take down what is evicted.
 * Writing it anew also shows whether the disk takes anything again.
 */
export class Reserve {
  readonly #path: string;
  readonly #bytes: number;
  #held = false;

  constructor(init: { readonly path: string; readonly bytes: number }) {
    this.#path = init.path;
    this.#bytes = init.bytes;
  }

  get held(): boolean {
    return this.#held;
  }

  /** Gives it up. */
  release(): void {
    this.#held = false;
    rmSync(this.#path, { force: true });
  }

  /** Takes it up. @throws the system's error, and leaves nothing behind then */
  async take(): Promise<void> {
    if (this.#held) return;
    // Made anew: one of an earlier life may have any size.
    rmSync(this.#path, { force: true });
    closeSync(openSync(this.#path, 'wx', 0o600));
    try {
      const file = await open(this.#path, 'r+');
      try {
        // Not zeros: some file systems keep no room for those.
        const chunk = Buffer.alloc(CHUNK_BYTES, 0xa5);
        for (let at = 0; at < this.#bytes; at += CHUNK_BYTES) {
          await file.write(chunk, 0, Math.min(CHUNK_BYTES, this.#bytes - at), at);
        }
        await file.datasync();
      } finally {
        await file.close();
      }
      this.#held = true;
    } catch (error) {
      rmSync(this.#path, { force: true });
      throw error;
    }
  }
}
