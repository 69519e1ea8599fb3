import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, ListenOptions } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { Slots } from '../../shared/flow/queue.ts';
import { quote } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { ApiError } from '../../shared/wire/api.ts';
import { listenOnSocket } from './admin-socket.ts';
import { DIGEST_HEADER, type HealthCheck, type HealthView, STALE_HEADER } from './api.ts';
import { type BundleDesk, serveExport, serveImport } from './bundles.ts';
import {
  BLOBS_DEFAULT,
  BLOBS_MAX,
  HEADERS_MS,
  KEEP_ALIVE_MS,
  MAX_ADMIN_CONNECTIONS,
  MAX_CONNECTIONS,
  MAX_HEADER_BYTES,
  MAX_PULLS,
  SLOW_CLIENT_MS,
  STOP_GRACE_MS,
} from './constants.ts';
import type { Metrics } from './metrics.ts';
import { servePull } from './pull.ts';
import { readAccount, requireLocal } from './requests.ts';
import type { OpsSources } from './sources.ts';

interface OpsServerComponents {
  readonly sources: OpsSources;
  /** Absent: none are taken or given. */
  readonly bundles?: BundleDesk;
  readonly clock: Clock;
  readonly log: Logger;
}

interface OpsServerInit {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Where what fetches and changes things is asked, by the user that the agent runs as; nowhere when absent. */
  readonly socket?: string | undefined;
}

/** To what is no HTTP, or too much of it. */
const BAD_REQUEST = 'HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n';

/** By which door a request came: the port is open to whoever reaches it, the socket to the agent's own user. */
type Door = 'port' | 'socket';

/**
 * Health, metrics and status on a port, and on a socket of the agent's own user what the command line asks besides: pulls,
 * and manifests read with an account. A port of the node is open to every user and every pod with the host's network.
 */
export class OpsServer implements Startable {
  readonly name = 'ops';
  readonly #c: OpsServerComponents;
  readonly #init: OpsServerInit;
  #metrics: Promise<Metrics> | undefined;
  readonly #pulls = new Slots(MAX_PULLS);
  readonly #stopping = new AbortController();
  #server: Server | undefined;
  #admin: Server | undefined;

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
    const { host, port, socket } = this.#init;
    const server = this.#make('port', MAX_CONNECTIONS);
    await listen(
      server,
      { host, port },
      `the ops server cannot listen on ${host}:${port}`,
      'free the port or set another with --ops',
    );
    this.#server = server;
    if (socket === undefined) return;
    const admin = this.#make('socket', MAX_ADMIN_CONNECTIONS);
    await listenOnSocket(socket, (path) =>
      listen(
        admin,
        { path },
        `the ops server cannot listen on ${path}`,
        'another agent may use this data directory; set another with --data',
      ),
    );
    this.#admin = admin;
  }

  async stop(): Promise<void> {
    const servers = [this.#server, this.#admin].filter((server) => server !== undefined);
    this.#server = undefined;
    this.#admin = undefined;
    const closed = servers.map((server) => {
      const over = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      return over;
    });
    this.#stopping.abort(new TidepoolError('ABORTED', 'the agent is stopping'));
    const cancel = this.#c.clock.after(STOP_GRACE_MS, () => {
      for (const server of servers) server.closeAllConnections();
    });
    await Promise.all(closed);
    cancel();
  }

  #make(door: Door, maxConnections: number): Server {
    const server = createServer(
      {
        headersTimeout: HEADERS_MS,
        // A bundle comes as fast as a stick is read.
        requestTimeout: door === 'socket' ? 0 : HEADERS_MS,
        connectionsCheckingInterval: HEADERS_MS / 2,
        keepAliveTimeout: KEEP_ALIVE_MS,
        maxHeaderSize: MAX_HEADER_BYTES,
      },
      (request, response) => void this.#serve(request, response, door),
    );
    server.maxConnections = maxConnections;
    server.on('error', (error) => this.#c.log.error({ err: error }, 'the ops server cannot accept'));
    // Node itself would answer 408 to a request that does not arrive in time.
    server.on('clientError', (_error, socket) => {
      if (socket.writable) socket.end(BAD_REQUEST, () => socket.destroy());
      else socket.destroy();
    });
    return server;
  }

  /** Never rejects: what goes wrong is told to the client. */
  async #serve(request: IncomingMessage, response: ServerResponse, door: Door): Promise<void> {
    const gone = new AbortController();
    const onStop = (): void => gone.abort(this.#stopping.signal.reason);
    this.#stopping.signal.addEventListener('abort', onStop, { once: true });
    // One that is never taken to its end must not stay for ever; a pull says something again and again.
    response.setTimeout(SLOW_CLIENT_MS, () => response.destroy());
    response.once('close', () => gone.abort(new TidepoolError('ABORTED', 'the client hung up')));
    try {
      await this.#route(request, response, door, gone.signal);
    } catch (error) {
      this.#fail(response, toTidepoolError(error));
    } finally {
      this.#stopping.signal.removeEventListener('abort', onStop);
    }
  }

  async #route(
    request: IncomingMessage,
    response: ServerResponse,
    door: Door,
    signal: AbortSignal,
  ): Promise<void> {
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
        this.#requireSocket(door);
        return this.#manifest(request, query, response, signal);
      case 'POST /v1/self-test':
        if (door === 'port') requireLocal(request);
        return sendJson(response, 200, await sources.selfTest());
      case 'POST /v1/pull':
        this.#requireSocket(door);
        return this.#pull(request, response, signal);
      case 'POST /v1/bundles/import':
        this.#requireSocket(door);
        return serveImport(
          { bundles: this.#bundles, clock: this.#c.clock },
          request,
          query,
          response,
          signal,
        );
      case 'POST /v1/bundles/export':
        this.#requireSocket(door);
        return serveExport({ bundles: this.#bundles }, request, response, signal);
      default:
        throw new TidepoolError('NOT_FOUND', `nothing is served at ${quote(route)}`);
    }
  }

  get #bundles(): BundleDesk {
    if (this.#c.bundles !== undefined) return this.#c.bundles;
    throw new TidepoolError('NOT_FOUND', 'bundles are not served here');
  }

  /** @throws TidepoolError DENIED */
  #requireSocket(door: Door): void {
    if (door === 'socket') return;
    const { socket } = this.#init;
    throw new TidepoolError(
      'DENIED',
      `this is answered over the agent's socket alone${socket === undefined ? '' : `, ${socket}`}; the command line finds it by --data or --config`,
    );
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

async function listen(server: Server, where: ListenOptions, what: string, fix: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void =>
      reject(
        new TidepoolError('INVALID_CONFIG', `${what}: ${describeError(error)}; ${fix}`, { cause: error }),
      );
    server.once('error', onError);
    server.listen(where, () => {
      server.off('error', onError);
      resolve();
    });
  });
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
