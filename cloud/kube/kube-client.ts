import { Agent, type Dispatcher, request } from 'undici';
import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Credentials, KubeAccess, TlsMaterial } from './access.ts';
import {
  MAX_BODY_BYTES,
  MAX_CONNECTIONS,
  MAX_EVENT_BYTES,
  REQUEST_TIMEOUT_MS,
  WATCH_SILENT_MS,
} from './constants.ts';
import { ItemSplitter } from './item-splitter.ts';
import { KubeError } from './kube-error.ts';
import { LineSplitter } from './lines.ts';
import { isRecord, numberAt, stringAt } from './objects.ts';

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type Query = Readonly<Record<string, string | number | undefined>>;

export interface KubeRequest {
  readonly path: string;
  readonly query?: Query;
  readonly body?: unknown;
  /** Of the body; `application/json` where left out. */
  readonly contentType?: string;
  readonly accept?: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface WatchRequest {
  readonly path: string;
  readonly query: Query;
  readonly accept?: string;
  readonly signal: AbortSignal;
  /** The server has accepted the watch. */
  readonly onOpen?: () => void;
  /** Gets each event as JSON has it; what it throws ends the watch. */
  readonly onEvent: (event: unknown) => void;
}

/** What the other parts need of the client. */
export type KubeApi = Pick<KubeClient, 'json' | 'list' | 'watch' | 'server'>;

/**
 * JSON over HTTP to the API server. Every answer that is not 2xx, and every failure to get one, is a KubeError.
 * Requests go by undici directly: the client library keeps whole typed objects, cannot list in pages, and is large.
 */
export class KubeClient implements Startable {
  readonly name = 'kubernetes client';
  readonly #clock: Clock;
  readonly #access: KubeAccess;
  readonly #userAgent: string;
  readonly #silentMs: number;
  #agent: { readonly of: string; readonly dispatcher: Agent } | undefined;

  constructor(
    components: { readonly clock: Clock; readonly access: KubeAccess },
    init: { readonly userAgent: string; readonly silentMs?: number },
  ) {
    this.#clock = components.clock;
    this.#access = components.access;
    this.#userAgent = init.userAgent;
    this.#silentMs = init.silentMs ?? WATCH_SILENT_MS;
  }

  get server(): string {
    return this.#access.server;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    await this.#agent?.dispatcher.destroy();
    this.#agent = undefined;
  }

  /** The answer's JSON. @throws KubeError, or the signal's reason */
  async json(method: Method, init: KubeRequest): Promise<unknown> {
    const what = `${method} ${init.path}`;
    const timeoutMs = init.timeoutMs ?? REQUEST_TIMEOUT_MS;
    const work = new Work(this.#clock, init.signal);
    // The timer covers the body too: a server that stops in the middle of a list is one that hangs.
    work.arm(timeoutMs, `no whole answer within ${timeoutMs} ms`);
    try {
      const answer = await this.#send(method, init, work.signal);
      const text = await readText(answer.body, MAX_BODY_BYTES);
      if (answer.statusCode >= 300) throw refusal(what, answer, text);
      return text === '' ? undefined : JSON.parse(text);
    } catch (error) {
      throw work.errorOf(error, what, this.server);
    } finally {
      work.done();
    }
  }

  /**
   * One page of a list, each object given out as it arrives; the answer is the page without them.
   * @throws KubeError, or the signal's reason
   */
  async list(init: KubeRequest, onItem: (object: unknown) => void): Promise<unknown> {
    const what = `list ${init.path}`;
    const work = new Work(this.#clock, init.signal);
    work.arm(REQUEST_TIMEOUT_MS, `no whole answer within ${REQUEST_TIMEOUT_MS} ms`);
    try {
      const answer = await this.#send('GET', init, work.signal);
      if (answer.statusCode >= 300) {
        throw refusal(what, answer, await readText(answer.body, MAX_BODY_BYTES));
      }
      const splitter = new ItemSplitter(onItem, MAX_EVENT_BYTES);
      for await (const chunk of answer.body) splitter.push(chunk);
      return splitter.end();
    } catch (error) {
      throw work.errorOf(error, what, this.server);
    } finally {
      work.done();
    }
  }

  /**
   * Follows a watch until the server ends it; resolves then.
   * @throws KubeError also when nothing arrives for too long, the signal's reason, what `onEvent` throws
   */
  async watch(init: WatchRequest): Promise<void> {
    const what = `watch ${init.path}`;
    const work = new Work(this.#clock, init.signal);
    const alive = (): void => work.arm(this.#silentMs, `the watch was silent for ${this.#silentMs} ms`);
    work.arm(REQUEST_TIMEOUT_MS, `no answer within ${REQUEST_TIMEOUT_MS} ms`);
    try {
      const query = { ...init.query, watch: 'true', allowWatchBookmarks: 'true' };
      const answer = await this.#send('GET', { ...init, query }, work.signal);
      if (answer.statusCode >= 300) {
        throw refusal(what, answer, await readText(answer.body, MAX_EVENT_BYTES));
      }
      alive();
      init.onOpen?.();
      const lines = new LineSplitter(MAX_EVENT_BYTES);
      for await (const chunk of answer.body) {
        alive();
        for (const line of lines.push(chunk)) {
          // Of an aborted watch nothing counts any more, whatever had arrived.
          if (work.signal.aborted) throw work.signal.reason;
          init.onEvent(JSON.parse(line));
        }
      }
    } catch (error) {
      throw work.errorOf(error, what, this.server);
    } finally {
      work.done();
    }
  }

  async #send(
    method: Method,
    init: KubeRequest | WatchRequest,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const { headers, tls } = await this.#access.credentials();
    const url = new URL(this.server + init.path);
    for (const [key, value] of Object.entries(init.query ?? {})) {
      if (value !== undefined) url.searchParams.set(key, String(value));
    }
    const body = 'body' in init && init.body !== undefined ? JSON.stringify(init.body) : null;
    return request(url, {
      method,
      dispatcher: this.#dispatcher(tls),
      signal,
      body,
      // Ours cover both, and they end the body too.
      headersTimeout: 0,
      bodyTimeout: 0,
      headers: {
        ...headers,
        accept: init.accept ?? 'application/json',
        'user-agent': this.#userAgent,
        ...(body === null
          ? {}
          : { 'content-type': ('contentType' in init && init.contentType) || 'application/json' }),
      },
    });
  }

  /** Connections are made with the newest certificates; those of the ones before end with what runs on them. */
  #dispatcher(tls: Credentials['tls']): Agent {
    const of = fingerprint(tls);
    if (this.#agent?.of === of) return this.#agent.dispatcher;
    const before = this.#agent?.dispatcher;
    const dispatcher = new Agent({
      connections: MAX_CONNECTIONS,
      pipelining: 1,
      allowH2: false,
      connect: { ...tls, timeout: 10_000, keepAlive: true },
    });
    this.#agent = { of, dispatcher };
    // It waits for its requests, watches among them, which come back by themselves within minutes.
    before?.close().catch(() => undefined);
    return dispatcher;
  }
}

/** One request's end: by its caller's signal, or by a deadline that may be moved. */
class Work {
  readonly #clock: Clock;
  readonly #outer: AbortSignal | undefined;
  readonly #controller = new AbortController();
  readonly #onAbort = (): void => this.#controller.abort(this.#outer?.reason);
  #cancel: (() => void) | undefined;
  #timedOut: string | undefined;

  constructor(clock: Clock, outer: AbortSignal | undefined) {
    this.#clock = clock;
    this.#outer = outer;
    if (outer?.aborted) this.#onAbort();
    outer?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  arm(ms: number, message: string): void {
    this.#cancel?.();
    this.#cancel = this.#clock.after(ms, () => {
      this.#timedOut = message;
      this.#controller.abort(new Error(message));
    });
  }

  done(): void {
    this.#cancel?.();
    this.#outer?.removeEventListener('abort', this.#onAbort);
    // Whatever of the body is left must not keep the connection.
    this.#controller.abort(new Error('done'));
  }

  errorOf(error: unknown, what: string, server: string): unknown {
    if (this.#outer?.aborted) return this.#outer.reason;
    if (error instanceof KubeError) return error;
    const why = this.#timedOut ?? describeError(error);
    return new KubeError(`${what}: the Kubernetes API at ${server} cannot be reached: ${why}`, {
      httpStatus: 0,
      cause: error,
    });
  }
}

async function readText(body: AsyncIterable<Buffer>, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new RangeError(`the answer has over ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function refusal(what: string, answer: Dispatcher.ResponseData, text: string): KubeError {
  const status = parseStatus(text);
  const message = stringAt(status, 'message') ?? (text.slice(0, 200).trim() || 'no reason given');
  const header = answer.headers['retry-after'];
  const seconds = Number(typeof header === 'string' ? header : Number.NaN);
  const asked = Number.isFinite(seconds) ? seconds : numberAt(status, 'details', 'retryAfterSeconds');
  return new KubeError(`${what}: ${answer.statusCode}: ${message}`, {
    httpStatus: answer.statusCode,
    reason: stringAt(status, 'reason') ?? '',
    retryAfterMs: asked === undefined ? undefined : Math.min(Math.max(asked, 0), 300) * 1000,
  });
}

/** A `Status` object; other answers (a proxy's page) give an empty one. */
function parseStatus(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : {};
  } catch {
    return {};
  }
}

function fingerprint(tls: TlsMaterial): string {
  return JSON.stringify([tls.ca, tls.cert, tls.key, tls.servername, tls.rejectUnauthorized].map(String));
}
