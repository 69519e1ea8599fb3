/** The questions that a node asks the hub. No browser's idea of trust is used: the caller judges the hub. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { connect, type SecureContextOptions, type TLSSocket } from 'node:tls';
import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import {
  ERROR_CODES,
  type ErrorCode,
  isTidepoolError,
  TidepoolError,
  toTidepoolError,
} from '../../shared/errors.ts';
import { MAX_CERTIFICATE_BYTES, parseKeyId } from '../../shared/trust/certificate.ts';
import { chainOf } from '../../shared/trust/tls.ts';
import {
  type CredentialAnswer,
  type CredentialRequest,
  credentialAnswer,
} from '../../shared/wire/credentials.ts';
import { poolName } from '../../shared/wire/messages/fields.ts';
import { HUB_TIMEOUT_MS, MAX_ANSWER_BYTES, MAX_REVOKED } from './constants.ts';

const ENROLL = '/v1/enroll';
const RENEW = '/v1/renew';
const CREDENTIALS = '/v1/node/credentials';

const keyId = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .transform(parseKeyId);

const issued = z.object({
  certificate: z.string().max(2 * MAX_CERTIFICATE_BYTES),
  roots: z
    .union([z.string(), z.array(z.string())])
    .transform((pem) => (typeof pem === 'string' ? pem : pem.join('\n'))),
  pool: poolName,
  revoked: z.array(keyId).max(MAX_REVOKED).default([]),
  trustVersion: z.number().int().nonnegative().default(0),
});
/** What the hub answers to the first two. */
export type Issued = z.infer<typeof issued>;

const apiError = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

/** It was the hub that said no, not this node that did not believe it. */
export function isAnswer(error: unknown): error is TidepoolError {
  return isTidepoolError(error) && error.details.answered === true;
}

export interface EnrollBody {
  readonly node: string;
  /** PEM. */
  readonly request: string;
  readonly token?: string;
  readonly serviceAccountToken?: string;
  readonly replace?: boolean;
  readonly platform?: string;
}

interface HubClientInit {
  /** Base URL, `https://host:port`. */
  readonly url: string;
  readonly localAddress?: string | undefined;
}

export interface CallInit {
  readonly tls: SecureContextOptions;
  /** Given what the hub has shown, its own certificate (DER) first; throws to end the call before anything is said. */
  readonly admit: (chain: readonly Uint8Array[]) => void;
  readonly signal: AbortSignal;
}

interface Question<T> {
  readonly path: string;
  readonly body: Buffer;
  readonly answer: z.ZodType<T>;
}

export class HubClient {
  readonly #clock: Clock;
  readonly #url: URL;
  readonly #localAddress: string | undefined;

  constructor(components: { readonly clock: Clock }, init: HubClientInit) {
    this.#clock = components.clock;
    this.#url = new URL(init.url);
    this.#localAddress = init.localAddress;
  }

  get url(): string {
    return this.#url.origin;
  }

  /** @throws TidepoolError what the hub answers (TOKEN_REFUSED, CONFLICT …), HUB_UNREACHABLE, or what `admit` throws */
  enroll(body: EnrollBody, call: CallInit): Promise<Issued> {
    return this.#post(ENROLL, issued, body, call);
  }

  /** @throws TidepoolError as {@link enroll} */
  renew(body: { readonly request: string }, call: CallInit): Promise<Issued> {
    return this.#post(RENEW, issued, body, call);
  }

  /** Accounts for a prefetch, sealed. @throws TidepoolError as {@link enroll} */
  credentials(body: CredentialRequest, call: CallInit): Promise<CredentialAnswer> {
    return this.#post(CREDENTIALS, credentialAnswer, body, call);
  }

  async #post<T>(path: string, answer: z.ZodType<T>, body: unknown, call: CallInit): Promise<T> {
    const late = new AbortController();
    const cancel = this.#clock.after(HUB_TIMEOUT_MS, () =>
      late.abort(this.#unreachable(`no answer within ${HUB_TIMEOUT_MS / 1000} s`)),
    );
    const signal = AbortSignal.any([call.signal, late.signal]);
    try {
      const socket = await this.#connect(call.tls, signal);
      try {
        call.admit(chainOf(socket));
        return await this.#exchange(
          socket,
          { path, answer, body: Buffer.from(JSON.stringify(body)) },
          signal,
        );
      } finally {
        socket.destroy();
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw toTidepoolError(error, 'HUB_UNREACHABLE');
    } finally {
      cancel();
    }
  }

  #connect(tls: SecureContextOptions, signal: AbortSignal): Promise<TLSSocket> {
    const host = this.#url.hostname.replace(/^\[(.*)\]$/, '$1');
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const socket = connect({
        ...tls,
        host,
        port: Number(this.#url.port === '' ? 443 : this.#url.port),
        rejectUnauthorized: false,
        minVersion: 'TLSv1.3',
        ...(isIP(host) === 0 ? { servername: host } : {}),
        ...(this.#localAddress === undefined ? {} : { localAddress: this.#localAddress }),
      });
      const onAbort = (): void => void socket.destroy(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      socket.once('close', () => {
        signal.removeEventListener('abort', onAbort);
        reject(this.#unreachable('the connection was closed'));
      });
      socket.on('error', (error) => reject(this.#unreachable(error.message, error)));
      socket.once('secureConnect', () => resolve(socket));
    });
  }

  #exchange<T>(socket: TLSSocket, { path, answer, body }: Question<T>, signal: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const sent = httpRequest({
        createConnection: () => socket,
        method: 'POST',
        path,
        headers: {
          host: this.#url.host,
          'content-type': 'application/json',
          'content-length': body.length,
          connection: 'close',
        },
        signal,
      });
      sent.on('error', (error) => reject(this.#unreachable(error.message, error)));
      sent.on('response', (response) => {
        this.#read(response, answer).then(resolve, reject);
      });
      sent.end(body);
    });
  }

  async #read<T>(response: IncomingMessage, answer: z.ZodType<T>): Promise<T> {
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MAX_ANSWER_BYTES) throw this.#unreachable(`it answers over ${MAX_ANSWER_BYTES} bytes`);
      chunks.push(chunk);
    }
    const json = parseJson(Buffer.concat(chunks).toString('utf8'));
    if (response.statusCode === 200 || response.statusCode === 201) {
      const read = answer.safeParse(json);
      if (read.success) return read.data;
      throw this.#unreachable(
        `its answer cannot be read (${read.error.issues[0]?.path.join('.')}: ${read.error.issues[0]?.message})`,
      );
    }
    const told = apiError.safeParse(json);
    if (told.success && isErrorCode(told.data.error.code)) {
      const { code, message } = told.data.error;
      throw new TidepoolError(code, `the hub at ${this.url} refuses: ${message.slice(0, 500)}`, {
        details: { answered: true },
      });
    }
    throw this.#unreachable(`it answers ${response.statusCode}`);
  }

  #unreachable(why: string, cause?: unknown): TidepoolError {
    return new TidepoolError('HUB_UNREACHABLE', `the hub's API at ${this.url}: ${why}`, { cause });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_CODES, code);
}
