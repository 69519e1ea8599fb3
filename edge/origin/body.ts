/** Told of bytes that have come; a promise has the sender wait before more is read. */
export type OnBytes = (bytes: Uint8Array) => Promise<void> | undefined;

/** The body of an answer. To be read to its end or cancelled: it holds a connection. */
export interface Body extends AsyncIterableIterator<Uint8Array, undefined> {
  return(): Promise<IteratorResult<Uint8Array, undefined>>;
  /** Gives the rest up. The connection is closed unless the body had come to its end. */
  cancel(): void;
  /** All of it, or undefined when it is longer than `limit`; the rest is then given up. */
  readAll(limit: number): Promise<Buffer | undefined>;
  /**
   * Fills a place from the body without a copy, where the connection can; resolves with how many bytes there were, fewer
   * than the place at the body's end only.
   */
  fill?(target: Uint8Array, onBytes: OnBytes): Promise<number>;
}

export async function readAll(body: Body, limit: number): Promise<Buffer | undefined> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > limit) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}
