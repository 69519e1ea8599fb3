const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const KEY = Buffer.from('items');

/**
 * Takes a list apart while it arrives: each of its `items` is given out as its bytes are whole, so that a page of 500
 * objects is never in memory as such. Reads any JSON object with an array of objects under `items` at its top.
 */
export class ItemSplitter {
  readonly #onItem: (item: unknown) => void;
  readonly #maxBytes: number;
  /** Everything but the items. */
  readonly #rest: Buffer[] = [];
  #item: Buffer[] = [];
  #bytes = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;
  /** Bytes of the newest string at depth 1, as far as they are of interest: the key before an array. */
  #key: number[] = [];
  #inItems = false;

  /** @param maxBytes of one item, and of all the rest */
  constructor(onItem: (item: unknown) => void, maxBytes: number) {
    this.#onItem = onItem;
    this.#maxBytes = maxBytes;
  }

  /** @throws RangeError for an item that is too large, SyntaxError for one that is no JSON, what the listener throws */
  push(chunk: Buffer): void {
    let from = 0;
    for (let index = 0; index < chunk.length; index++) {
      const byte = chunk[index];
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inString = false;
        else if (this.#depth === 1 && this.#key.length <= KEY.length) this.#key.push(byte ?? 0);
        continue;
      }
      switch (byte) {
        case QUOTE:
          this.#inString = true;
          if (this.#depth === 1) this.#key = [];
          break;
        case OPEN_BRACKET:
          this.#depth++;
          if (this.#depth === 2 && KEY.equals(Buffer.from(this.#key))) {
            this.#keep(this.#rest, chunk.subarray(from, index + 1));
            from = index + 1;
            this.#inItems = true;
          }
          break;
        case OPEN_BRACE:
          this.#depth++;
          // What stands between two items is nothing.
          if (this.#inItems && this.#depth === 3) from = index;
          break;
        case CLOSE_BRACE:
          this.#depth--;
          if (this.#inItems && this.#depth === 2) {
            this.#keep(this.#item, chunk.subarray(from, index + 1));
            from = index + 1;
            this.#give();
          }
          break;
        case CLOSE_BRACKET:
          this.#depth--;
          if (this.#inItems && this.#depth === 1) {
            this.#inItems = false;
            from = index;
            this.#bytes = 0;
          }
          break;
        default:
      }
    }
    if (!this.#inItems) this.#keep(this.#rest, chunk.subarray(from));
    else if (this.#depth > 2) this.#keep(this.#item, chunk.subarray(from));
  }

  /** The list without its items. @throws SyntaxError for one that is not whole */
  end(): unknown {
    return JSON.parse(Buffer.concat(this.#rest).toString('utf8'));
  }

  #give(): void {
    const bytes = this.#item.length === 1 ? this.#item[0] : Buffer.concat(this.#item);
    this.#item = [];
    this.#bytes = 0;
    this.#onItem(JSON.parse(bytes?.toString('utf8') ?? ''));
  }

  #keep(parts: Buffer[], part: Buffer): void {
    this.#bytes += part.length;
    if (this.#bytes > this.#maxBytes) throw new RangeError(`an object of over ${this.#maxBytes} bytes`);
    parts.push(part);
  }
}
