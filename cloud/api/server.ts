import Fastify, { type FastifyInstance } from 'fastify';
import { TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { ApiError } from '../../shared/wire/api.ts';
import { addHookRoutes } from './hook-routes.ts';
import { createMetrics } from './metrics.ts';
import { addNodeRoutes } from './node-routes.ts';
import { addRoutes } from './routes.ts';
import type { ApiComponents } from './types.ts';

const BODY_LIMIT_BYTES = 256 * 1024;
const REQUEST_TIMEOUT_MS = 15_000;
const MAX_CONNECTIONS = 1_000;

/** `/v1/…` for people and programs, `/healthz`, `/readyz` and `/metrics` for whoever watches the hub. */
export class ApiServer implements Startable {
  readonly name = 'api';
  readonly #components: ApiComponents;
  readonly #init: { readonly host: string; readonly port: number };
  #app: FastifyInstance | undefined;

  constructor(components: ApiComponents, init: { readonly host: string; readonly port: number }) {
    this.#components = components;
    this.#init = init;
  }

  /** @throws the system's error when the address cannot be bound */
  async start(): Promise<void> {
    const c = this.#components;
    const app = Fastify({
      bodyLimit: BODY_LIMIT_BYTES,
      requestTimeout: REQUEST_TIMEOUT_MS,
      forceCloseConnections: true,
    });
    app.server.maxConnections = MAX_CONNECTIONS;
    app.setErrorHandler((error, _request, reply) => {
      const known = knownError(error);
      if (known.status >= 500) c.log.error({ err: error }, 'request failed');
      const body: ApiError = { error: { code: known.code, message: known.message, details: known.details } };
      return reply.code(known.status).send(body);
    });
    app.setNotFoundHandler((request, reply) => {
      const message = `there is no ${request.method} ${quote(request.url)} here`;
      return reply.code(404).send({ error: { code: 'NOT_FOUND', message } } satisfies ApiError);
    });
    // What another hub leads only that one knows, and only that one may change.
    app.addHook('onRequest', async (request) => {
      const elsewhere = request.url.startsWith('/v1/') ? c.standby?.() : undefined;
      if (elsewhere !== undefined) throw new TidepoolError('HUB_UNREACHABLE', elsewhere);
    });
    addRoutes(app, c);
    addNodeRoutes(app, c);
    addHookRoutes(app, c);
    app.get('/healthz', () => ({ status: 'ok' }));
    app.get('/readyz', (_request, reply) => {
      const reason = c.notReady?.();
      if (reason !== undefined) return reply.code(503).send({ status: 'not ready', reason });
      if (c.standby?.() !== undefined) return { status: 'ready', role: 'standby' };
      const { connected, lastError } = c.link.state;
      return connected
        ? { status: 'ready' }
        : reply
            .code(503)
            .send({ status: 'not ready', reason: lastError ?? 'no connection to the broker yet' });
    });
    const metrics = createMetrics(c);
    app.get('/metrics', async (_request, reply) =>
      reply.type(metrics.contentType).send(await metrics.metrics()),
    );
    await app.listen({ host: this.#init.host, port: this.#init.port });
    this.#app = app;
  }

  async stop(): Promise<void> {
    await this.#app?.close();
    this.#app = undefined;
  }

  /** Where it listens, `host:port`. */
  get address(): string {
    const address = this.#app?.server.address();
    if (address === null || address === undefined || typeof address === 'string') return '';
    return address.family === 'IPv6'
      ? `[${address.address}]:${address.port}`
      : `${address.address}:${address.port}`;
  }
}

/** Fastify's own refusals (a body too large, no JSON) are the caller's fault and keep their words. */
function knownError(error: unknown): {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
} {
  if (error instanceof Error && !(error instanceof TidepoolError) && 'statusCode' in error) {
    const { statusCode } = error;
    if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
      return { status: statusCode, code: 'INVALID_ARGUMENT', message: error.message, details: {} };
    }
  }
  const known = toTidepoolError(error);
  return { status: known.status, code: known.code, message: known.message, details: known.details };
}
