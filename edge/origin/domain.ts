import { isIP, type LookupFunction } from 'node:net';
import { rootCertificates } from 'node:tls';
import { Agent, buildConnector } from 'undici';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { Breaker, type FailureKind } from './breaker.ts';
import {
  CONTROL_CONNECTIONS,
  KEEP_ALIVE_MS,
  MAX_BREAKERS,
  MAX_OPEN_REQUESTS,
  SILENCE_MS,
} from './constants.ts';
import { CLOSED_EARLY, NO_ANSWER } from './data-lane/connection.ts';
import { DataLane } from './data-lane/data-lane.ts';
import { UnsizedAnswer } from './data-lane/head.ts';
import { type DialGuard, DialRefused } from './dial-guard.ts';
import { type Exchange, type Method, openExchange } from './exchange.ts';
import type { OpenBreaker } from './types.ts';

export interface Timeouts {
  readonly connectMs: number;
  /** From the request sent to the answer's head. */
  readonly answerMs: number;
  /** Without a byte while a reader waits for one. */
  readonly stallMs: number;
}

export interface DomainInit {
  /** The registry as runtimes name it, for messages. */
  readonly registry: string;
  readonly base: URL;
  /** PEM of authorities to trust besides the system's. */
  readonly ca?: string | undefined;
  readonly skipVerify?: boolean | undefined;
  /** Hosts of token services that may be given this registry's accounts, besides those that are its own. */
  readonly realms: readonly string[];
  readonly localAddress?: string | undefined;
  /** Says where connections may go. */
  readonly guard: DialGuard;
  readonly connections: number;
  readonly timeouts: Timeouts;
  readonly random: () => number;
}

/** Blobs have connections of their own: a manifest must not wait behind sixteen pieces on a thin uplink. */
export type Lane = 'control' | 'data';

export interface HopInit {
  readonly url: URL;
  readonly method: Method;
  readonly headers: Readonly<Record<string, string>>;
  readonly lane: Lane;
  readonly signal?: AbortSignal | undefined;
}

/** A connection that was kept alive may be closed by the other side just as a request is written; that says nothing of the origin. */
const EARLY = new Set([CLOSED_EARLY, 'UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);
const GATEWAY_FAILURES = new Set([502, 503, 504]);
const ANSWER_FAILURES = new Set(['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_HEADERS_OVERFLOW', NO_ANSWER, ...EARLY]);

/**
 * One registry and all it sends us on to (token realm, object store): connections, trusted authorities and circuit breakers are
 * shared within it and with nobody else.
 */
export class Domain {
  readonly registry: string;
  readonly base: URL;
  readonly realms: readonly string[];
  readonly #clock: Clock;
  readonly #init: DomainInit;
  readonly #lanes: Readonly<Record<Lane, Agent>>;
  readonly #direct: DataLane;
  /** Hosts whose bodies have no length at their head: those are read by the HTTP client. Bounded. */
  readonly #unsized = new Set<string>();
  readonly #breakers = new Map<string, Breaker>();
  #open = 0;

  constructor(clock: Clock, init: DomainInit) {
    this.#clock = clock;
    this.#init = init;
    this.registry = init.registry;
    this.base = init.base;
    this.realms = init.realms;
    this.#direct = new DataLane(clock, {
      connections: init.connections,
      connectMs: init.timeouts.connectMs,
      localAddress: init.localAddress,
      guard: init.guard,
      ca: init.ca === undefined ? undefined : authorities(init.ca),
      skipVerify: init.skipVerify,
    });
    this.#lanes = { control: this.#agent(CONTROL_CONNECTIONS), data: this.#agent(init.connections) };
  }

  get downSince(): number | undefined {
    return this.#breakers.get(this.base.origin)?.since;
  }

  /** Hosts that requests are kept from. */
  openBreakers(): OpenBreaker[] {
    return [...this.#breakers].flatMap(([origin, { open }]) =>
      open === undefined ? [] : [{ registry: this.registry, origin, ...open }],
    );
  }

  /** A path beneath the registry's base, `/v2/…`. */
  url(path: string): URL {
    return new URL(`${this.base.pathname.replace(/\/+$/, '')}${path}`, this.base);
  }

  /**
   * One request to one host.
   * @throws TidepoolError ORIGIN_UNREACHABLE, OVERLOADED, REGISTRY_NOT_CONFIGURED or ORIGIN_ERROR for where it may not go, or
   *   the signal's reason
   */
  async hop(init: HopInit): Promise<Exchange> {
    if (this.#open >= MAX_OPEN_REQUESTS) {
      throw new TidepoolError(
        'OVERLOADED',
        `${this.#open} requests to ${this.registry} are under way already`,
      );
    }
    this.#checkLiteral(init.url);
    const breaker = this.#breaker(init.url.origin);
    const admission = breaker.admit();
    if (admission.kind === 'refused') {
      const since = new Date(admission.since).toISOString();
      const next = `${Math.ceil(admission.retryInMs / 1000)} s`;
      throw new TidepoolError(
        'ORIGIN_UNREACHABLE',
        `${this.#name(init.url)} has not answered since ${since} (${admission.why}); next try in ${next}`,
        { details: { host: init.url.host, since: admission.since } },
      );
    }
    this.#open++;
    const startedAt = this.#clock.mono();
    try {
      const exchange = await this.#dispatch(init, breaker, true);
      if (isOutage(exchange)) breaker.failed(admission, 'answer', `status ${exchange.status}`);
      else breaker.succeeded();
      return exchange;
    } catch (error) {
      if (init.signal?.aborted === true) {
        const waitedMs = this.#clock.mono() - startedAt;
        if (this.#isSilence(init.lane, waitedMs)) {
          breaker.failed(admission, 'answer', `no answer within ${Math.round(waitedMs / 1000)} s`);
        } else breaker.abandoned(admission);
        throw error;
      }
      // A registry's own name that suddenly means an inner address is what a captive portal does: the registry is away.
      if (error instanceof DialRefused && init.url.origin !== this.base.origin) {
        breaker.abandoned(admission);
        throw this.#refused(init.url, error);
      }
      const why = describeError(error);
      breaker.failed(admission, failureKind(error), why);
      throw new TidepoolError('ORIGIN_UNREACHABLE', `${this.#name(init.url)} does not answer: ${why}`, {
        cause: error,
        details: { host: init.url.host, since: this.#clock.now() },
      });
    } finally {
      this.#open--;
    }
  }

  /** Ends every connection at once. */
  async close(): Promise<void> {
    this.#direct.close();
    await Promise.all([this.#lanes.control.destroy(), this.#lanes.data.destroy()]);
  }

  /** Takes no more requests; those under way end by themselves. */
  async drain(): Promise<void> {
    this.#direct.drain();
    await Promise.all([this.#lanes.control.close(), this.#lanes.data.close()]);
  }

  async #dispatch(init: HopInit, breaker: Breaker, again: boolean): Promise<Exchange> {
    const { answerMs, stallMs } = this.#init.timeouts;
    try {
      const exchange = {
        ...init,
        answerMs,
        stallMs,
        onStall: () => breaker.failed({ kind: 'pass' }, 'answer', `nothing came for ${stallMs / 1000} s`),
      };
      if (init.lane === 'data' && init.method === 'GET' && !this.#unsized.has(init.url.host)) {
        return await this.#direct.get(exchange);
      }
      return await openExchange(this.#lanes[init.lane], this.#clock, exchange);
    } catch (error) {
      if (error instanceof UnsizedAnswer) {
        if (this.#unsized.size >= MAX_BREAKERS) this.#unsized.clear();
        this.#unsized.add(init.url.host);
        return this.#dispatch(init, breaker, again);
      }
      if (!again || init.signal?.aborted === true || !EARLY.has(codeOf(error))) throw error;
      return this.#dispatch(init, breaker, false);
    }
  }

  /**
   * Whether a request that was called off had waited long enough to say something of the origin: callers have less
   * patience than an answer may take, and one that is never answered must not count for nothing. Blobs may wait for their turn.
   */
  #isSilence(lane: Lane, waitedMs: number): boolean {
    return lane === 'control' && waitedMs >= Math.min(SILENCE_MS, this.#init.timeouts.answerMs / 2);
  }

  #checkLiteral(url: URL): void {
    try {
      this.#init.guard.checkLiteral(url);
    } catch (error) {
      throw error instanceof DialRefused ? this.#refused(url, error) : error;
    }
  }

  #refused(url: URL, error: DialRefused): TidepoolError {
    return new TidepoolError(
      url.origin === this.base.origin ? 'REGISTRY_NOT_CONFIGURED' : 'ORIGIN_ERROR',
      `${this.#name(url)} is not dialled: ${error.message}`,
      { cause: error, details: { host: url.host } },
    );
  }

  #breaker(origin: string): Breaker {
    let breaker = this.#breakers.get(origin);
    if (breaker === undefined) {
      breaker = new Breaker(this.#clock, { random: this.#init.random });
      this.#breakers.set(origin, breaker);
      // Object stores may have a new name an answer; the registry's own breaker stays, whatever they do.
      for (const known of this.#breakers.keys()) {
        if (this.#breakers.size <= MAX_BREAKERS) break;
        if (known !== this.base.origin && known !== origin) this.#breakers.delete(known);
      }
    }
    return breaker;
  }

  #name(url: URL): string {
    return url.origin === this.base.origin
      ? `registry ${this.registry} at ${url.origin}`
      : `${url.origin}, where registry ${this.registry} sends us,`;
  }

  #agent(connections: number): Agent {
    const { localAddress, ca, guard, skipVerify, timeouts } = this.#init;
    const family = localAddress === undefined ? 0 : isIP(localAddress);
    const connector = (lookup: LookupFunction): buildConnector.connector =>
      buildConnector({
        timeout: timeouts.connectMs,
        lookup,
        ...(family === 0 ? {} : { family }),
        ...(ca === undefined ? {} : { ca: authorities(ca) }),
        ...(skipVerify === true ? { rejectUnauthorized: false } : {}),
      });
    const trusted = connector(guard.plain);
    const guarded = connector(guard.lookup);
    return new Agent({
      connections,
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: KEEP_ALIVE_MS,
      ...(localAddress === undefined ? {} : { localAddress }),
      connect: (options, done) => {
        const url = new URL(`${options.protocol}//${options.host ?? options.hostname}`);
        return (guard.trusts(url) ? trusted : guarded)(options, done);
      },
    });
  }
}

/** `ca` replaces the built-in authorities, so they are named along with the one that was added. */
function authorities(ca: string): string[] {
  return [...rootCertificates, ca];
}

/** A gateway says that the registry behind it is gone. One that says when to come back is busy, and there. */
function isOutage(exchange: Exchange): boolean {
  return GATEWAY_FAILURES.has(exchange.status) && exchange.headers['retry-after'] === undefined;
}

function failureKind(error: unknown): FailureKind {
  return ANSWER_FAILURES.has(codeOf(error)) ? 'answer' : 'connect';
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}
