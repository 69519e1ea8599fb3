import type { IncomingMessage, ServerResponse } from 'node:http';
import { TidepoolError } from '../../shared/errors.ts';
import { MAX_JSON_BYTES } from './constants.ts';

export type AnswerHeaders = Readonly<Record<string, string | number>>;

/** Made once: an error a request, with its stack, would cost more than the request. */
export const HUNG_UP = new TidepoolError('ABORTED', 'the neighbour hung up');

/** One question of a neighbour and the answer to it, whatever they travel by. */
export interface Exchange {
  readonly method: string;
  readonly url: string;
  /** Aborts when the neighbour has hung up, or wants no answer any more. */
  readonly signal: AbortSignal;
  /** The answer's head is on its way: nothing else can be answered any more. */
  readonly begun: boolean;
  /** @throws TidepoolError INVALID_ARGUMENT when it is too long */
  body(): Promise<Uint8Array>;
  /** A whole answer. */
  answer(status: number, headers: AnswerHeaders, bytes?: Uint8Array): void;
  /** Resolves when a long answer may be written; the answer says that it has been. @throws the signal's reason */
  turn(priority: number): Promise<() => void>;
  begin(status: number, headers: AnswerHeaders): void;
  /** Resolves when the bytes are with the kernel: only then may their buffer be used again. @throws ABORTED */
  write(bytes: Uint8Array, last: boolean): Promise<void>;
  /** Hangs up. */
  destroy(): void;
}

/** One by one over HTTP/1.1. */
export class HttpExchange implements Exchange {
  readonly method: string;
  readonly url: string;
  readonly signal: AbortSignal;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.method = request.method ?? '';
    this.url = request.url ?? '/';
    this.#request = request;
    this.#response = response;
    const gone = new AbortController();
    this.signal = gone.signal;
    response.on('close', () => gone.abort(HUNG_UP));
  }

  get begun(): boolean {
    return this.#response.headersSent;
  }

  async body(): Promise<Uint8Array> {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of this.#request as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MAX_JSON_BYTES)
        throw new TidepoolError('INVALID_ARGUMENT', `a body of over ${MAX_JSON_BYTES} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  answer(status: number, headers: AnswerHeaders, bytes?: Uint8Array): void {
    // What is left of a body that was given up is not read: the connection is of no use any more.
    const { 'content-length': length, 'transfer-encoding': encoding } = this.#request.headers;
    const body = length !== undefined || encoding !== undefined;
    if (body && !this.#request.complete) this.#response.setHeader('connection', 'close');
    const lengths = status === 204 ? {} : { 'content-length': bytes?.length ?? 0 };
    this.#response.writeHead(status, { ...headers, ...lengths }).end(bytes);
  }

  turn(): Promise<() => void> {
    return Promise.resolve(() => undefined);
  }

  begin(status: number, headers: AnswerHeaders): void {
    this.#response.writeHead(status, headers);
  }

  write(bytes: Uint8Array, last: boolean): Promise<void> {
    const response = this.#response;
    return new Promise((resolve, reject) => {
      // Nothing tells of the end of what is written to an answer that is gone already.
      if (response.destroyed) {
        reject(HUNG_UP);
        return;
      }
      const done = (error?: Error | null): void => {
        response.off('close', onClose);
        if (error) reject(error);
        else resolve();
      };
      const onClose = (): void => done(HUNG_UP);
      response.once('close', onClose);
      if (last) response.end(bytes, () => done());
      else response.write(bytes, done);
    });
  }

  destroy(): void {
    this.#response.destroy();
  }
}
