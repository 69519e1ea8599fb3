import { connect, isIP, type LookupFunction, type Socket, type TcpNetConnectOpts } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Clock } from '../../../shared/clock.ts';
import { restMs } from '../rest.ts';
import { type AnswerHead, MAX_HEAD_BYTES, parseAnswerHead } from './head.ts';

export interface ConnectionInit {
  readonly url: URL;
  readonly connectMs: number;
  readonly answerMs: number;
  readonly ca?: readonly string[] | undefined;
  /** Whoever answers is believed: only as the node's owner has set it for this registry. */
  readonly skipVerify?: boolean | undefined;
  readonly localAddress?: string | undefined;
  /** Turns the name into addresses that may be dialled; the system's where any may. */
  readonly lookup?: LookupFunction | undefined;
  /** Once, when it can carry nothing more. */
  readonly onClosed: (connection: Connection) => void;
}

/** Bytes have come into the place that was given: a promise has the connection wait before it reads on. */
export type OnBytes = (bytes: Uint8Array) => Promise<void> | undefined;

interface Fill {
  readonly target: Uint8Array;
  readonly onBytes: OnBytes;
  readonly some: boolean;
  readonly resolve: (filled: number) => void;
  readonly reject: (error: unknown) => void;
  filled: number;
}

type State =
  | { readonly kind: 'idle' }
  | {
      readonly kind: 'head';
      readonly resolve: (head: AnswerHead) => void;
      readonly reject: (error: unknown) => void;
      text: Buffer;
    }
  | { readonly kind: 'body'; keep: boolean; left: number; early: Buffer; fill: Fill | undefined }
  | { readonly kind: 'closed'; readonly error: unknown };

/** Of a read that nobody has named a place for yet. What comes there is copied, so it is small. */
const SCRATCH_BYTES = 16 * 1024;

/**
 * One kept connection to a registry or an object store, one request at a time. The kernel writes a body's bytes straight
 * into the place they are meant for, and is left alone while few have come: an HTTP client's streams cost more a byte, in
 * time and in memory, than all that is done with it afterwards.
 */
export class Connection {
  readonly #clock: Clock;
  readonly #socket: Socket;
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  readonly #init: ConnectionInit;
  #state: State = { kind: 'idle' };
  #timer: NodeJS.Timeout | undefined;
  #cancelRest: (() => void) | undefined;
  #onDone: (() => void) | undefined;
  #holding = false;
  /** When reading began after the last rest, monotonic ms, and what came since. */
  #spellSince = 0;
  #spellBytes = 0;
  /** When the last answer was in, monotonic ms. */
  idleSince = 0;

  constructor(clock: Clock, init: ConnectionInit) {
    this.#clock = clock;
    this.#init = init;
    this.#socket = this.#connect();
    this.#socket.once('error', (error) => this.#close(error));
    this.#socket.once('end', () => this.#ending());
    this.#socket.once('close', () => this.#ending());
  }

  get idle(): boolean {
    return this.#state.kind === 'idle';
  }

  /** Bytes of the body that nobody has taken yet. */
  get left(): number {
    return this.#state.kind === 'body' ? this.#state.left : 0;
  }

  /**
   * Sends a request; resolves with the answer's head. Its body is to be filled somewhere, or the connection closed.
   * @param onDone once, when the answer is in or the connection gone
   */
  send(request: string, onDone: () => void): Promise<AnswerHead> {
    if (this.#state.kind === 'closed') {
      onDone();
      return Promise.reject(this.#state.error);
    }
    return new Promise((resolve, reject) => {
      this.#onDone = onDone;
      this.#state = { kind: 'head', resolve, reject, text: Buffer.alloc(0) };
      // While it connects, that has its own limit, and this one begins afterwards.
      if (!this.#socket.connecting) this.#limit(this.#init.answerMs, () => noAnswer(this.#init));
      this.#socket.write(request, 'latin1');
    });
  }

  /**
   * Fills `target` from the body; resolves with how many bytes there were, fewer than the place at the body's end only.
   * @throws what the connection failed with
   */
  fill(target: Uint8Array, onBytes: OnBytes): Promise<number> {
    return this.#fill(target, onBytes, false);
  }

  /** The next bytes, whatever there are; none at the body's end. */
  async chunk(): Promise<Uint8Array> {
    const place = Buffer.allocUnsafe(Math.min(this.left, SCRATCH_BYTES));
    return place.subarray(0, await this.#fill(place, () => undefined, true));
  }

  /** @param some the first bytes are enough */
  #fill(target: Uint8Array, onBytes: OnBytes, some: boolean): Promise<number> {
    const state = this.#state;
    if (state.kind === 'closed') return Promise.reject(state.error);
    if (state.kind !== 'body' || target.length === 0) return Promise.resolve(0);
    return new Promise((resolve, reject) => {
      const place = target.length > state.left ? target.subarray(0, state.left) : target;
      state.fill = { target: place, onBytes, some, resolve, reject, filled: 0 };
      this.#spellSince = this.#clock.mono();
      this.#spellBytes = 0;
      try {
        if (state.early.length === 0) this.#readOn();
        else {
          const early = state.early.subarray(0, place.length);
          state.early = state.early.subarray(early.length);
          place.set(early);
          if (this.#took(state, early.length)) this.#readOn();
        }
      } catch (error) {
        this.#close(error);
      }
    });
  }

  /** Breaks off whatever is under way. */
  destroy(error: unknown): void {
    this.#close(error);
  }

  #connect(): Socket {
    const { url, connectMs, localAddress, lookup, ca, skipVerify } = this.#init;
    const secure = url.protocol === 'https:';
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const family = localAddress === undefined ? 0 : isIP(localAddress);
    const options: TcpNetConnectOpts = {
      host,
      port: Number(url.port === '' ? (secure ? 443 : 80) : url.port),
      noDelay: true,
      keepAlive: true,
      ...(lookup === undefined ? {} : { lookup }),
      ...(localAddress === undefined ? {} : { localAddress, family }),
      onread: {
        buffer: () => this.#room(),
        callback: (count, buffer) => this.#onRead(count, buffer),
      },
    };
    this.#limit(connectMs, () => new Error(`no connection within ${connectMs / 1000} s`));
    const connected = (): void => {
      if (this.#state.kind === 'head') this.#limit(this.#init.answerMs, () => noAnswer(this.#init));
      else clearTimeout(this.#timer);
    };
    if (!secure) return connect(options, connected);
    return connectTls(
      {
        ...options,
        ...(isIP(host) === 0 ? { servername: host } : {}),
        ...(ca === undefined ? {} : { ca: [...ca] }),
        ...(skipVerify === true ? { rejectUnauthorized: false } : {}),
        ALPNProtocols: ['http/1.1'],
      },
      connected,
    );
  }

  /** Of the network itself, so by the system's time whatever clock decisions go by. */
  #limit(ms: number, error: () => Error): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#close(error()), ms);
  }

  /** Where the kernel puts what comes next. */
  #room(): Uint8Array {
    const fill = this.#state.kind === 'body' ? this.#state.fill : undefined;
    return fill === undefined ? this.#scratch : fill.target.subarray(fill.filled);
  }

  /** False stops reading until somebody wants more. */
  #onRead(count: number, buffer: Uint8Array): boolean {
    const state = this.#state;
    try {
      if (state.kind === 'head') return this.#onHead(state, count);
      if (state.kind !== 'body') throw new Error('bytes that nobody asked for');
      if (buffer !== this.#scratch) return this.#took(state, count);
      // The place was named before anybody wanted the bytes.
      const bytes = this.#scratch.subarray(0, count);
      if (state.early.length + count > state.left) throw new Error('more bytes than announced');
      if (state.fill === undefined) {
        state.early = Buffer.concat([state.early, bytes]);
        return false;
      }
      const { fill } = state;
      const fits = Math.min(count, fill.target.length - fill.filled);
      fill.target.set(bytes.subarray(0, fits), fill.filled);
      if (fits < count) state.early = Buffer.from(bytes.subarray(fits));
      return this.#took(state, fits);
    } catch (error) {
      this.#close(error);
      return false;
    }
  }

  #onHead(state: Extract<State, { kind: 'head' }>, count: number): boolean {
    state.text = Buffer.concat([state.text, this.#scratch.subarray(0, count)]);
    for (;;) {
      const end = state.text.indexOf('\r\n\r\n');
      if (end < 0 || end > MAX_HEAD_BYTES) {
        if (state.text.length > MAX_HEAD_BYTES) throw new Error(`a head of over ${MAX_HEAD_BYTES} bytes`);
        return true;
      }
      const head = parseAnswerHead(state.text.toString('latin1', 0, end));
      const rest = state.text.subarray(end + 4);
      if (head === undefined) {
        state.text = rest;
        continue;
      }
      if (rest.length > head.length) throw new Error('more bytes than announced');
      clearTimeout(this.#timer);
      const body = {
        kind: 'body' as const,
        keep: head.keep,
        left: head.length,
        early: rest,
        fill: undefined,
      };
      this.#state = body;
      if (head.length === 0) this.#ended(body);
      state.resolve(head);
      return head.length === 0;
    }
  }

  /** Bytes have come into the place that is being filled; true when more may come at once. */
  #took(state: Extract<State, { kind: 'body' }>, count: number): boolean {
    const { fill } = state;
    if (fill === undefined) throw new Error('bytes without a place');
    const bytes = fill.target.subarray(fill.filled, fill.filled + count);
    fill.filled += count;
    state.left -= count;
    const held = fill.onBytes(bytes);
    if (fill.some || fill.filled === fill.target.length) {
      state.fill = undefined;
      const end = (): void => fill.resolve(fill.filled);
      if (held === undefined) end();
      else held.then(end, fill.reject);
      if (state.left > 0) return false;
      this.#ended(state);
      return true;
    }
    if (held !== undefined) {
      this.#holding = true;
      held.then(
        () => {
          this.#holding = false;
          this.#readOn();
        },
        (error: unknown) => this.#close(error),
      );
      return false;
    }
    return !this.#rest(count);
  }

  #ended(state: Extract<State, { kind: 'body' }>): void {
    this.#state = { kind: 'idle' };
    this.idleSince = this.#clock.mono();
    if (!state.keep) this.#close(closedEarly());
    // Read on, to learn when the other side closes it.
    else this.#socket.resume();
    this.#done();
  }

  #done(): void {
    const onDone = this.#onDone;
    this.#onDone = undefined;
    onDone?.();
  }

  /** Leaves the socket alone for a moment where its next packets are few; true when it does. */
  #rest(read: number): boolean {
    const now = this.#clock.mono();
    this.#spellBytes += read;
    const ms = restMs(read, this.#spellBytes / Math.max(1, now - this.#spellSince), now);
    if (ms <= 0) return false;
    this.#spellSince = now;
    this.#spellBytes = 0;
    this.#cancelRest = this.#clock.after(ms, () => {
      this.#cancelRest = undefined;
      this.#readOn();
    });
    return true;
  }

  #readOn(): void {
    if (this.#holding || this.#cancelRest !== undefined) return;
    if (this.#state.kind === 'body' && this.#state.fill !== undefined) this.#socket.resume();
  }

  /** The other side has closed it. That harms nobody who has all bytes at hand. */
  #ending(): void {
    const state = this.#state;
    if (state.kind === 'body' && state.early.length === state.left) state.keep = false;
    else this.#close(closedEarly());
  }

  #close(error: unknown): void {
    const state = this.#state;
    if (state.kind === 'closed') return;
    this.#state = { kind: 'closed', error };
    clearTimeout(this.#timer);
    this.#cancelRest?.();
    this.#socket.destroy();
    this.#init.onClosed(this);
    this.#done();
    if (state.kind === 'head') state.reject(error);
    if (state.kind === 'body') state.fill?.reject(error);
  }
}

/** A code of ours beside the system's, so that callers tell a kept connection that was closed from one that never was. */
export const CLOSED_EARLY = 'ERR_CLOSED_EARLY';
export const NO_ANSWER = 'ERR_NO_ANSWER';

function closedEarly(): Error {
  return Object.assign(new Error('the connection was closed'), { code: CLOSED_EARLY });
}

function noAnswer({ answerMs }: ConnectionInit): Error {
  return Object.assign(new Error(`no answer within ${answerMs / 1000} s`), { code: NO_ANSWER });
}
