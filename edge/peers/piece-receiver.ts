import { createHash, type Hash } from 'node:crypto';
import type { Dispatcher } from 'undici';
import { type Clock, every } from '../../shared/clock.ts';
import { TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { parseNodeName } from '../../shared/ids.ts';
import { pieceLength } from '../../shared/pieces.ts';
import type { BlobStore, PieceBuffer, PieceClaim } from '../store/types.ts';
import { MAX_JSON_BYTES, PIECE_STALL_MS } from './constants.ts';
import type { PieceAnswer, PieceAsk } from './types.ts';
import { parseClaim, STATUS } from './wire.ts';

interface Components {
  readonly store: Pick<BlobStore, 'buffer'>;
  readonly clock: Clock;
}

interface Init {
  readonly ask: PieceAsk;
  readonly signal: AbortSignal;
  readonly onBytes: ((count: number) => void) | undefined;
}

/**
 * Receives one piece straight into a piece buffer, hashing each chunk while it is in the processor's cache. The buffer is
 * taken when the answer begins, not when the ask is sent: a held ask must not keep memory from others.
 */
export class PieceReceiver implements Dispatcher.DispatchHandler {
  readonly answer: Promise<PieceAnswer>;
  readonly #store: Pick<BlobStore, 'buffer'>;
  readonly #clock: Clock;
  readonly #ask: PieceAsk;
  readonly #signal: AbortSignal;
  readonly #onBytes: ((count: number) => void) | undefined;
  readonly #length: number;
  readonly #hash: Hash = createHash('sha256');
  #resolve: (answer: PieceAnswer) => void = () => undefined;
  #reject: (reason: unknown) => void = () => undefined;
  #settled = false;
  #controller: Dispatcher.DispatchController | undefined;
  #status = 0;
  #claim: PieceClaim | undefined;
  #buffer: PieceBuffer | undefined;
  #received = 0;
  #text: Buffer[] = [];
  #lastBytesAt = 0;
  #stopWatching: () => void = () => undefined;
  readonly #onAbort = (): void => this.#fail(this.#signal.reason);

  constructor(components: Components, init: Init) {
    this.#store = components.store;
    this.#clock = components.clock;
    this.#ask = init.ask;
    this.#signal = init.signal;
    this.#onBytes = init.onBytes;
    this.#length = pieceLength(init.ask.layout, init.ask.piece);
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    if (init.signal.aborted) this.#fail(init.signal.reason);
    else init.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#settled) controller.abort(new Error('no longer wanted'));
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
  ): void {
    if (status < 200 || this.#settled) return;
    this.#status = status;
    try {
      if (status === STATUS.bytes || status === STATUS.confirmed) this.#claim = parseClaim(headers);
      if (status === STATUS.bytes && Number(headers['content-length']) !== this.#length) {
        throw new TidepoolError(
          'PIECE_CORRUPT',
          `a piece of ${this.#length} bytes is announced with ${headers['content-length']}`,
        );
      }
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (status !== STATUS.bytes) return;
    controller.pause();
    this.#store.buffer(this.#length, this.#signal).then(
      (buffer) => {
        if (this.#settled) {
          buffer.release();
          return;
        }
        this.#buffer = buffer;
        this.#lastBytesAt = this.#clock.mono();
        this.#stopWatching = every(this.#clock, PIECE_STALL_MS / 2, () => this.#watch());
        controller.resume();
      },
      (error: unknown) => this.#fail(error),
    );
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#settled) return;
    if (this.#status !== STATUS.bytes) {
      this.#received += chunk.length;
      if (this.#received > MAX_JSON_BYTES)
        this.#fail(new TidepoolError('PEER_UNREACHABLE', 'an endless refusal'));
      else this.#text.push(chunk);
      return;
    }
    if (this.#buffer === undefined || this.#received + chunk.length > this.#length) {
      this.#fail(new TidepoolError('PIECE_CORRUPT', 'more bytes than the piece has'));
      return;
    }
    this.#buffer.bytes.set(chunk, this.#received);
    this.#received += chunk.length;
    this.#hash.update(chunk);
    this.#lastBytesAt = this.#clock.mono();
    this.#onBytes?.(chunk.length);
  }

  onResponseEnd(): void {
    if (this.#settled) return;
    try {
      this.#succeed(this.#finish());
    } catch (error) {
      this.#fail(toTidepoolError(error, 'PEER_UNREACHABLE'));
    }
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#fail(toTidepoolError(error, 'PEER_UNREACHABLE'));
  }

  #finish(): PieceAnswer {
    if (this.#status === STATUS.bytes && this.#claim !== undefined && this.#buffer !== undefined) {
      if (this.#received !== this.#length)
        throw new TidepoolError('PEER_UNREACHABLE', 'the piece ends early');
      if (!this.#hash.digest().equals(this.#claim.sha256)) {
        throw new TidepoolError(
          'PIECE_CORRUPT',
          `piece ${this.#ask.piece} of ${this.#ask.key} differs from its sender's claim`,
        );
      }
      return { kind: 'bytes', buffer: this.#buffer, claim: this.#claim };
    }
    if (this.#status === STATUS.confirmed && this.#claim !== undefined)
      return { kind: 'confirmed', claim: this.#claim };
    const fields: { node?: unknown; fed?: unknown; code?: unknown; message?: unknown } =
      JSON.parse(Buffer.concat(this.#text).toString('utf8')) ?? {};
    if (this.#status === STATUS.elsewhere) {
      return { kind: 'elsewhere', node: parseNodeName(String(fields.node)), fed: fields.fed === true };
    }
    return {
      kind: 'refused',
      code: String(fields.code ?? this.#status),
      message: String(fields.message ?? `answer ${this.#status}`).slice(0, 500),
    };
  }

  #watch(): void {
    if (this.#clock.mono() - this.#lastBytesAt < PIECE_STALL_MS) return;
    this.#fail(new TidepoolError('PEER_STALLED', `no bytes of a begun piece for ${PIECE_STALL_MS} ms`));
  }

  #succeed(answer: PieceAnswer): void {
    this.#settle();
    this.#resolve(answer);
  }

  #fail(error: unknown): void {
    if (this.#settled) return;
    this.#settle();
    this.#buffer?.release();
    this.#reject(error);
    this.#controller?.abort(error instanceof Error ? error : new Error(String(error)));
  }

  #settle(): void {
    this.#settled = true;
    this.#stopWatching();
    this.#signal.removeEventListener('abort', this.#onAbort);
  }
}
