import { createHash, timingSafeEqual } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { MAX_SECRET_BYTES, MIN_SECRET_CHARS, SECRET_FRESH_MS } from './constants.ts';

/** A shared secret in a file, read again when it is replaced, as mounted Secrets are. */
export class SecretFile {
  readonly #clock: Clock;
  readonly #path: string;
  #read: { readonly at: number; readonly secret: Promise<string> } | undefined;

  constructor(components: { readonly clock: Clock }, init: { readonly path: string }) {
    this.#clock = components.clock;
    this.#path = init.path;
  }

  /**
   * Whether an Authorization header carries the secret, alone or as a bearer token.
   * @throws TidepoolError DENIED when there is no secret that could be sent: nobody is let in then
   */
  async fits(header: string | undefined): Promise<boolean> {
    const secret = await this.#current();
    if (header === undefined) return false;
    const sent = header.replace(/^Bearer +/i, '').trim();
    // Whole header first: a secret may itself begin with a scheme, as in `Basic …`.
    return same(header.trim(), secret) || same(sent, secret);
  }

  #current(): Promise<string> {
    const now = this.#clock.mono();
    if (this.#read === undefined || now - this.#read.at >= SECRET_FRESH_MS) {
      const secret = this.#load();
      secret.catch(() => {
        // Told to whoever asks; the next request reads again.
        this.#read = undefined;
      });
      this.#read = { at: now, secret };
    }
    return this.#read.secret;
  }

  async #load(): Promise<string> {
    let text: string;
    try {
      const handle = await open(this.#path, 'r');
      try {
        const { bytesRead, buffer } = await handle.read(
          Buffer.alloc(MAX_SECRET_BYTES),
          0,
          MAX_SECRET_BYTES,
          0,
        );
        text = buffer.toString('utf8', 0, bytesRead).trim();
      } finally {
        await handle.close();
      }
    } catch (error) {
      const message = `no push is taken: the secret in ${this.#path} cannot be read: ${describeError(error)}`;
      throw new TidepoolError('DENIED', message, { cause: error });
    }
    if (text.length < MIN_SECRET_CHARS) {
      throw new TidepoolError(
        'DENIED',
        `no push is taken: the secret in ${this.#path} has fewer than ${MIN_SECRET_CHARS} characters; write a longer one`,
      );
    }
    return text;
  }
}

/** In the same time whatever is sent; hashes, because the comparison takes equal lengths only. */
function same(a: string, b: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(a), hash(b));
}
