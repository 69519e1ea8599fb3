import type { Socket } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { Slots } from '../../shared/flow/queue.ts';
import {
  type AskHead,
  encodeAnswerHead,
  MAX_ASK_HEAD_BYTES,
  OPENED,
  parseAskHead,
  WITHDRAWN,
} from './channel-wire.ts';
import {
  MAX_ASKS_PER_CHANNEL,
  MAX_JSON_BYTES,
  REQUEST_TIMEOUT_MS,
  SERVER_KEEP_ALIVE_MS,
} from './constants.ts';
import { type AnswerHeaders, type Exchange, HUNG_UP } from './exchange.ts';

const NOTHING = Buffer.alloc(0);
const WITHDREW = new TidepoolError('ABORTED', 'the neighbour has withdrawn its ask');

interface ServedChannelInit {
  readonly clock: Clock;
  /** For an ask to come whole, once it has begun to. */
  readonly requestTimeoutMs?: number | undefined;
  readonly onAsk: (exchange: Exchange) => void;
  readonly onClosed: () => void;
}

/**
 * The answering end of a channel. Asks are handed on as they come, however many are held; answers go out whole, one after
 * the other. Who sends what is no ask, or more of them than are due, is hung up on.
 */
export class ServedChannel {
  readonly #socket: Socket;
  readonly #init: ServedChannelInit;
  readonly #asks = new Map<number, ChannelExchange>();
  readonly #turns = new Slots(1);
  #text: Buffer = NOTHING;
  /** Of an ask whose body is not whole. */
  #head: Extract<AskHead, { kind: 'ask' }> | undefined;
  #cancelTimer: (() => void) | undefined;
  #closed = false;

  /** @param early what has come with the opening */
  constructor(socket: Socket, early: Buffer, init: ServedChannelInit) {
    this.#socket = socket;
    this.#init = init;
    socket.setNoDelay(true);
    // Held asks make no noise; what is idle besides them has been left.
    socket.setTimeout(SERVER_KEEP_ALIVE_MS, () => {
      if (this.#asks.size === 0) socket.destroy();
    });
    socket.on('error', () => socket.destroy());
    socket.on('end', () => socket.destroy());
    socket.once('close', () => this.#close());
    socket.write(OPENED, 'latin1');
    socket.on('data', (bytes: Buffer) => this.#onData(bytes));
    if (early.length > 0) this.#onData(early);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #onData(bytes: Buffer): void {
    if (this.#closed) return;
    this.#text = this.#text.length === 0 ? bytes : Buffer.concat([this.#text, bytes]);
    try {
      while (this.#next());
    } catch {
      // Nobody who speaks this wants to be told what is wrong with it.
      this.#socket.destroy();
      return;
    }
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#text.length === 0 && this.#head === undefined) return;
    const { clock, requestTimeoutMs = REQUEST_TIMEOUT_MS } = this.#init;
    this.#cancelTimer = clock.after(requestTimeoutMs, () => this.#socket.destroy());
  }

  /** Takes one ask off what has come; false when there is no whole one. */
  #next(): boolean {
    const head = this.#head ?? this.#takeHead();
    if (head === undefined) return false;
    this.#head = head;
    if (this.#text.length < head.length) return false;
    const body = this.#text.subarray(0, head.length);
    this.#text = this.#text.subarray(head.length);
    this.#head = undefined;
    if (this.#asks.has(head.number) || this.#asks.size >= MAX_ASKS_PER_CHANNEL) throw HUNG_UP;
    const exchange = new ChannelExchange(head, body, {
      socket: this.#socket,
      turns: this.#turns,
      ended: () => this.#asks.delete(head.number),
    });
    this.#asks.set(head.number, exchange);
    this.#init.onAsk(exchange);
    return true;
  }

  #takeHead(): Extract<AskHead, { kind: 'ask' }> | undefined {
    for (;;) {
      const end = this.#text.indexOf('\r\n\r\n');
      if (end > MAX_ASK_HEAD_BYTES || (end < 0 && this.#text.length > MAX_ASK_HEAD_BYTES)) throw HUNG_UP;
      if (end < 0) return undefined;
      const head = parseAskHead(this.#text.toString('latin1', 0, end));
      this.#text = this.#text.subarray(end + 4);
      if (head.kind === 'ask') {
        if (head.length > MAX_JSON_BYTES) throw HUNG_UP;
        return head;
      }
      this.#asks.get(head.number)?.withdraw();
    }
  }

  #close(): void {
    this.#closed = true;
    this.#cancelTimer?.();
    this.#text = NOTHING;
    for (const exchange of [...this.#asks.values()]) exchange.abandon(HUNG_UP);
    this.#asks.clear();
    this.#init.onClosed();
  }
}

interface Line {
  readonly socket: Socket;
  readonly turns: Slots;
  readonly ended: () => void;
}

class ChannelExchange implements Exchange {
  readonly method: string;
  readonly url: string;
  readonly signal: AbortSignal;
  readonly #number: number;
  readonly #body: Uint8Array;
  readonly #line: Line;
  readonly #gone = new AbortController();
  #begun = false;
  #ended = false;
  #abandonWrite: ((error: Error) => void) | undefined;
  #over: () => void = () => undefined;

  constructor({ number, method, path }: Extract<AskHead, { kind: 'ask' }>, body: Uint8Array, line: Line) {
    this.method = method;
    this.url = path;
    this.signal = this.#gone.signal;
    this.#number = number;
    this.#body = body;
    this.#line = line;
  }

  get begun(): boolean {
    return this.#begun;
  }

  body(): Promise<Uint8Array> {
    return Promise.resolve(this.#body);
  }

  answer(status: number, headers: AnswerHeaders, bytes: Uint8Array = NOTHING): void {
    if (this.#ended || this.#begun) return;
    this.#begun = true;
    const text = encodeAnswerHead(this.#number, status, { ...headers, 'content-length': bytes.length });
    const send = (release: () => void): void => {
      this.#line.socket.cork();
      this.#line.socket.write(text, 'latin1');
      if (bytes.length > 0) this.#line.socket.write(bytes);
      this.#line.socket.uncork();
      this.#end();
      release();
    };
    const now = this.#line.turns.tryAcquire();
    if (now !== undefined) send(now);
    else void this.#line.turns.acquire({ priority: Number.NEGATIVE_INFINITY }).then(send);
  }

  async turn(priority: number): Promise<() => void> {
    const over = await this.#line.turns.acquire({ priority, signal: this.signal });
    this.#over = over;
    return over;
  }

  begin(status: number, headers: AnswerHeaders): void {
    this.#begun = true;
    this.#line.socket.write(encodeAnswerHead(this.#number, status, headers), 'latin1');
  }

  write(bytes: Uint8Array, last: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#line.socket.destroyed) {
        reject(HUNG_UP);
        return;
      }
      // Nothing tells of the end of what is written to a socket that dies.
      this.#abandonWrite = reject;
      this.#line.socket.write(bytes, (error) => {
        this.#abandonWrite = undefined;
        if (error) reject(error);
        else resolve();
        if (last) this.#end();
      });
      // What comes next waits behind it in the socket, and so leaves no gap on the wire.
      if (last) this.#over();
    });
  }

  /** It is answered nevertheless, unless that has begun: then the rest of it comes. */
  withdraw(): void {
    if (this.#begun || this.#ended) return;
    this.answer(WITHDRAWN, {});
    this.#gone.abort(WITHDREW);
  }

  abandon(error: Error): void {
    this.#ended = true;
    this.#abandonWrite?.(error);
    this.#gone.abort(error);
  }

  destroy(): void {
    this.#line.socket.destroy();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#line.ended();
  }
}
