import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { Slots } from '../../shared/flow/queue.ts';
import { quote } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { ApiError } from '../../shared/wire/api.ts';
import { DIGEST_HEADER, type HealthCheck, type HealthView, STALE_HEADER } from './api.ts';
import {
  BLOBS_DEFAULT,
  BLOBS_MAX,
  HEADERS_MS,
  MAX_CONNECTIONS,
  MAX_PULLS,
  STOP_GRACE_MS,
} from './constants.ts';
import type { Metrics } from './metrics.ts';
import { servePull } from './pull.ts';
import { readAccount, requireLocal } from './requests.ts';
import type { OpsSources } from './sources.ts';

interface OpsServerComponents {
  readonly sources: OpsSources;
  readonly clock: Clock;
  readonly log: Logger;
}

interface OpsServerInit {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
}

/** Health, metrics, status, and what the command line asks of a running agent. Changes nothing but by a pull, and tests the runtime. */
export class OpsServer implements Startable {
  readonly name = 'ops';
  readonly #c: OpsServerComponents;
  readonly #init: OpsServerInit;
  #metrics: Promise<Metrics> | undefined;
  readonly #pulls = new Slots(MAX_PULLS);
  readonly #stopping = new AbortController();
  #server: Server | undefined;

  constructor(components: OpsServerComponents, init: OpsServerInit) {
    this.#c = components;
    this.#init = init;
  }

  /** @throws TidepoolError INTERNAL before `start` */
  address(): AddressInfo {
    const address = this.#server?.address();
    if (address === null || typeof address !== 'object') {
      throw new TidepoolError('INTERNAL', 'the ops server does not listen yet');
    }
    return address;
  }

  /** @throws TidepoolError INVALID_CONFIG when the address cannot be listened on */
  async start(): Promise<void> {
    const { host, port } = this.#init;
    const server = createServer(
      { headersTimeout: HEADERS_MS, requestTimeout: HEADERS_MS },
      (request, response) => void this.#serve(request, response),
    );
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        const message = `the ops server cannot listen on ${host}:${port}: ${describeError(error)}; free the port or set another with --ops`;
        reject(new TidepoolError('INVALID_CONFIG', message, { cause: error }));
      });
      server.listen({ host, port }, resolve);
    });
    server.on('error', (error) => this.#c.log.error({ err: error }, 'the ops server cannot accept'));
    this.#server = server;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    this.#stopping.abort(new TidepoolError('ABORTED', 'the agent is stopping'));
    const cancel = this.#c.clock.after(STOP_GRACE_MS, () => server.closeAllConnections());
    await closed;
    cancel();
  }

  /** Never rejects: what goes wrong is told to the client. */
  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    const onStop = (): void => gone.abort(this.#stopping.signal.reason);
    this.#stopping.signal.addEventListener('abort', onStop, { once: true });
    response.once('close', () => gone.abort(new TidepoolError('ABORTED', 'the client hung up')));
    try {
      await this.#route(request, response, gone.signal);
    } catch (error) {
      this.#fail(response, toTidepoolError(error));
    } finally {
      this.#stopping.signal.removeEventListener('abort', onStop);
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
    const { sources } = this.#c;
    const [path = '/', search = ''] = (request.url ?? '/').split('?', 2);
    const route = `${request.method === 'HEAD' ? 'GET' : request.method} ${path}`;
    const query = new URLSearchParams(search);
    switch (route) {
      case 'GET /healthz':
        return sendHealth(response, sources.health());
      case 'GET /readyz':
        return sendHealth(response, [...sources.health(), ...sources.readiness()]);
      case 'GET /metrics':
        return this.#sendMetrics(response);
      case 'GET /v1/status':
        return sendJson(response, 200, sources.status());
      case 'GET /v1/blobs':
        return sendJson(response, 200, sources.blobs(parseLimit(query.get('limit'))));
      case 'GET /v1/manifest':
        requireLocal(request);
        return this.#manifest(request, query, response, signal);
      case 'POST /v1/self-test':
        requireLocal(request);
        return sendJson(response, 200, await sources.selfTest());
      case 'POST /v1/pull':
        requireLocal(request);
        return this.#pull(request, response, signal);
      default:
        throw new TidepoolError('NOT_FOUND', `nothing is served at ${quote(route)}`);
    }
  }

  /** What makes the text takes megabytes of memory: it is loaded when somebody scrapes. */
  async #sendMetrics(response: ServerResponse): Promise<void> {
    this.#metrics ??= import('./metrics.ts').then(
      ({ Metrics: Made }) => new Made(() => this.#c.sources.status()),
    );
    const metrics = await this.#metrics;
    send(response, 200, metrics.contentType, await metrics.text());
  }

  async #manifest(
    request: IncomingMessage,
    query: URLSearchParams,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const image = parseImageRef(query.get('image') ?? '');
    const answer = await this.#c.sources.manifest({ image, credentials: readAccount(request) }, signal);
    response.setHeader(DIGEST_HEADER, answer.digest);
    if (answer.staleSince !== undefined) {
      response.setHeader(STALE_HEADER, new Date(answer.staleSince).toISOString());
    }
    send(response, 200, answer.mediaType, answer.bytes);
  }

  async #pull(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
    const release = this.#pulls.tryAcquire();
    if (release === undefined) {
      throw new TidepoolError('OVERLOADED', `${MAX_PULLS} pulls are under way already; wait for one of them`);
    }
    try {
      const { clock, log, sources } = this.#c;
      await servePull({ sources, clock, log }, request, response, signal);
    } finally {
      release();
    }
  }

  #fail(response: ServerResponse, error: TidepoolError): void {
    if (error.status >= 500) this.#c.log.warn({ err: error }, 'ops request failed');
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    const body: ApiError = { error: { code: error.code, message: error.message, details: error.details } };
    // What is left of a body is not read to its end.
    response.setHeader('connection', 'close');
    sendJson(response, error.status, body);
  }
}

function sendHealth(response: ServerResponse, checks: readonly HealthCheck[]): void {
  const view: HealthView = { ok: checks.every((check) => check.ok), checks };
  sendJson(response, view.ok ? 200 : 503, view);
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  send(response, status, 'application/json', `${JSON.stringify(body)}\n`);
}

function send(response: ServerResponse, status: number, type: string, body: string | Uint8Array): void {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  response.writeHead(status, {
    'content-type': type,
    'content-length': bytes.length,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(bytes);
}

function parseLimit(text: string | null): number {
  if (text === null) return BLOBS_DEFAULT;
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1 || limit > BLOBS_MAX) {
    throw new TidepoolError('INVALID_ARGUMENT', `limit is a number from 1 to ${BLOBS_MAX}`);
  }
  return limit;
}
