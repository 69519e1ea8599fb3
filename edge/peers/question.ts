import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { AnswerSink } from './channel.ts';
import type { ResponseHead } from './response-head.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

interface QuestionInit {
  readonly maxBytes: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Sends the question; the answer breaks it off. */
  readonly send: (sink: AnswerSink) => () => void;
}

/** A small question and its answer, of bounded size and time. */
export class Question implements AnswerSink {
  readonly answer: Promise<Answer>;
  readonly #init: QuestionInit;
  #resolve: (answer: Answer) => void = () => undefined;
  #reject: (reason: unknown) => void = () => undefined;
  #head: ResponseHead | undefined;
  #body = Buffer.alloc(0);
  #settled = false;
  #breakOff: () => void = () => undefined;
  readonly #cancelTimer: () => void;
  readonly #onAbort = (): void => this.#fail(this.#init.signal.reason);

  constructor(components: { readonly clock: Clock }, init: QuestionInit) {
    this.#init = init;
    const { signal, timeoutMs, send } = init;
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#cancelTimer = components.clock.after(timeoutMs, () =>
      this.#fail(new TidepoolError('PEER_UNREACHABLE', `no answer in ${timeoutMs} ms`)),
    );
    signal.addEventListener('abort', this.#onAbort, { once: true });
    try {
      signal.throwIfAborted();
      this.#breakOff = send(this);
    } catch (error) {
      this.#fail(error);
    }
  }

  onHead(head: ResponseHead, length: number): Uint8Array {
    const { maxBytes } = this.#init;
    if (length > maxBytes)
      throw new TidepoolError('PEER_UNREACHABLE', `the neighbour sends over ${maxBytes} bytes`);
    this.#head = head;
    this.#body = Buffer.allocUnsafe(length);
    return this.#body;
  }

  onBytes(): void {}

  onEnd(error?: unknown): void {
    if (error !== undefined || this.#head === undefined) {
      this.#fail(error);
      return;
    }
    if (this.#settled) return;
    this.#settle();
    this.#resolve({ status: this.#head.status, headers: this.#head.headers, body: this.#body });
  }

  #fail(error: unknown): void {
    if (this.#settled) return;
    this.#settle();
    this.#breakOff();
    this.#reject(error);
  }

  #settle(): void {
    this.#settled = true;
    this.#cancelTimer();
    this.#init.signal.removeEventListener('abort', this.#onAbort);
  }
}
