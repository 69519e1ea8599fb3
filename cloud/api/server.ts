import Fastify, { type FastifyInstance } from 'fastify';
import { TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { ApiError } from '../../shared/wire/api.ts';
import { addAudit } from './audit.ts';
import { addBrokerRoutes } from './broker-routes.ts';
import { addBundleRoutes } from './bundle-routes.ts';
import { addCredentialRoutes } from './credential-routes.ts';
import { addAdmission, addGuard, Guard } from './guard.ts';
import { addHookRoutes } from './hook-routes.ts';
import { Listener } from './listener.ts';
import { createMetrics } from './metrics.ts';
import { addNodeRoutes } from './node-routes.ts';
import { addRoutes } from './routes.ts';
import { addAuditRoutes, addTokenRoutes } from './token-routes.ts';
import { TooMany } from './too-many.ts';
import { addTrustRoutes } from './trust-routes.ts';
import type { ApiComponents } from './types.ts';

const BODY_LIMIT_BYTES = 256 * 1024;

export interface ApiInit {
  readonly host: string;
  readonly port: number;
  /** `/metrics` without a token. */
  readonly openMetrics?: boolean;
}

/** `/v1/…` for people and programs, `/healthz`, `/readyz` and `/metrics` for whoever watches the hub. */
export class ApiServer implements Startable {
  readonly name = 'api';
  readonly #components: ApiComponents;
  readonly #init: ApiInit;
  #app: FastifyInstance | undefined;
  #listener: Listener | undefined;
  readonly #routes: string[] = [];

  constructor(components: ApiComponents, init: ApiInit) {
    this.#components = components;
    this.#init = init;
  }

  /** @throws the system's error when the address cannot be bound */
  async start(): Promise<void> {
    const c = this.#components;
    const { identity, tokens, outside, audit } = c;
    if (identity !== undefined && tokens === undefined) {
      throw new TidepoolError('INTERNAL', 'the API has an identity and nobody to say who may do what');
    }
    const guard =
      identity === undefined || tokens === undefined
        ? undefined
        : new Guard({ clock: c.clock, tokens, outside }, { openMetrics: this.#init.openMetrics ?? false });
    let listener: Listener | undefined;
    const app = Fastify({
      bodyLimit: BODY_LIMIT_BYTES,
      forceCloseConnections: true,
      serverFactory: (handler) => {
        listener = new Listener(handler, { identity });
        return listener.server;
      },
    });
    if (listener === undefined) throw new TidepoolError('INTERNAL', 'the API has no socket');
    this.#listener = listener;
    app.addHook('onRoute', ({ method, url }) => {
      for (const each of [method].flat()) this.#routes.push(`${each} ${url}`);
    });
    app.setErrorHandler((error, _request, reply) => {
      const known = knownError(error);
      if (known.status >= 500) c.log.error({ err: error }, 'request failed');
      if (known.retryAfterMs !== undefined) reply.header('retry-after', Math.ceil(known.retryAfterMs / 1000));
      if (known.status === 401) reply.header('www-authenticate', 'Bearer realm="tidepool-hub"');
      const body: ApiError = { error: { code: known.code, message: known.message, details: known.details } };
      return reply.code(known.status).send(body);
    });
    app.setNotFoundHandler((request, reply) => {
      const message = `there is no ${request.method} ${quote(request.url)} here`;
      return reply.code(404).send({ error: { code: 'NOT_FOUND', message } } satisfies ApiError);
    });
    addGuard(app, guard, listener);
    app.addHook('onRequest', async (_request, reply) => {
      // Answers carry what is nobody else's, tokens among it.
      reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff');
    });
    // What another hub leads only that one knows, and only that one may change.
    app.addHook('onRequest', async (request) => {
      const elsewhere = request.url.startsWith('/v1/') ? c.standby?.() : undefined;
      if (elsewhere !== undefined) throw new TidepoolError('HUB_UNREACHABLE', elsewhere);
    });
    addAdmission(app, guard);
    if (audit !== undefined) {
      addAudit(app, audit);
      addAuditRoutes(app, { audit });
    }
    addRoutes(app, c);
    addNodeRoutes(app, c);
    addHookRoutes(app, c);
    addTrustRoutes(app, c);
    addBrokerRoutes(app, c);
    addBundleRoutes(app, c);
    if (tokens !== undefined) addTokenRoutes(app, { tokens });
    if (identity !== undefined && c.handed !== undefined) {
      addCredentialRoutes(app, { reconciler: c.reconciler, secrets: c.secrets, handed: c.handed });
    }
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
    this.#listener?.close();
    this.#listener = undefined;
  }

  /** `METHOD path` of each, as they were registered. */
  get routes(): readonly string[] {
    return this.#routes;
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
  readonly retryAfterMs?: number;
} {
  if (error instanceof TooMany) {
    const { status, code, message, details, retryAfterMs } = error;
    return { status, code, message, details, retryAfterMs };
  }
  if (error instanceof Error && !(error instanceof TidepoolError) && 'statusCode' in error) {
    const { statusCode } = error;
    if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
      return { status: statusCode, code: 'INVALID_ARGUMENT', message: error.message, details: {} };
    }
  }
  const known = toTidepoolError(error);
  return { status: known.status, code: known.code, message: known.message, details: known.details };
}
