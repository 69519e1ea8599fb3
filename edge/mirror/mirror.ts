import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { Slots } from '../../shared/flow/queue.ts';
import { quote } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { Content } from '../transfer/types.ts';
import {
  ANSWER_MS,
  HEADERS_MS,
  KEEP_ALIVE_MS,
  LINGER_MS,
  MAX_CONNECTIONS,
  MAX_HEADER_BYTES,
  MAX_REQUESTS,
  MAX_STREAMS,
  SELF_TEST_REGISTRY,
  SLOW_CLIENT_MS,
  STALL_MS,
  STOP_GRACE_MS,
} from './constants.ts';
import { errorAnswer, rawErrorAnswer } from './error-answer.ts';
import { Exchange } from './exchange.ts';
import { listenError, openToEveryUser } from './privileged-port.ts';
import { parseRoute, type Route } from './route.ts';
import { serveBase } from './serve-base.ts';
import { serveBlob } from './serve-blob.ts';
import { serveManifest } from './serve-manifest.ts';
import { servePassThrough } from './serve-pass-through.ts';
import { MirrorStats } from './stats.ts';

export interface MirrorComponents {
  readonly content: Content;
  readonly log: Logger;
  readonly clock: Clock;
}

/** Times in ms. What is left out has the value of `constants.ts`. */
export interface MirrorInit {
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Registry of requests that name none. */
  readonly defaultRegistry: string;
  /** Warn at the start where other users of the node could take the port. */
  readonly guarded?: boolean;
  /** Longest wait for the first word of the content on a request. */
  readonly answerMs?: number;
  /** Longest that a client which reads may wait for a byte of a body. */
  readonly stallMs?: number;
  /** Longest that a client may leave written bytes unread. */
  readonly slowClientMs?: number;
  readonly headersMs?: number;
  readonly keepAliveMs?: number;
  readonly stopGraceMs?: number;
  readonly maxConnections?: number;
  /** Requests at a time; one more gets 503. */
  readonly maxRequests?: number;
  /** Blob bodies at a time; the others wait in line. */
  readonly maxStreams?: number;
  /** Told of each request that names a repository, before it is served. */
  readonly onAsked?: (asked: {
    readonly registry: string;
    readonly repository: string;
    readonly reference?: string | undefined;
  }) => void;
}

/** The registry that runtimes pull from: OCI distribution-spec 1.1, the pull API alone. */
export class Mirror implements Startable {
  readonly name = 'mirror';
  readonly stats = new MirrorStats();
  readonly #content: Content;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #init: Required<MirrorInit>;
  readonly #requests: Slots;
  readonly #streams: Slots;
  readonly #exchanges = new Set<Exchange>();
  /** Sockets with requests under way, and how many. */
  readonly #busy = new Map<Duplex, number>();
  #server: Server | undefined;

  constructor(components: MirrorComponents, init: MirrorInit) {
    this.#content = components.content;
    this.#log = components.log;
    this.#clock = components.clock;
    this.#init = {
      answerMs: ANSWER_MS,
      stallMs: STALL_MS,
      slowClientMs: SLOW_CLIENT_MS,
      headersMs: HEADERS_MS,
      keepAliveMs: KEEP_ALIVE_MS,
      stopGraceMs: STOP_GRACE_MS,
      maxConnections: MAX_CONNECTIONS,
      maxRequests: MAX_REQUESTS,
      maxStreams: MAX_STREAMS,
      onAsked: () => undefined,
      guarded: false,
      ...init,
    };
    this.#requests = new Slots(this.#init.maxRequests);
    this.#streams = new Slots(this.#init.maxStreams, this.#init.maxRequests);
  }

  /** Where the mirror listens. @throws TidepoolError INTERNAL before `start` */
  address(): AddressInfo {
    const address = this.#server?.address();
    if (address === null || typeof address !== 'object') {
      throw new TidepoolError('INTERNAL', 'the mirror does not listen yet');
    }
    return address;
  }

  /** @throws TidepoolError INVALID_CONFIG when the address cannot be listened on */
  async start(): Promise<void> {
    const { headersMs, host, keepAliveMs, maxConnections, port } = this.#init;
    const server = createServer(
      {
        keepAliveTimeout: keepAliveMs,
        headersTimeout: headersMs,
        // Whatever carries a body is refused, so the whole request is its headers.
        requestTimeout: headersMs,
        connectionsCheckingInterval: Math.min(headersMs, 5_000),
        maxHeaderSize: MAX_HEADER_BYTES,
        noDelay: true,
        requireHostHeader: false,
      },
      (request, response) => void this.#serve(request, response),
    );
    server.maxConnections = maxConnections;
    server.on('checkContinue', (request, response) => void this.#serve(request, response));
    server.on('checkExpectation', (request, response) => void this.#serve(request, response));
    server.on('clientError', (error, socket) => this.#refuse(error, socket));
    server.on('drop', () => this.#log.warn({ maxConnections }, 'too many connections; one was dropped'));
    // Each exchange listens for its socket's end; a client that pipelines has several.
    server.on('connection', (socket: Socket) => socket.setMaxListeners(0));
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        reject(listenError(host, port, error));
      });
      server.listen({ host, port }, resolve);
    });
    server.on('error', (error) => this.#log.error({ err: error }, 'the mirror cannot accept connections'));
    this.#server = server;
    this.#log.info({ address: this.address() }, 'the mirror listens');
    if (this.#init.guarded && openToEveryUser(this.address().port)) {
      this.#log.warn(
        { port: this.address().port },
        'any user of this node can listen on the port of the mirror while the agent is down, and collect the accounts that come with pulls; set --mirror to a port below 1024',
      );
    }
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    let cancel = this.#clock.after(this.#init.stopGraceMs, () => {
      for (const exchange of this.#exchanges) {
        exchange.abort(new TidepoolError('OVERLOADED', 'the mirror is stopping; ask again'));
      }
      // Who has been told of it has a moment to read it.
      cancel = this.#clock.after(LINGER_MS, () => server.closeAllConnections());
    });
    await Promise.allSettled([...this.#exchanges].map((exchange) => exchange.over));
    server.closeAllConnections();
    cancel();
    await closed;
  }

  /** Never rejects: whatever goes wrong is told to the client, or ends its connection, and is logged. */
  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { answerMs, slowClientMs } = this.#init;
    const exchange = new Exchange(request, response, this.#clock, {
      answerMs,
      slowClientMs,
      onSent: (bytes) => this.stats.sent(bytes),
    });
    const { socket } = request;
    this.#exchanges.add(exchange);
    this.#busy.set(socket, (this.#busy.get(socket) ?? 0) + 1);
    this.stats.begin();
    let failure: TidepoolError | undefined;
    const release = this.#requests.tryAcquire();
    try {
      if (release === undefined) {
        throw new TidepoolError(
          'OVERLOADED',
          `${this.#init.maxRequests} requests are under way already; ask again`,
        );
      }
      await this.#route(exchange);
    } catch (error) {
      failure = exchange.signal.aborted ? toTidepoolError(exchange.signal.reason) : toTidepoolError(error);
      await this.#fail(exchange, failure);
    } finally {
      release?.();
      this.#exchanges.delete(exchange);
      const others = (this.#busy.get(socket) ?? 1) - 1;
      if (others > 0) this.#busy.set(socket, others);
      else this.#busy.delete(socket);
      this.#account(exchange, failure);
    }
  }

  async #route(exchange: Exchange): Promise<void> {
    const { method, url = '' } = exchange.request;
    exchange.subject = url;
    const route = parseRoute(url, this.#init.defaultRegistry);
    if (route.kind !== 'unknown') exchange.kind = route.kind;
    if ('registry' in route) this.#init.onAsked(route);
    if (method !== 'GET' && method !== 'HEAD') {
      throw new TidepoolError(
        'METHOD_NOT_ALLOWED',
        `${method ?? ''} is not possible here: a mirror is for pulling alone`,
      );
    }
    if (exchange.hasBody) {
      throw new TidepoolError('INVALID_ARGUMENT', `a ${method} request takes no body`);
    }
    if ('registry' in route && route.registry === SELF_TEST_REGISTRY) {
      throw new TidepoolError(
        'MANIFEST_UNKNOWN',
        `${SELF_TEST_REGISTRY} has no images: a self-test asks for it`,
      );
    }
    await this.#dispatch(exchange, route);
  }

  #dispatch(exchange: Exchange, route: Route): Promise<void> {
    const content = this.#content;
    switch (route.kind) {
      case 'base':
        return serveBase(exchange);
      case 'manifest':
        return serveManifest({ content, stats: this.stats }, exchange, route);
      case 'blob':
        return serveBlob(
          { content, clock: this.#clock, streams: this.#streams },
          this.#init,
          exchange,
          route,
        );
      case 'referrers':
      case 'tags':
        return servePassThrough({ content }, exchange, route);
      case 'unknown':
        throw new TidepoolError('NOT_FOUND', `nothing is served at ${quote(exchange.subject)}`);
    }
  }

  async #fail(exchange: Exchange, failure: TidepoolError): Promise<void> {
    const { response } = exchange;
    if (exchange.clientGone) return;
    if (response.headersSent) return exchange.breakOff(failure);
    try {
      // What is left of a body is not read to its end: the connection is closed instead.
      const closing = exchange.hasBody ? { Connection: 'close' } : {};
      const answer = errorAnswer(failure);
      await exchange.send({ ...answer, headers: { ...answer.headers, ...closing } });
    } catch (error) {
      this.#log.error({ err: error, url: exchange.subject }, 'cannot answer with an error');
      await exchange.breakOff(failure);
    }
  }

  /** A connection that did not bring a request which node's parser takes. */
  #refuse(error: Error, socket: Duplex): void {
    const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
    // In the middle of an answer a second one would be taken for its bytes.
    if (!socket.writable || code === 'ECONNRESET' || this.#busy.has(socket)) {
      socket.destroy();
      return;
    }
    const [status, message] =
      code === 'HPE_HEADER_OVERFLOW'
        ? [431, `the request's headers are longer than ${MAX_HEADER_BYTES} bytes`]
        : code === 'ERR_HTTP_REQUEST_TIMEOUT'
          ? [400, 'the request did not arrive in time']
          : [400, 'this is not an HTTP/1.1 request'];
    this.#log.debug({ status, reason: describeError(error) }, message);
    this.stats.begin();
    this.stats.end('other', status);
    socket.end(rawErrorAnswer(new TidepoolError('INVALID_ARGUMENT', message), status), () =>
      socket.destroy(),
    );
  }

  #account(exchange: Exchange, failure: TidepoolError | undefined): void {
    const { bytes, clientGone, kind, request, response, subject } = exchange;
    const broken = failure !== undefined && !clientGone && !response.writableFinished;
    const status = clientGone ? 499 : broken ? 0 : response.statusCode;
    this.stats.end(kind, status);
    const facts = {
      method: request.method,
      url: subject,
      kind,
      status,
      bytes,
      ms: Math.round(this.#clock.mono() - exchange.startedAt),
    };
    if (failure === undefined || clientGone) {
      this.#log.debug(facts, clientGone ? 'the client left' : 'served');
      return;
    }
    if (failure.details.waitingFor === 'content') this.stats.stall();
    const told = { ...facts, code: failure.code, err: failure };
    if (broken) this.#log.warn(told, 'broke off a body: the runtime resumes or asks elsewhere');
    else if (status >= 500) this.#log.warn(told, 'could not serve');
    else this.#log.debug({ ...facts, code: failure.code, reason: failure.message }, 'refused');
  }
}
