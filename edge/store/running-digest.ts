import { createHash, type Hash } from 'node:crypto';
import { TidepoolError } from '../../shared/errors.ts';

/** Where the digest gets what did not come by in order. */
export interface DigestSource {
  readonly pieceCount: number;
  has(piece: number): boolean;
  /** Hands over the bytes of a held piece, in order; rejects when they cannot be had any more. */
  read(piece: number, take: (bytes: Uint8Array) => void): Promise<void>;
}

/**
 * The sha256 of a blob's leading pieces. A piece that comes in order is hashed from memory as it comes; the others when
 * their turn comes, one at a time, so that nothing else waits long.
 */
export class RunningDigest {
  readonly #source: DigestSource;
  #hash: Hash = createHash('sha256');
  /** Pieces hashed so far. */
  #cursor = 0;
  /** Grows with each start from the beginning: what a read before it brings is void. */
  #round = 0;
  #loop: Promise<void> | undefined;
  #failure: unknown;
  #hex: string | undefined;

  constructor(source: DigestSource) {
    this.#source = source;
  }

  /** Hashes a piece from memory if its turn is now; true when it did. */
  take(piece: number, bytes: Uint8Array): boolean {
    if (piece !== this.#cursor || this.#loop !== undefined) return false;
    this.#hash.update(bytes);
    this.#cursor++;
    return true;
  }

  /** Goes on, in the background, with pieces that are held already. */
  kick(): void {
    if (this.#loop !== undefined || !this.#source.has(this.#cursor)) return;
    this.#loop = this.#run().finally(() => {
      this.#loop = undefined;
    });
  }

  /** A piece is gone or will change: if it has been hashed, all starts again. */
  forget(piece: number): void {
    if (piece > this.#cursor || (piece === this.#cursor && this.#loop === undefined)) return;
    this.#reset();
  }

  /**
   * The hex digest of all pieces.
   * @throws TidepoolError PIECE_NOT_HELD when one is missing, or what reading one failed with
   */
  async finish(): Promise<string> {
    this.#failure = undefined;
    while (this.#cursor < this.#source.pieceCount) {
      if (this.#loop === undefined && !this.#source.has(this.#cursor)) {
        throw new TidepoolError(
          'PIECE_NOT_HELD',
          `piece ${this.#cursor} is missing: there is nothing to verify yet`,
        );
      }
      this.kick();
      await this.#loop;
      if (this.#failure !== undefined) throw this.#failure;
    }
    this.#hex ??= this.#hash.digest('hex');
    return this.#hex;
  }

  /** Never rejects: there may be nobody to hear it. */
  async #run(): Promise<void> {
    while (this.#source.has(this.#cursor)) {
      const round = this.#round;
      const hash = this.#hash;
      try {
        await this.#source.read(this.#cursor, (bytes) => hash.update(bytes));
      } catch (error) {
        if (round !== this.#round) continue;
        this.#reset();
        this.#failure = error;
        return;
      }
      if (round === this.#round) this.#cursor++;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #reset(): void {
    this.#round++;
    this.#hash = createHash('sha256');
    this.#cursor = 0;
    this.#hex = undefined;
  }
}
