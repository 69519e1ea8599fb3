import { type Dispatcher, request } from 'undici';
import * as z from 'zod';
import {
  describeError,
  ERROR_CODES,
  type ErrorCode,
  isTidepoolError,
  TidepoolError,
} from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type {
  ApiTokenMade,
  ApiTokenRequest,
  ApiTokenView,
  AuditEntryView,
  HandedCredentialView,
  NodeDetailView,
  NodeEventView,
  NodeTuningView,
  NodeView,
  PoolTuningView,
  PoolView,
  PrefetchDetailView,
  PrefetchPlanView,
  PrefetchRequest,
  PrefetchView,
  TuningCheckView,
} from '../../shared/wire/api.ts';
import { type HubTrust, secureDispatcher } from './hub-transport.ts';

export type { HubTrust };

const TIMEOUT_MS = 15_000;
/** The hub asks registries for it. */
const PLAN_TIMEOUT_MS = 90_000;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

const apiError = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

export interface HubClientInit {
  readonly url: string;
  readonly signal: AbortSignal;
  /** What an https address has to prove. */
  readonly trust?: HubTrust;
  readonly token?: string;
  /** A token may go over a plain connection. */
  readonly insecure?: boolean;
}

/** The hub's HTTP API as the client commands use it. Throws TidepoolError: the hub's own, or HUB_UNREACHABLE. */
export class HubClient {
  readonly #base: string;
  readonly #signal: AbortSignal;

  readonly #token: string | undefined;
  readonly #dispatcher: Dispatcher | undefined;

  /** @throws TidepoolError INVALID_ARGUMENT */
  constructor(init: HubClientInit) {
    const url = URL.canParse(init.url) ? new URL(init.url) : undefined;
    if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `not a hub: ${quote(init.url)}; write it like https://127.0.0.1:6190`,
      );
    }
    if (url.username !== '' || url.password !== '') {
      throw new TidepoolError('INVALID_ARGUMENT', 'no account stands in the address of a hub; use --token');
    }
    if (url.protocol === 'https:') {
      if (init.trust === undefined) {
        throw new TidepoolError('INVALID_ARGUMENT', 'nothing says which hub is the right one; use --ca');
      }
      this.#dispatcher = secureDispatcher(init.trust);
    } else if (init.token !== undefined && init.insecure !== true) {
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `a token is not sent to the plain address ${quote(init.url)}; write https://, or say --insecure`,
      );
    }
    this.#base = init.url.replace(/\/+$/, '');
    this.#signal = init.signal;
    this.#token = init.token;
  }

  pools(): Promise<readonly PoolView[]> {
    return this.#call('GET', '/v1/pools');
  }

  nodes(pool?: string): Promise<readonly NodeView[]> {
    return this.#call('GET', `/v1/nodes${pool === undefined ? '' : `?pool=${encodeURIComponent(pool)}`}`);
  }

  node(node: string): Promise<NodeDetailView> {
    return this.#call('GET', `/v1/nodes/${encodeURIComponent(node)}`);
  }

  /** What happened on one node, on a pool's, or on all. */
  events(of: {
    readonly node?: string;
    readonly pool?: string | undefined;
  }): Promise<readonly NodeEventView[]> {
    const { node, pool } = of;
    if (node !== undefined) return this.#call('GET', `/v1/nodes/${encodeURIComponent(node)}/events`);
    return this.#call('GET', `/v1/events${pool === undefined ? '' : `?pool=${encodeURIComponent(pool)}`}`);
  }

  async forgetNode(node: string): Promise<void> {
    await this.#call('DELETE', `/v1/nodes/${encodeURIComponent(node)}`);
  }

  prefetches(): Promise<readonly PrefetchView[]> {
    return this.#call('GET', '/v1/prefetches');
  }

  prefetch(id: string): Promise<PrefetchDetailView> {
    return this.#call('GET', `/v1/prefetches/${encodeURIComponent(id)}`);
  }

  createPrefetch(request: PrefetchRequest): Promise<PrefetchView> {
    return this.#call('POST', '/v1/prefetches', request);
  }

  /** @param spec of an ImagePrefetch */
  putPrefetch(id: string, spec: unknown): Promise<PrefetchView> {
    return this.#call('PUT', `/v1/prefetches/${encodeURIComponent(id)}`, { spec });
  }

  suspendPrefetch(id: string, suspend: boolean): Promise<PrefetchView> {
    return this.#call('POST', `/v1/prefetches/${encodeURIComponent(id)}/suspend`, { suspend });
  }

  planPrefetch(request: PrefetchRequest): Promise<PrefetchPlanView> {
    return this.#call('POST', '/v1/prefetch-plans', request, PLAN_TIMEOUT_MS);
  }

  async deletePrefetch(id: string): Promise<void> {
    await this.#call('DELETE', `/v1/prefetches/${encodeURIComponent(id)}`);
  }

  nodeTuning(node: string): Promise<NodeTuningView> {
    return this.#call('GET', `/v1/nodes/${encodeURIComponent(node)}/tuning`);
  }

  poolTuning(pool: string): Promise<PoolTuningView> {
    return this.#call('GET', `/v1/pools/${encodeURIComponent(pool)}/tuning`);
  }

  /** What the tuning of this data would change; nothing is changed by asking. */
  checkTuning(data: Readonly<Record<string, string>>): Promise<TuningCheckView> {
    return this.#call('POST', '/v1/tuning-checks', { data });
  }

  apiTokens(): Promise<readonly ApiTokenView[]> {
    return this.#call('GET', '/v1/api-tokens');
  }

  createApiToken(token: ApiTokenRequest): Promise<ApiTokenMade> {
    return this.#call('POST', '/v1/api-tokens', token);
  }

  async deleteApiToken(name: string): Promise<void> {
    await this.#call('DELETE', `/v1/api-tokens/${encodeURIComponent(name)}`);
  }

  /** @param since wall clock, ms */
  audit(since?: number): Promise<readonly AuditEntryView[]> {
    return this.#call('GET', `/v1/audit${since === undefined ? '' : `?since=${since}`}`);
  }

  /** Which accounts the node was given for prefetches. */
  nodeCredentials(node: string): Promise<readonly HandedCredentialView[]> {
    return this.#call('GET', `/v1/nodes/${encodeURIComponent(node)}/credentials`);
  }

  /** Any route, for commands that have no words of their own here. */
  call<T>(method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<T> {
    return this.#call(method, path, body);
  }

  async #call<T>(
    method: Dispatcher.HttpMethod,
    path: string,
    body?: unknown,
    timeoutMs = TIMEOUT_MS,
  ): Promise<T> {
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(timeoutMs)]);
    let status: number;
    let text: string;
    try {
      const answer = await request(`${this.#base}${path}`, {
        method,
        signal,
        ...(this.#dispatcher === undefined ? {} : { dispatcher: this.#dispatcher }),
        headers: {
          ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      status = answer.statusCode;
      text = await readText(answer.body);
    } catch (error) {
      this.#signal.throwIfAborted();
      if (isTidepoolError(error, 'CERTIFICATE_REFUSED')) {
        const message = `${this.#base} is not the hub that it should be: ${error.message}; is --ca right?`;
        throw new TidepoolError('CERTIFICATE_REFUSED', message, { cause: error });
      }
      const why =
        error instanceof Error && error.cause !== undefined
          ? describeError(error.cause)
          : describeError(error);
      throw new TidepoolError(
        'HUB_UNREACHABLE',
        `no answer from the hub at ${this.#base}: ${why}; is it running, and is --hub right?`,
        { cause: error },
      );
    }
    if (status < 300) return parseJson<T>(text, status);
    const json = parseJson<unknown>(text, status);
    const failure = apiError.safeParse(json);
    const code =
      failure.success && isErrorCode(failure.data.error.code) ? failure.data.error.code : 'INTERNAL';
    throw new TidepoolError(
      code,
      failure.success ? failure.data.error.message : `the hub answered ${status}`,
    );
  }
}

async function readText(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new Error('the answer is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The hub's answers are taken at their word: it is the same project, one version apart at most. */
function parseJson<T>(text: string, status: number): T {
  try {
    return JSON.parse(text === '' ? 'null' : text) as T;
  } catch (error) {
    throw new TidepoolError('INTERNAL', `the hub answered ${status} and no JSON; is --hub a hub?`, {
      cause: error,
    });
  }
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_CODES, code);
}
