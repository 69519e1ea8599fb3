import type { Readable } from 'node:stream';
import { Agent, type Dispatcher, request } from 'undici';
import { describeError, ERROR_CODES, type ErrorCode, TidepoolError } from '../../shared/errors.ts';
import { formatHostPort } from '../config/addresses.ts';
import {
  type AgentStatus,
  BUNDLE_SIGNED_HEADER,
  BUNDLE_TYPE,
  type BundleEvent,
  type BundleExportRequest,
  DIGEST_HEADER,
  type PullEvent,
  type PullRequest,
  type RuntimeStatus,
  STALE_HEADER,
} from '../ops/api.ts';
import type { HostPort } from '../settings.ts';

const CONNECT_MS = 5_000;
/** Largest answer that is read into memory. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

export interface FetchedManifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
  readonly staleSince: string | undefined;
}

/** Where an agent answers: its port, or the socket of its own user. */
export type AgentDoor = HostPort | { readonly socketPath: string };

/** The ops API of the agent that runs on this host. */
export class OpsClient {
  readonly #base: string;
  readonly #where: string;
  readonly #signal: AbortSignal;
  /** A pull over a thin uplink says nothing for long: only the connect is timed. */
  readonly #agent: Agent;

  constructor(door: AgentDoor, signal: AbortSignal) {
    const socketPath = 'socketPath' in door ? door.socketPath : undefined;
    this.#base = 'socketPath' in door ? 'http://agent' : `http://${formatHostPort(door)}`;
    this.#where = socketPath ?? this.#base;
    this.#agent = new Agent({
      connect: { timeout: CONNECT_MS, ...(socketPath === undefined ? {} : { socketPath }) },
      headersTimeout: 0,
      bodyTimeout: 0,
    });
    this.#signal = signal;
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async status(): Promise<AgentStatus> {
    const { body } = await this.#ask('GET', '/v1/status');
    return parseJson<AgentStatus>((await readAll(body)).toString('utf8'));
  }

  /** Has the agent test now whether the container runtime uses its mirror. */
  async selfTest(): Promise<RuntimeStatus> {
    const { body } = await this.#ask('POST', '/v1/self-test');
    return parseJson<RuntimeStatus>((await readAll(body)).toString('utf8'));
  }

  async manifest(image: string, account: string | undefined): Promise<FetchedManifest> {
    const headers: Record<string, string> =
      account === undefined ? {} : { authorization: `Basic ${Buffer.from(account).toString('base64')}` };
    const answer = await this.#ask(
      'GET',
      `/v1/manifest?image=${encodeURIComponent(image)}`,
      undefined,
      headers,
    );
    const header = (name: string): string | undefined => {
      const value = answer.headers[name];
      return typeof value === 'string' ? value : undefined;
    };
    return {
      digest: header(DIGEST_HEADER) ?? '',
      mediaType: header('content-type') ?? '',
      bytes: await readAll(answer.body),
      staleSince: header(STALE_HEADER),
    };
  }

  async *pull(wanted: PullRequest): AsyncGenerator<PullEvent> {
    const { body } = await this.#ask('POST', '/v1/pull', wanted);
    yield* this.#lines<PullEvent>(body);
  }

  /** @param options of the import, as `check` */
  async *importBundle(source: Readable, options: readonly string[]): AsyncGenerator<BundleEvent> {
    const path = `/v1/bundles/import?${options.join('&')}`;
    const { body } = await this.#send('POST', path, source, { 'content-type': BUNDLE_TYPE });
    yield* this.#lines<BundleEvent>(body);
  }

  async exportBundle(wanted: BundleExportRequest): Promise<{
    readonly bytes: number;
    readonly isSigned: boolean;
    readonly tar: AsyncIterable<Uint8Array>;
  }> {
    const { body, headers } = await this.#ask('POST', '/v1/bundles/export', wanted);
    return {
      bytes: Number(headers['content-length']),
      isSigned: headers[BUNDLE_SIGNED_HEADER] === 'true',
      tar: body,
    };
  }

  async *#lines<T>(body: AsyncIterable<unknown>): AsyncGenerator<T> {
    const decoder = new TextDecoder();
    let rest = '';
    try {
      for await (const chunk of body) {
        if (chunk instanceof Uint8Array) rest += decoder.decode(chunk, { stream: true });
        const lines = rest.split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) if (line !== '') yield parseJson<T>(line);
      }
    } catch (error) {
      this.#signal.throwIfAborted();
      throw new TidepoolError('INTERNAL', `the agent went away: ${describeError(error)}`, { cause: error });
    }
  }

  #ask(method: 'GET' | 'POST', path: string, body?: unknown, headers: Record<string, string> = {}) {
    if (body === undefined) return this.#send(method, path, null, headers);
    return this.#send(method, path, JSON.stringify(body), { ...headers, 'content-type': 'application/json' });
  }

  async #send(
    method: 'GET' | 'POST',
    path: string,
    body: string | Readable | null,
    headers: Record<string, string>,
  ): Promise<Dispatcher.ResponseData> {
    try {
      const answer = await request(`${this.#base}${path}`, {
        dispatcher: this.#agent,
        method,
        headers,
        body,
        signal: this.#signal,
      });
      if (answer.statusCode === 200) return answer;
      throw apiError(answer.statusCode, (await readAll(answer.body)).toString('utf8'));
    } catch (error) {
      this.#signal.throwIfAborted();
      if (error instanceof TidepoolError) throw error;
      throw this.#unreachable(error);
    }
  }

  #unreachable(error: unknown): TidepoolError {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EACCES' || code === 'EPERM') {
      return new TidepoolError(
        'DENIED',
        `this is for the user that the agent runs as: ${this.#where} is not open to you; run the command as that user, as with sudo`,
        { cause: error },
      );
    }
    const flag = this.#where === this.#base ? '--ops where' : '--data where it keeps its data';
    return new TidepoolError(
      'PEER_UNREACHABLE',
      `no agent answers at ${this.#where}: ${describeError(error)}; is it running? Say with ${flag}`,
      { cause: error },
    );
  }
}

async function readAll(body: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    if (!(chunk instanceof Uint8Array)) continue;
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) throw new TidepoolError('INTERNAL', 'the answer is too long');
    chunks.push(Buffer.from(chunk));
  }
  return Buffer.concat(chunks);
}

function apiError(status: number, text: string): TidepoolError {
  try {
    const { error } = parseJson<{ error: { code: string; message: string } }>(text);
    const code = Object.keys(ERROR_CODES).find((known) => known === error.code);
    return new TidepoolError((code ?? 'INTERNAL') as ErrorCode, error.message);
  } catch {
    return new TidepoolError('INTERNAL', `the agent answers ${status}: ${text.slice(0, 200)}`);
  }
}

/** What our own agent of the same build sends is taken at its word. */
function parseJson<T>(text: string): T {
  return JSON.parse(text) as T;
}
