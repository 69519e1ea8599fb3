import { bundleRefused } from './refusal.ts';

/** Takes a stream of chunks in the lengths that its reader wants; never holds more than one chunk. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array();
  #read = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** Bytes taken so far. */
  get read(): number {
    return this.#read;
  }

  /** Fills `target`. @throws TidepoolError BUNDLE_REFUSED where the stream ends before; what the source throws */
  async into(target: Uint8Array): Promise<void> {
    for (let filled = 0; filled < target.length; ) {
      if (this.#rest.length === 0) {
        const next = await this.#chunks.next();
        if (next.done === true) throw bundleRefused(`it ends after ${this.#read} bytes, in the middle`);
        this.#rest = next.value;
        continue;
      }
      const taken = this.#rest.subarray(0, target.length - filled);
      target.set(taken, filled);
      filled += taken.length;
      this.#read += taken.length;
      this.#rest = this.#rest.subarray(taken.length);
    }
  }

  async exactly(length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length);
    await this.into(bytes);
    return bytes;
  }

  /** Lets the source go, wherever it is. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
