import * as z from 'zod';
import { describeError, ERROR_CODES, type ErrorCode, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type {
  NodeDetailView,
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

/** Where clients look for the hub when nobody says otherwise. */
export const DEFAULT_HUB = 'http://127.0.0.1:6190';
const TIMEOUT_MS = 15_000;
/** The hub asks registries for it. */
const PLAN_TIMEOUT_MS = 90_000;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

const apiError = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

/** The hub's HTTP API as the client commands use it. Throws TidepoolError: the hub's own, or HUB_UNREACHABLE. */
export class HubClient {
  readonly #base: string;
  readonly #signal: AbortSignal;

  /** @throws TidepoolError INVALID_ARGUMENT */
  constructor(init: { readonly url: string; readonly signal: AbortSignal }) {
    const url = URL.canParse(init.url) ? new URL(init.url) : undefined;
    if (url === undefined || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
      throw new TidepoolError(
        'INVALID_ARGUMENT',
        `not a hub: ${quote(init.url)}; write it like http://127.0.0.1:6190`,
      );
    }
    this.#base = init.url.replace(/\/+$/, '');
    this.#signal = init.signal;
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

  async #call<T>(method: string, path: string, body?: unknown, timeoutMs = TIMEOUT_MS): Promise<T> {
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(timeoutMs)]);
    let status: number;
    let text: string;
    try {
      const answer = await fetch(`${this.#base}${path}`, {
        method,
        signal,
        ...(body === undefined
          ? {}
          : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
      });
      status = answer.status;
      if (Number(answer.headers.get('content-length') ?? 0) > MAX_ANSWER_BYTES)
        throw new Error('the answer is too large');
      text = await answer.text();
    } catch (error) {
      this.#signal.throwIfAborted();
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
