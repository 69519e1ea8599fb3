import type { OnReadOpts, Socket } from 'node:net';
import { TidepoolError } from '../../shared/errors.ts';
import { connectionFailed } from './dialer.ts';
import { bodyLength, MAX_HEAD_BYTES, parseResponseHead, type ResponseHead } from './response-head.ts';

/** Who takes an answer in. Every method may throw: the connection is closed then, and `onEnd` gets what was thrown. */
export interface AnswerSink {
  /** Where the body's bytes go; a promise makes the connection wait without reading on. */
  onHead(head: ResponseHead, length: number): Uint8Array | Promise<Uint8Array>;
  /** Bytes that have come into what `onHead` gave, from `start` to `end`. */
  onBytes(start: number, end: number): void;
  /** Once: the answer is in, or why not. */
  onEnd(error?: unknown): void;
}

type State =
  | { readonly kind: 'idle' }
  | { readonly kind: 'head'; readonly sink: AnswerSink; text: Buffer }
  | { readonly kind: 'waiting'; readonly sink: AnswerSink; early: Buffer[]; readonly length: number }
  | { readonly kind: 'body'; readonly sink: AnswerSink; readonly target: Uint8Array; received: number }
  | { readonly kind: 'closed' };

/**
 * Of one read while an answer's head is awaited. What follows the head in it is copied, so it is small; over TLS it holds a
 * record, which would else come in four parts.
 */
const SCRATCH_BYTES = { plain: 4 * 1024, tls: 16 * 1024 } as const;
/** One for all connections: it is filled and told of in one turn, and copied before anything else is read. */
const SCRATCH = Buffer.allocUnsafeSlow(SCRATCH_BYTES.tls);
/** Most that TLS has deciphered already when reading is stopped: one read of the kernel's, 64 KiB, and a record. */
const MAX_EARLY_BYTES = 128 * 1024;

/**
 * One kept connection to a neighbour, one ask at a time. The kernel writes a piece's bytes straight into the piece's
 * buffer, as many at once as there are: no streams, no copies, a tenth of the callbacks.
 */
export class PieceConnection {
  readonly #socket: Socket;
  readonly #scratch: Buffer;
  readonly #onIdle: (connection: PieceConnection) => void;
  readonly #onClosed: (connection: PieceConnection) => void;
  #state: State = { kind: 'idle' };
  /** What waits for the connection to stand: nothing is said before it is known to whom. */
  #unsent: string | undefined;
  #open = false;
  /** Of this node's certificate that it was made with. */
  readonly generation: number;
  /** When the last answer was in, monotonic ms. */
  idleSince = 0;

  constructor(init: {
    generation: number;
    secure: boolean;
    /** Makes the connection, and calls once when it stands, or cannot. */
    dial: (onread: OnReadOpts, done: (error?: Error) => void) => Socket;
    onIdle: (connection: PieceConnection) => void;
    onClosed: (connection: PieceConnection) => void;
  }) {
    this.generation = init.generation;
    this.#scratch = SCRATCH.subarray(0, init.secure ? SCRATCH_BYTES.tls : SCRATCH_BYTES.plain);
    this.#onIdle = init.onIdle;
    this.#onClosed = init.onClosed;
    this.#socket = init.dial(
      { buffer: () => this.#room(), callback: (count, buffer) => this.#onRead(count, buffer) },
      (error) => (error === undefined ? this.#opened() : this.#close(error)),
    );
    this.#socket.once('error', (error) => this.#close(connectionFailed(error)));
    this.#socket.once('end', () => this.#socket.destroy());
    this.#socket.once('close', () => this.#close(new Error('the connection was closed')));
  }

  get idle(): boolean {
    return this.#state.kind === 'idle';
  }

  /** Sends a request whose answer goes to `sink`. The connection must be idle. */
  send(request: string, sink: AnswerSink): void {
    this.#state = { kind: 'head', sink, text: Buffer.alloc(0) };
    if (this.#open) this.#socket.write(request, 'latin1');
    else this.#unsent = request;
  }

  /** Breaks off whatever is under way. */
  destroy(error?: Error): void {
    this.#close(error ?? new Error('no longer wanted'));
  }

  #opened(): void {
    this.#open = true;
    if (this.#unsent !== undefined) this.#socket.write(this.#unsent, 'latin1');
    this.#unsent = undefined;
  }

  /** Where the kernel puts what comes next. */
  #room(): Uint8Array {
    return this.#state.kind === 'body' ? this.#state.target.subarray(this.#state.received) : this.#scratch;
  }

  /** False stops reading until the buffer is there. */
  #onRead(count: number, buffer: Uint8Array): boolean {
    const state = this.#state;
    try {
      if (state.kind === 'body') {
        // The place for this read was named before the body's was known: what fits the scratch is copied, once an answer.
        if (buffer === this.#scratch) {
          if (state.received + count > state.target.length) throw new Error('more bytes than announced');
          state.target.set(this.#scratch.subarray(0, count), state.received);
        }
        this.#took(state, count);
        return true;
      }
      if (state.kind === 'waiting') {
        const early = state.early.reduce((sum, { length }) => sum + length, count);
        if (early > MAX_EARLY_BYTES) throw new Error('more bytes than were asked for yet');
        state.early.push(Buffer.from(this.#scratch.subarray(0, count)));
        return false;
      }
      if (state.kind !== 'head') throw new Error('bytes that nobody asked for');
      state.text = Buffer.concat([state.text, this.#scratch.subarray(0, count)]);
      const end = state.text.indexOf('\r\n\r\n');
      if (end < 0) {
        if (state.text.length > MAX_HEAD_BYTES) throw new Error('an endless head');
        return true;
      }
      return this.#onHead(state.sink, state.text.toString('latin1', 0, end), state.text.subarray(end + 4));
    } catch (error) {
      this.#close(error);
      return false;
    }
  }

  #onHead(sink: AnswerSink, text: string, early: Buffer): boolean {
    const head = parseResponseHead(text);
    const length = bodyLength(head);
    const target = sink.onHead(head, length);
    if (target instanceof Uint8Array) {
      this.#begin(sink, target, [early], length);
      return true;
    }
    const waiting: Extract<State, { kind: 'waiting' }> = { kind: 'waiting', sink, early: [early], length };
    this.#state = waiting;
    target.then(
      (bytes) => {
        if (this.#state !== waiting) return;
        try {
          this.#begin(sink, bytes, waiting.early, length);
          this.#socket.resume();
        } catch (error) {
          this.#close(error);
        }
      },
      (error: unknown) => this.#close(error),
    );
    return false;
  }

  #begin(sink: AnswerSink, target: Uint8Array, early: readonly Buffer[], length: number): void {
    if (target.length !== length)
      throw new Error(`a body of ${length} bytes for a place of ${target.length}`);
    const state = { kind: 'body', sink, target, received: 0 } as const satisfies State;
    const body: Extract<State, { kind: 'body' }> = { ...state };
    this.#state = body;
    let count = 0;
    for (const chunk of early) {
      if (count + chunk.length > length) throw new Error('more bytes than announced');
      target.set(chunk, count);
      count += chunk.length;
    }
    this.#took(body, count);
  }

  #took(state: Extract<State, { kind: 'body' }>, count: number): void {
    const start = state.received;
    state.received += count;
    if (count > 0) state.sink.onBytes(start, state.received);
    if (state.received < state.target.length) return;
    this.#state = { kind: 'idle' };
    state.sink.onEnd();
    this.#onIdle(this);
  }

  #close(error: unknown): void {
    const state = this.#state;
    if (state.kind === 'closed') return;
    this.#state = { kind: 'closed' };
    this.#socket.destroy();
    this.#onClosed(this);
    if (state.kind !== 'idle')
      state.sink.onEnd(error instanceof TidepoolError ? error : connectionFailed(error));
  }
}
