/** Cuts a stream of bytes into lines; a line over `maxBytes` is an error, not memory. */
export class LineSplitter {
  readonly #maxBytes: number;
  #parts: Buffer[] = [];
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The lines that are whole now, without their ends. @throws RangeError for a line that is too long */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(10, start);
      const part = chunk.subarray(start, end < 0 ? chunk.length : end);
      this.#bytes += part.length;
      if (this.#bytes > this.#maxBytes) throw new RangeError(`a line of over ${this.#maxBytes} bytes`);
      this.#parts.push(part);
      if (end < 0) return lines;
      const line = this.#parts.length === 1 ? part : Buffer.concat(this.#parts);
      this.#parts = [];
      this.#bytes = 0;
      if (line.length > 0) lines.push(line.toString('utf8'));
      start = end + 1;
    }
  }
}
