import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { Role } from '../../shared/wire/api.ts';
import { type Caller, callerName, covers, type OutsideTokens } from '../trust/access.ts';
import type { ApiTokens } from '../trust/api-tokens.ts';
import type { Listener, Shown } from './listener.ts';
import { type Rate, RateLimits, sourceOf } from './rate-limits.ts';
import { accessOf, type Need } from './route-access.ts';
import { TooMany } from './too-many.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks; set before any handler runs. */
    caller: Caller;
    /** The certificate of the connection, good or not. */
    shown: Shown | undefined;
  }
}

/** A thousand agents of one site may enrol by way of one address. */
const PER_SOURCE: Rate = { perSecond: 200, burst: 2_000 };
const PER_CALLER: Rate = { perSecond: 50, burst: 500 };
const PER_NODE: Rate = { perSecond: 1, burst: 60 };
/** Bearer tokens that nobody knows: each may cost a question to the cluster. */
const FAILURES: Rate = { perSecond: 0.2, burst: 20 };
/** Enrolments and secrets of hooks that were refused; apart, so that a wrong script does not keep a new node out. */
const REFUSALS: Rate = { perSecond: 1, burst: 60 };
const BEARER = /^Bearer +([\x21-\x7e]{1,8192})$/i;
const WHO_ARE_YOU = 'this needs a token: `--token`, or the header Authorization: Bearer TOKEN';

export interface GuardComponents {
  readonly clock: Clock;
  readonly tokens: Pick<ApiTokens, 'check' | 'isOurs'>;
  /** The cluster's tokens, where there is a cluster. */
  readonly outside?: OutsideTokens | undefined;
}

/** Decides, before anything of a body is read, whether a request may go on, and as whom. */
export class Guard {
  readonly #c: GuardComponents;
  readonly #openMetrics: boolean;
  readonly #sources: RateLimits;
  readonly #callers: RateLimits;
  readonly #nodes: RateLimits;
  readonly #failures: RateLimits;
  readonly #refusals: RateLimits;

  constructor(components: GuardComponents, init: { readonly openMetrics: boolean }) {
    this.#c = components;
    this.#openMetrics = init.openMetrics;
    const limits = (rate: Rate): RateLimits => new RateLimits({ clock: components.clock }, rate);
    this.#sources = limits(PER_SOURCE);
    this.#callers = limits(PER_CALLER);
    this.#nodes = limits(PER_NODE);
    this.#failures = limits(FAILURES);
    this.#refusals = limits(REFUSALS);
  }

  /** @throws TooMany for an address that asks too often */
  count(request: FastifyRequest): void {
    pass(this.#sources, sourceOf(request.ip), 'this address asks too often');
  }

  /** @throws TidepoolError UNAUTHORIZED, DENIED, CERTIFICATE_REFUSED; TooMany */
  async admit(request: FastifyRequest, signal?: AbortSignal): Promise<Caller> {
    const { need } = accessOf(request.method, request.routeOptions.url ?? '');
    const caller = await this.#callerFor(need, request, signal);
    if (caller.kind === 'node') pass(this.#nodes, callerName(caller), 'this node asks too often');
    else if (caller.kind === 'token' || caller.kind === 'kubernetes') {
      pass(this.#callers, callerName(caller), `${callerName(caller)} asks too often`);
    }
    return caller;
  }

  /** What a route itself has refused counts too. */
  refused(request: FastifyRequest, status: number): void {
    if (status !== 401 && status !== 403) return;
    const { need } = accessOf(request.method, request.routeOptions.url ?? '');
    if (judgesItself(need)) this.#refusals.take(sourceOf(request.ip));
  }

  async #callerFor(need: Need, request: FastifyRequest, signal: AbortSignal | undefined): Promise<Caller> {
    if (judgesItself(need)) {
      const waitMs = this.#refusals.wait(sourceOf(request.ip));
      if (waitMs !== undefined) throw new TooMany('too many were refused from this address', waitMs);
    }
    switch (need) {
      case 'nobody':
      case 'enrolment':
        return { kind: 'nobody' };
      case 'hook':
        return { kind: 'hook' };
      case 'certificate': {
        if (request.shown === undefined) throw noCertificate();
        const { verdict } = request.shown;
        return 'principal' in verdict ? nodeOf(verdict.principal) : { kind: 'nobody' };
      }
      case 'node':
        return this.#node(request);
      case 'metrics':
        return this.#openMetrics ? { kind: 'nobody' } : await this.#bearer('view', request, signal);
      default:
        return await this.#bearer(need, request, signal);
    }
  }

  #node({ shown }: FastifyRequest): Caller {
    if (shown === undefined) throw noCertificate();
    if ('refusal' in shown.verdict) throw shown.verdict.refusal;
    const { principal } = shown.verdict;
    // The connection may be older than the end of its certificate.
    if (principal.lapsed || principal.notAfter <= this.#c.clock.now()) {
      throw new TidepoolError('CERTIFICATE_REFUSED', 'the certificate is refused: it has ended; renew it');
    }
    return nodeOf(principal);
  }

  async #bearer(need: Role, request: FastifyRequest, signal: AbortSignal | undefined): Promise<Caller> {
    const source = sourceOf(request.ip);
    const token = BEARER.exec(request.headers.authorization ?? '')?.[1];
    if (token === undefined) {
      throw request.shown === undefined
        ? new TidepoolError('UNAUTHORIZED', WHO_ARE_YOU)
        : new TidepoolError('DENIED', `a certificate does not open this; ${WHO_ARE_YOU}`);
    }
    // Ours first, whatever else came from that address: nobody is shut out by others' failures.
    const known = this.#c.tokens.check(token);
    if (known !== undefined) {
      if (covers(known.role, need)) return { kind: 'token', ...known };
      throw mayNot(`the token ${known.name} has the role ${known.role}, and this needs ${need}`);
    }
    const waitMs = this.#failures.wait(source);
    if (waitMs !== undefined) throw new TooMany('too many unknown tokens came from this address', waitMs);
    const { outside } = this.#c;
    const found =
      outside === undefined || this.#c.tokens.isOurs(token)
        ? undefined
        : await outside.identify(token, need, signal);
    if (found?.allowed === true) return { kind: 'kubernetes', name: found.name, role: need };
    this.#failures.take(source);
    if (found !== undefined) {
      throw mayNot(`the cluster does not give ${found.name} what ${need} needs; its RBAC says who may`);
    }
    throw new TidepoolError('UNAUTHORIZED', 'the token is not known here, or its time is over');
  }
}

/** Puts a guard before every route of an app, those of its scopes too. */
export function addGuard(app: FastifyInstance, guard: Guard | undefined, listener: Listener): void {
  app.decorateRequest('caller');
  app.decorateRequest('shown');
  app.addHook('onRequest', async (request) => {
    request.shown = listener.shownBy(request.raw.socket);
    request.caller = guard === undefined ? { kind: 'anyone' } : { kind: 'nobody' };
    guard?.count(request);
  });
}

/** After whatever else is to be said first, so that a hub which only stands by checks no tokens. */
export function addAdmission(app: FastifyInstance, guard: Guard | undefined): void {
  if (guard === undefined) return;
  app.addHook('onRequest', async (request, reply) => {
    if (request.is404) return;
    const controller = new AbortController();
    const onClose = (): void => controller.abort(new TidepoolError('ABORTED', 'whoever asked has left'));
    reply.raw.once('close', onClose);
    try {
      request.caller = await guard.admit(request, controller.signal);
    } finally {
      reply.raw.off('close', onClose);
    }
  });
  app.addHook('onResponse', async (request, reply) => guard.refused(request, reply.statusCode));
}

function judgesItself(need: Need): boolean {
  return need === 'enrolment' || need === 'certificate' || need === 'hook';
}

function nodeOf(principal: Exclude<Shown['verdict'], { refusal: unknown }>['principal']): Caller {
  if (principal.kind === 'node') return { kind: 'node', principal };
  throw mayNot('this is for nodes, and the certificate is a hub’s');
}

function pass(limits: RateLimits, key: string, message: string): void {
  const waitMs = limits.take(key);
  if (waitMs !== undefined) throw new TooMany(message, waitMs);
}

function noCertificate(): TidepoolError {
  return new TidepoolError('UNAUTHORIZED', 'this is for nodes: it takes the certificate of one');
}

function mayNot(message: string): TidepoolError {
  return new TidepoolError('DENIED', message);
}
