import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../../shared/clock.ts';
import { type ErrorCode, TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { raceAbort } from '../../shared/flow/single-flight.ts';
import { LINGER_MS } from './constants.ts';
import type { Answer } from './error-answer.ts';
import type { RequestKind } from './stats.ts';

export interface ExchangeInit {
  readonly answerMs: number;
  readonly slowClientMs: number;
  /** Told of body bytes that the socket has taken. */
  readonly onSent: (bytes: number) => void;
}

/**
 * One request and its response. Its signal aborts when the client leaves, when a watchdog gives up, or when the mirror
 * stops; whatever was begun for the request hangs on that signal.
 */
export class Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly signal: AbortSignal;
  /** Resolves when the response is wholly handed to the system, or the connection is gone. Never rejects. */
  readonly over: Promise<void>;
  kind: RequestKind = 'other';
  /** What is asked for, for the log. */
  subject = '';
  readonly startedAt: number;
  readonly #controller = new AbortController();
  readonly #clock: Clock;
  readonly #init: ExchangeInit;
  #bytes = 0;
  #clientGone = false;

  constructor(request: IncomingMessage, response: ServerResponse, clock: Clock, init: ExchangeInit) {
    this.request = request;
    this.response = response;
    this.signal = this.#controller.signal;
    this.#clock = clock;
    this.#init = init;
    this.startedAt = clock.mono();
    // Without a listener an error of the response would end the process.
    response.on('error', (error) => this.abort(toTidepoolError(error)));
    this.over = new Promise((resolve) => {
      const { socket } = request;
      // The socket's own event too: a pipelined response that was never assigned to its socket gets none.
      const onClose = (): void => {
        socket.off('close', onClose);
        response.off('close', onClose);
        if (!response.writableFinished) {
          this.#clientGone = true;
          this.abort(new TidepoolError('ABORTED', 'the client closed the connection'));
        }
        resolve();
      };
      socket.once('close', onClose);
      response.once('close', onClose);
      if (socket.destroyed) onClose();
    });
  }

  get head(): boolean {
    return this.request.method === 'HEAD';
  }

  /** True when the request carries a body, read or not. */
  get hasBody(): boolean {
    const { headers } = this.request;
    return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
  }

  /** Body bytes that the socket has taken. */
  get bytes(): number {
    return this.#bytes;
  }

  /** True when the connection ended before the response did, and nobody here had given up on it first. */
  get clientGone(): boolean {
    return (
      this.#clientGone && this.signal.reason instanceof TidepoolError && this.signal.reason.code === 'ABORTED'
    );
  }

  header(name: string): string | undefined {
    const value = this.request.headers[name];
    return Array.isArray(value) ? value.join(', ') : value;
  }

  abort(reason: TidepoolError): void {
    this.#controller.abort(reason);
  }

  /**
   * Waits for the first word on the request, no longer than the bound.
   * @throws TidepoolError TIMEOUT, the signal's reason, or what `promise` rejects with
   */
  async wait<T>(promise: Promise<T>, what: string): Promise<T> {
    const cancel = this.deadline('TIMEOUT', what);
    try {
      return await raceAbort(promise, this.signal);
    } finally {
      cancel();
    }
  }

  /** Aborts the exchange with `code` when the bound for a first word runs out before the answer is called. */
  deadline(code: ErrorCode, what: string): () => void {
    const { answerMs } = this.#init;
    return this.#clock.after(answerMs, () => {
      this.abort(new TidepoolError(code, `${what}: nothing within ${Math.round(answerMs / 1000)} s`));
    });
  }

  /** Sends a whole answer; a HEAD gets its headers alone. Resolves when the exchange is over. */
  async send(answer: Answer): Promise<void> {
    const { response } = this;
    response.writeHead(answer.status, answer.headers);
    if (this.head || answer.body.length === 0) response.end();
    else response.end(answer.body, () => this.sent(answer.body.length));
    await this.ended();
  }

  /** After the response was ended: waits until the client has taken it, or has been slow for too long. */
  async ended(): Promise<void> {
    const { slowClientMs } = this.#init;
    const cancel = this.#clock.after(slowClientMs, () => {
      const message = `the client did not read its answer within ${Math.round(slowClientMs / 1000)} s`;
      this.abort(new TidepoolError('TIMEOUT', message));
      this.request.socket.destroy();
    });
    await this.over;
    cancel();
  }

  sent(bytes: number): void {
    this.#bytes += bytes;
    this.#init.onSent(bytes);
  }

  /**
   * Breaks the connection off, for a body that cannot be ended rightly: a short one must never look whole. Right bytes
   * that were written before still go out, for a moment: the runtime resumes after them. Resolves when it is gone.
   */
  async breakOff(reason: TidepoolError): Promise<void> {
    this.abort(reason);
    const { socket } = this.request;
    socket.destroySoon();
    const cancel = this.#clock.after(LINGER_MS, () => socket.destroy());
    await this.over;
    cancel();
  }
}
