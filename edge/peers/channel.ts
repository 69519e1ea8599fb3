import type { OnReadOpts, Socket } from 'node:net';
import { TidepoolError } from '../../shared/errors.ts';
import { type ChannelAsk, encodeAskHead, encodeWithdrawal, parseAskNumber } from './channel-wire.ts';
import { MAX_WITHDRAWN } from './constants.ts';
import { connectionFailed } from './dialer.ts';
import { bodyLength, MAX_HEAD_BYTES, parseResponseHead, type ResponseHead } from './response-head.ts';

/** Who takes an answer in. Every method may throw: the channel is closed then, and `onEnd` gets what was thrown. */
export interface AnswerSink {
  /** Where the body's bytes go; a promise makes the channel wait without reading on. */
  onHead(head: ResponseHead, length: number): Uint8Array | Promise<Uint8Array>;
  /** Bytes that have come into what `onHead` gave, from `start` to `end`. */
  onBytes(start: number, end: number): void;
  /** Once: the answer is in, or why not. */
  onEnd(error?: unknown): void;
}

/** An ask that is out, over whichever channel it is now. */
export interface OpenAsk {
  readonly ask: ChannelAsk;
  readonly sink: AnswerSink;
  /** It was sent over another channel before, which was given up for another ask's sake. */
  again: boolean;
  breakOff: () => void;
}

type State =
  | { readonly kind: 'opening' | 'head'; text: Buffer }
  | {
      readonly kind: 'waiting';
      readonly open: OpenAsk;
      readonly length: number;
      early: Buffer[];
    }
  | { readonly kind: 'body'; readonly open: OpenAsk; readonly target: Uint8Array; received: number }
  | { readonly kind: 'skip'; left: number }
  | { readonly kind: 'closed' };

/**
 * Of one read while no body comes. What follows a head in it is copied, so it is small; over TLS it holds a record, which
 * would else come in four parts.
 */
const SCRATCH_BYTES = { plain: 4 * 1024, tls: 16 * 1024 } as const;
/** One for all channels: it is filled and told of in one turn, and copied before anything else is read. */
const SCRATCH = Buffer.allocUnsafeSlow(SCRATCH_BYTES.tls);
/** Most that TLS has deciphered already when reading is stopped: one read of the kernel's, 64 KiB, and a record. */
const MAX_EARLY_BYTES = 128 * 1024;
const NOTHING = Buffer.alloc(0);

/**
 * One kept connection to a neighbour for any number of asks, each of which may be held there for as long as a fetch takes.
 * The kernel writes a piece's bytes straight into the piece's buffer, as many at once as there are: no streams, no copies.
 */
export class Channel {
  readonly #socket: Socket;
  readonly #scratch: Buffer;
  readonly #onClosed: (left: readonly OpenAsk[]) => void;
  /** Asks that are out; undefined for one that was withdrawn and whose end is not known yet. */
  readonly #asks = new Map<number, OpenAsk | undefined>();
  #state: State = { kind: 'opening', text: NOTHING };
  #next = 1;
  #withdrawn = 0;
  /** What waits for the connection to stand: nothing is said before it is known to whom. */
  #unsent: string[] | undefined;
  /** Of this node's certificate that it was made with. */
  readonly generation: number;
  readonly #now: () => number;
  /** When the last answer was in, monotonic ms. */
  idleSince = 0;

  constructor(init: {
    generation: number;
    secure: boolean;
    /** First words, see `encodeOpening`. */
    opening: string;
    now: () => number;
    /** Makes the connection, and calls once when it stands, or cannot. */
    dial: (onread: OnReadOpts, done: (error?: Error) => void) => Socket;
    /** Once; asks that have not begun to be answered are left where this node itself has given the channel up. */
    onClosed: (left: readonly OpenAsk[]) => void;
  }) {
    this.generation = init.generation;
    this.#unsent = [init.opening];
    this.#now = init.now;
    this.#scratch = SCRATCH.subarray(0, init.secure ? SCRATCH_BYTES.tls : SCRATCH_BYTES.plain);
    this.#onClosed = init.onClosed;
    this.#socket = init.dial(
      { buffer: () => this.#room(), callback: (count, buffer) => this.#onRead(count, buffer) },
      (error) => (error === undefined ? this.#opened() : this.#fail(error)),
    );
    this.#socket.once('error', (error) => this.#fail(connectionFailed(error)));
    this.#socket.once('end', () => this.#socket.destroy());
    this.#socket.once('close', () => this.#fail(new Error('the connection was closed')));
  }

  /** Asks that are out, withdrawn ones included until the neighbour has said that it knows. */
  get size(): number {
    return this.#asks.size;
  }

  send(open: OpenAsk): void {
    const number = this.#next++;
    this.#asks.set(number, open);
    open.breakOff = () => this.#breakOff(number, open);
    const { body } = open.ask;
    this.#write(encodeAskHead(number, open.ask) + (body === undefined ? '' : body.toString('latin1')));
  }

  /** Everything that is out fails with this. */
  destroy(error: Error): void {
    this.#fail(error);
  }

  #opened(): void {
    const unsent = this.#unsent ?? [];
    this.#unsent = undefined;
    this.#write(unsent.join(''));
  }

  #write(text: string): void {
    if (this.#unsent !== undefined) this.#unsent.push(text);
    else this.#socket.write(text, 'latin1');
  }

  #breakOff(number: number, open: OpenAsk): void {
    const state = this.#state;
    // Its bytes are on their way into a buffer that will be another's: nothing more may come over this connection.
    if ((state.kind === 'waiting' || state.kind === 'body') && state.open === open) this.#giveUp();
    if (this.#asks.get(number) !== open) return;
    this.#asks.set(number, undefined);
    this.#write(encodeWithdrawal(number));
    // Who does not even say that it has heard so is not waited for.
    if (++this.#withdrawn >= MAX_WITHDRAWN) this.#giveUp();
  }

  /** Where the kernel puts what comes next. */
  #room(): Uint8Array {
    return this.#state.kind === 'body' ? this.#state.target.subarray(this.#state.received) : this.#scratch;
  }

  /** False stops reading until there is room. */
  #onRead(count: number, buffer: Uint8Array): boolean {
    const state = this.#state;
    try {
      // The place for this read was named before the body's was known: what fits the scratch is copied, once an answer.
      if (state.kind !== 'body' || buffer === this.#scratch)
        return this.#take(this.#scratch.subarray(0, count));
      this.#took(state, count);
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  /** Bytes that did not come to where they belong: heads, and what follows one in the same read. */
  #take(bytes: Buffer): boolean {
    let rest = bytes;
    while (rest.length > 0) {
      const state = this.#state;
      if (state.kind === 'closed') return false;
      if (state.kind === 'waiting') {
        const early = state.early.reduce((sum, { length }) => sum + length, rest.length);
        if (early > MAX_EARLY_BYTES) throw new Error('more bytes than there was room for yet');
        state.early.push(Buffer.from(rest));
        return false;
      }
      rest =
        state.kind === 'body' || state.kind === 'skip' ? this.#fill(state, rest) : this.#read(state, rest);
    }
    return this.#state.kind !== 'waiting' && this.#state.kind !== 'closed';
  }

  /** @returns what comes after the body */
  #fill(state: Extract<State, { kind: 'body' | 'skip' }>, bytes: Buffer): Buffer {
    if (state.kind === 'skip') {
      const count = Math.min(state.left, bytes.length);
      state.left -= count;
      if (state.left === 0) this.#state = { kind: 'head', text: NOTHING };
      return bytes.subarray(count);
    }
    const count = Math.min(state.target.length - state.received, bytes.length);
    state.target.set(bytes.subarray(0, count), state.received);
    this.#took(state, count);
    return bytes.subarray(count);
  }

  /** @returns what comes after the head */
  #read(state: Extract<State, { kind: 'opening' | 'head' }>, bytes: Buffer): Buffer {
    const text = state.text.length === 0 ? bytes : Buffer.concat([state.text, bytes]);
    const end = text.indexOf('\r\n\r\n');
    if (end > MAX_HEAD_BYTES || (end < 0 && text.length > MAX_HEAD_BYTES)) throw new Error('an endless head');
    if (end < 0) {
      // Copied: the scratch is filled again.
      state.text = Buffer.from(text);
      return NOTHING;
    }
    this.#onHead(parseResponseHead(text.toString('latin1', 0, end)), state.kind === 'opening');
    return text.subarray(end + 4);
  }

  #onHead(head: ResponseHead, opening: boolean): void {
    if (opening) {
      if (head.status !== 101) throw new Error(`it opens no channel and answers ${head.status}`);
      this.#state = { kind: 'head', text: NOTHING };
      return;
    }
    const number = parseAskNumber(head.headers);
    const length = bodyLength(head);
    if (!this.#asks.has(number)) throw new Error('an answer that nobody asked for');
    const open = this.#asks.get(number);
    this.#asks.delete(number);
    if (open === undefined) {
      this.#withdrawn--;
      this.#state = length === 0 ? { kind: 'head', text: NOTHING } : { kind: 'skip', left: length };
      this.#settled();
      return;
    }
    // From here on it is this ask's answer that everything depends on.
    const waiting: Extract<State, { kind: 'waiting' }> = { kind: 'waiting', open, length, early: [] };
    this.#state = waiting;
    const target = open.sink.onHead(head, length);
    if (target instanceof Uint8Array) {
      this.#begin(waiting, target);
      return;
    }
    target.then(
      (bytes) => {
        if (this.#state !== waiting) return;
        try {
          this.#begin(waiting, bytes);
          let isReading = true;
          for (const early of waiting.early) isReading = this.#take(early);
          if (isReading) this.#socket.resume();
        } catch (error) {
          this.#fail(error);
        }
      },
      (error: unknown) => this.#fail(error),
    );
  }

  #begin({ open, length }: Extract<State, { kind: 'waiting' }>, target: Uint8Array): void {
    if (target.length !== length)
      throw new Error(`a body of ${length} bytes for a place of ${target.length}`);
    const body: Extract<State, { kind: 'body' }> = { kind: 'body', open, target, received: 0 };
    this.#state = body;
    if (length === 0) this.#took(body, 0);
  }

  #took(state: Extract<State, { kind: 'body' }>, count: number): void {
    const start = state.received;
    const { sink } = state.open;
    state.received += count;
    if (count > 0) sink.onBytes(start, state.received);
    if (state.received < state.target.length || this.#state !== state) return;
    this.#state = { kind: 'head', text: NOTHING };
    this.#settled();
    sink.onEnd();
  }

  #settled(): void {
    if (this.#asks.size === 0) this.idleSince = this.#now();
  }

  /** For reasons of this node's own: what has not begun can go over another channel. */
  #giveUp(): void {
    this.#close(new Error('no longer wanted'), ({ again }) => !again);
  }

  #fail(error: unknown): void {
    this.#close(error, () => false);
  }

  #close(error: unknown, isLeft: (open: OpenAsk) => boolean): void {
    const state = this.#state;
    if (state.kind === 'closed') return;
    this.#state = { kind: 'closed' };
    this.#socket.destroy();
    const asks = [...this.#asks.values()].filter((open) => open !== undefined);
    this.#asks.clear();
    const left = new Set(asks.filter(isLeft));
    this.#onClosed([...left]);
    const failure = error instanceof TidepoolError ? error : connectionFailed(error);
    if (state.kind === 'waiting' || state.kind === 'body') state.open.sink.onEnd(failure);
    for (const open of asks) if (!left.has(open)) open.sink.onEnd(failure);
  }
}
