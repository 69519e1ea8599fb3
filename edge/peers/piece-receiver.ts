import { createHash, type Hash } from 'node:crypto';
import { type Clock, every } from '../../shared/clock.ts';
import { TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import type { TokenBucket } from '../../shared/flow/token-bucket.ts';
import { parseNodeName } from '../../shared/ids.ts';
import { pieceLength } from '../../shared/pieces.ts';
import type { BlobStore, PieceBuffer, PieceClaim } from '../store/types.ts';
import type { AnswerSink } from './channel.ts';
import { MAX_JSON_BYTES, PIECE_STALL_MS } from './constants.ts';
import type { ResponseHead } from './response-head.ts';
import type { PieceAnswer, PieceAsk } from './types.ts';
import { readAnswer } from './wire/fields.ts';
import { STATUS } from './wire/paths.ts';
import { parseClaim } from './wire/piece.ts';

/** TLS brings 16 KiB at once, and a call for each costs some of what hashing them does; a step of this stays in the cache. */
const HASH_BYTES = 128 * 1024;

interface Components {
  readonly store: Pick<BlobStore, 'buffer'>;
  readonly clock: Clock;
  readonly download: Pick<TokenBucket, 'take'>;
}

interface Init {
  readonly ask: PieceAsk;
  readonly signal: AbortSignal;
  readonly onBytes: ((count: number) => void) | undefined;
  /** Sends the ask; the answer breaks it off. */
  readonly send: (sink: AnswerSink) => () => void;
}

/**
 * Receives one piece straight into a piece buffer, hashing the bytes while they are in the processor's cache. The buffer is
 * taken when the answer begins, not when the ask is sent: a held ask must not keep memory from others.
 */
export class PieceReceiver implements AnswerSink {
  readonly answer: Promise<PieceAnswer>;
  readonly #c: Components;
  readonly #init: Init;
  readonly #length: number;
  #hash: Hash | undefined;
  #hashed = 0;
  #resolve: (answer: PieceAnswer) => void = () => undefined;
  #reject: (reason: unknown) => void = () => undefined;
  #settled = false;
  #status = 0;
  #claim: PieceClaim | undefined;
  #buffer: PieceBuffer | undefined;
  #text: Uint8Array = new Uint8Array(0);
  #received = 0;
  /** As many bytes had come when the watch last saw more of them, and when that was, monotonic ms. */
  #seen = 0;
  #seenAt = 0;
  #breakOff: () => void = () => undefined;
  #stopWatching: () => void = () => undefined;
  readonly #onAbort = (): void => this.#fail(this.#init.signal.reason);

  constructor(components: Components, init: Init) {
    this.#c = components;
    this.#init = init;
    this.#length = pieceLength(init.ask.layout, init.ask.piece);
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    if (init.signal.aborted) {
      this.#fail(init.signal.reason);
      return;
    }
    init.signal.addEventListener('abort', this.#onAbort, { once: true });
    try {
      this.#breakOff = init.send(this);
    } catch (error) {
      this.#fail(error);
    }
  }

  onHead(head: ResponseHead, length: number): Uint8Array | Promise<Uint8Array> {
    this.#status = head.status;
    if (head.status === STATUS.bytes) {
      return this.#room(
        readAnswer(() => parseClaim(head.headers)),
        length,
      );
    }
    if (head.status === STATUS.confirmed) this.#claim = readAnswer(() => parseClaim(head.headers));
    if (length > MAX_JSON_BYTES)
      throw new TidepoolError('PEER_UNREACHABLE', 'the neighbour sends an endless refusal');
    this.#text = new Uint8Array(length);
    return this.#text;
  }

  onBytes(start: number, end: number): void {
    if (this.#buffer === undefined) return;
    if (end - this.#hashed >= HASH_BYTES || end === this.#length) {
      this.#hash?.update(this.#buffer.bytes.subarray(this.#hashed, end));
      this.#hashed = end;
    }
    this.#received = end;
    this.#init.onBytes?.(end - start);
  }

  onEnd(error?: unknown): void {
    if (error !== undefined) {
      this.#fail(error);
      return;
    }
    if (this.#settled) return;
    try {
      const answer = this.#finish();
      this.#settle();
      this.#resolve(answer);
    } catch (failure) {
      this.#fail(toTidepoolError(failure, 'PEER_UNREACHABLE'));
    }
  }

  async #room(claim: PieceClaim, length: number): Promise<Uint8Array> {
    if (length !== this.#length) {
      throw new TidepoolError(
        'PIECE_CORRUPT',
        `a piece of ${this.#length} bytes is announced with ${length}`,
      );
    }
    const { ask, signal } = this.#init;
    await this.#c.download.take(this.#length, { priority: ask.priority, signal });
    const buffer = await this.#c.store.buffer(this.#length, signal);
    if (this.#settled) {
      buffer.release();
      throw new TidepoolError('ABORTED', 'no longer wanted');
    }
    this.#buffer = buffer;
    this.#claim = claim;
    this.#hash = createHash('sha256');
    this.#seenAt = this.#c.clock.mono();
    this.#stopWatching = every(this.#c.clock, PIECE_STALL_MS / 4, () => this.#watch());
    return buffer.bytes;
  }

  #finish(): PieceAnswer {
    const { ask } = this.#init;
    if (this.#status === STATUS.bytes && this.#claim !== undefined && this.#buffer !== undefined) {
      if (this.#hash?.digest().equals(this.#claim.sha256) !== true) {
        throw new TidepoolError(
          'PIECE_CORRUPT',
          `piece ${ask.piece} of ${ask.key} differs from its sender's claim`,
        );
      }
      return { kind: 'bytes', buffer: this.#buffer, claim: this.#claim };
    }
    if (this.#status === STATUS.confirmed && this.#claim !== undefined)
      return { kind: 'confirmed', claim: this.#claim };
    const fields: { node?: unknown; fed?: unknown; code?: unknown; message?: unknown } =
      JSON.parse(Buffer.from(this.#text).toString('utf8')) ?? {};
    if (this.#status === STATUS.elsewhere) {
      const { node } = fields;
      if (typeof node !== 'string')
        throw new TidepoolError('PEER_UNREACHABLE', 'the neighbour refers to nobody');
      return { kind: 'elsewhere', node: readAnswer(() => parseNodeName(node)), fed: fields.fed === true };
    }
    return {
      kind: 'refused',
      code: String(fields.code ?? this.#status),
      message: String(fields.message ?? `answer ${this.#status}`).slice(0, 500),
    };
  }

  #watch(): void {
    const now = this.#c.clock.mono();
    if (this.#received !== this.#seen) {
      this.#seen = this.#received;
      this.#seenAt = now;
    }
    if (now - this.#seenAt < PIECE_STALL_MS) return;
    this.#fail(new TidepoolError('PEER_STALLED', `no bytes of a begun piece for ${PIECE_STALL_MS} ms`));
  }

  #fail(error: unknown): void {
    if (this.#settled) return;
    this.#settle();
    // Before the buffer is given back: nothing more may be written into it.
    this.#breakOff();
    this.#buffer?.release();
    this.#reject(error);
  }

  #settle(): void {
    this.#settled = true;
    this.#stopWatching();
    this.#init.signal.removeEventListener('abort', this.#onAbort);
  }
}
