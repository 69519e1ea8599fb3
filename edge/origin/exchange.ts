import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import type { Clock } from '../../shared/clock.ts';
import type { Body } from './body.ts';
import { NO_ANSWER } from './data-lane/connection.ts';
import { NetworkBody } from './network-body.ts';

/** After the client's own limit, which says more. */
const LATE_MS = 500;

export type Method = 'GET' | 'HEAD';

export interface ExchangeInit {
  readonly url: URL;
  readonly method: Method;
  readonly headers: Readonly<Record<string, string>>;
  readonly answerMs: number;
  readonly stallMs: number;
  readonly onStall: () => void;
  readonly signal?: AbortSignal | undefined;
}

export interface Exchange {
  readonly url: URL;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Body;
}

/**
 * One request and the head of its answer, as it comes: no redirect, no decoding, no retry.
 * @throws undici's error when there is no answer, the signal's reason when that aborts.
 */
export function openExchange(dispatcher: Dispatcher, clock: Clock, init: ExchangeInit): Promise<Exchange> {
  return new Promise((resolve, reject) => {
    const { url, signal } = init;
    signal?.throwIfAborted();
    let body: NetworkBody | undefined;
    let controller: Dispatcher.DispatchController | undefined;
    let late: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      finish(signal?.reason, true);
      controller?.abort(signal?.reason instanceof Error ? signal.reason : new Error('called off'));
    };
    // Taken off again in any case: the signal may live as long as the agent.
    const finish = (error: unknown, aborted = false): void => {
      clearTimeout(late);
      signal?.removeEventListener('abort', onAbort);
      if (body === undefined) reject(error);
      else body.fail(error, aborted);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart(started) {
        controller = started;
        // The client's own limit begins anew with each interim answer (1xx), and one may follow another without end. Of the
        // network itself, so by the system's time whatever clock decisions go by.
        clearTimeout(late);
        late = setTimeout(() => started.abort(noAnswer(init.answerMs)), init.answerMs + LATE_MS);
        // Called off while it waited for a connection.
        if (signal?.aborted === true) started.abort(new Error('called off'));
      },
      onResponseStart(started, status, headers) {
        if (status < 200) return;
        clearTimeout(late);
        body = new NetworkBody(clock, started, {
          host: url.host,
          stallMs: init.stallMs,
          onStall: init.onStall,
        });
        resolve({ url, status, headers, body });
      },
      onResponseData(_controller, chunk) {
        body?.push(chunk);
      },
      onResponseEnd() {
        signal?.removeEventListener('abort', onAbort);
        body?.end();
      },
      onResponseError(_controller, error) {
        finish(error);
      },
    };
    dispatcher.dispatch(
      {
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method: init.method,
        headers: { ...init.headers },
        headersTimeout: init.answerMs,
        bodyTimeout: 0,
      },
      handler,
    );
  });
}

function noAnswer(answerMs: number): Error {
  return Object.assign(new Error(`no answer within ${answerMs / 1000} s`), { code: NO_ANSWER });
}
