/**
 * Watches the lengths that MQTT packets announce. A parser collects a packet in memory before anybody can look at it,
 * and the protocol allows 256 MB; so the length is judged from the fixed header, before the body has come.
 */
export class FrameMeter {
  readonly #maxBytes: number;
  /** Bytes of the current packet's body still to come. */
  #body = 0;
  /** 0: the next byte is a packet's first; else its value counts the length bytes read, plus one. */
  #lengthBytes = 0;
  #length = 0;
  #packets = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Packets begun so far. */
  get packets(): number {
    return this.#packets;
  }

  /** False as soon as a packet announces more than allowed, or a length that is none. */
  accept(chunk: Uint8Array): boolean {
    let at = 0;
    while (at < chunk.length) {
      if (this.#body > 0) {
        const step = Math.min(this.#body, chunk.length - at);
        this.#body -= step;
        at += step;
        continue;
      }
      const byte = chunk[at++] ?? 0;
      if (this.#lengthBytes === 0) {
        this.#lengthBytes = 1;
        this.#length = 0;
        this.#packets++;
        continue;
      }
      if (this.#lengthBytes > 4) return false;
      this.#length += (byte & 0x7f) * 128 ** (this.#lengthBytes - 1);
      if (this.#length > this.#maxBytes) return false;
      if ((byte & 0x80) !== 0) {
        this.#lengthBytes++;
        continue;
      }
      this.#lengthBytes = 0;
      this.#body = this.#length;
    }
    return true;
  }
}
