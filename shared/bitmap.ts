/** A fixed number of bits, packed little-endian within bytes. Counts and the first gap are kept, not recomputed. */
export class Bitmap {
  readonly size: number;
  readonly #bytes: Uint8Array;
  #count = 0;
  #leading = 0;

  constructor(size: number, bytes?: Uint8Array) {
    this.size = size;
    this.#bytes = new Uint8Array(Math.ceil(size / 8));
    if (bytes !== undefined) {
      if (bytes.length !== this.#bytes.length) {
        throw new RangeError(
          `a bitmap of ${size} bits takes ${this.#bytes.length} bytes, not ${bytes.length}`,
        );
      }
      this.#bytes.set(bytes);
      const spare = this.#bytes.length * 8 - size;
      const last = this.#bytes.length - 1;
      // Bits past the end are dropped: a peer's map must not make a count exceed the size.
      if (spare > 0) this.#bytes[last] = (this.#bytes[last] ?? 0) & (0xff >> spare);
      for (const byte of this.#bytes) this.#count += popCount(byte);
      this.#advance();
    }
  }

  /** Number of bits set. */
  get count(): number {
    return this.#count;
  }

  /** Number of bits set before the first that is not. */
  get leading(): number {
    return this.#leading;
  }

  get full(): boolean {
    return this.#count === this.size;
  }

  has(bit: number): boolean {
    return bit >= 0 && bit < this.size && ((this.#bytes[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;
  }

  /** Sets a bit; true when it was not set before. */
  set(bit: number): boolean {
    this.#check(bit);
    if (this.has(bit)) return false;
    this.#bytes[bit >> 3] = (this.#bytes[bit >> 3] ?? 0) | (1 << (bit & 7));
    this.#count++;
    if (bit === this.#leading) this.#advance();
    return true;
  }

  /** Clears a bit; true when it was set before. */
  clear(bit: number): boolean {
    this.#check(bit);
    if (!this.has(bit)) return false;
    this.#bytes[bit >> 3] = (this.#bytes[bit >> 3] ?? 0) & ~(1 << (bit & 7));
    this.#count--;
    if (bit < this.#leading) this.#leading = bit;
    return true;
  }

  setAll(): void {
    for (let bit = 0; bit < this.size; bit++) this.set(bit);
  }

  /** Adds the bits of another map of the same size, packed. */
  or(bytes: Uint8Array): void {
    const other = new Bitmap(this.size, bytes);
    for (let bit = 0; bit < this.size; bit++) if (other.has(bit)) this.set(bit);
  }

  /** First unset bit at or after `from`, or `size`. */
  nextUnset(from: number): number {
    let bit = Math.max(from, this.#leading);
    while (bit < this.size && this.has(bit)) bit++;
    return Math.min(bit, this.size);
  }

  /** A copy of the packed bits. */
  toBytes(): Uint8Array {
    return this.#bytes.slice();
  }

  clone(): Bitmap {
    return new Bitmap(this.size, this.#bytes);
  }

  #advance(): void {
    while (this.#leading < this.size && this.has(this.#leading)) this.#leading++;
  }

  #check(bit: number): void {
    if (!Number.isInteger(bit) || bit < 0 || bit >= this.size) {
      throw new RangeError(`bit ${bit} is outside a bitmap of ${this.size}`);
    }
  }
}

function popCount(byte: number): number {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count++;
  return count;
}
