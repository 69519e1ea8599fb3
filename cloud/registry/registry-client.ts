import { Agent, type Dispatcher, request } from 'undici';
import { type Clock, systemClock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { Slots } from '../../shared/flow/queue.ts';
import { type Digest, digestOf, isDigest, quote } from '../../shared/ids.ts';
import { formatImageRef, type ImageRef } from '../../shared/image-ref.ts';
import { type Challenge, parseChallenges } from '../../shared/registry/challenge.ts';
import { parseTokenAnswer } from '../../shared/registry/token-answer.ts';
import { errorText, MAX_ERROR_BYTES, readAnswer } from './answers.ts';
import type { RegistryMap, Target } from './registry-map.ts';
import { type OpenedBody, resumed } from './resumed.ts';
import type { Account, ContentReader, Manifest } from './types.ts';
import { asUnreachable } from './unreachable.ts';

const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');
const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const MAX_TOKEN_BYTES = 64 * 1024;
const CONNECT_MS = 5_000;
const ANSWER_MS = 15_000;
/** Of a whole question, tokens included. */
const DEFAULT_TIMEOUT_MS = 30_000;
/** Questions at a time, over all registries. */
const AT_ONCE = 8;
const MAX_REDIRECTS = 3;
/** A blob takes as long as it takes; a registry that sends nothing for so long has gone. */
const BLOB_IDLE_MS = 60_000;
/** Registries whose connections are kept; the one asked least lately goes first. */
const MAX_AGENTS = 32;

export interface RegistryClientInit {
  readonly timeoutMs?: number;
  /** In [0, 1), for jitter; default Math.random. */
  readonly random?: () => number;
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  readonly url: URL;
}

interface Question {
  readonly target: Target;
  readonly image: ImageRef;
  readonly account: Account | undefined;
  readonly signal: AbortSignal;
}

/** Asks registries, anonymously first, then as their challenge says. All answers but blobs are small and bounded. */
export class RegistryClient implements ContentReader {
  readonly #map: RegistryMap;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #timeoutMs: number;
  readonly #slots = new Slots(AT_ONCE);
  readonly #agents = new Map<string, Agent>();

  constructor(
    components: { readonly map: RegistryMap; readonly clock?: Clock },
    init: RegistryClientInit = {},
  ) {
    this.#map = components.map;
    this.#clock = components.clock ?? systemClock;
    this.#random = init.random ?? Math.random;
    this.#timeoutMs = init.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  async digest(image: ImageRef, account: Account | undefined, signal: AbortSignal): Promise<Digest> {
    return await this.#bounded(image, account, signal, async (question) => {
      const head = await this.#ask('HEAD', image.tag ?? 'latest', question);
      const digest = head.headers['docker-content-digest'];
      if (typeof digest === 'string' && isDigest(digest)) return digest;
      // Some registries leave the digest out of a HEAD; the bytes have it.
      return digestOf((await this.#ask('GET', image.tag ?? 'latest', question)).body);
    });
  }

  async manifest(image: ImageRef, account: Account | undefined, signal: AbortSignal): Promise<Manifest> {
    const { digest } = image;
    if (digest === undefined) {
      throw new TidepoolError('INVALID_REFERENCE', `${formatImageRef(image)} has no digest`);
    }
    return await this.#bounded(image, account, signal, async (question) => {
      const { body } = await this.#ask('GET', digest, question);
      if (digestOf(body) === digest) return { digest, bytes: body };
      throw new TidepoolError('ORIGIN_LIED', `registry ${image.registry} sent other bytes for ${digest}`);
    });
  }

  async *blob(
    image: ImageRef,
    digest: Digest,
    account: Account | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const target = this.#map.resolve(image.registry);
    const question: Question = { target, image, account, signal };
    yield* resumed(
      {
        clock: this.#clock,
        random: this.#random,
        open: (from) => this.#openBlob(digest, from, question),
        toError: (error) => asUnreachable(error, signal, question),
      },
      signal,
    );
  }

  /** Its bytes from some byte on. A token is asked for anew each time: the last one may have ended with the connection. */
  async #openBlob(digest: Digest, from: number, question: Question): Promise<OpenedBody> {
    const { target, image, signal } = question;
    try {
      const url = new URL(`${pathOf(question)}/blobs/${digest}`, target.base);
      const accept = { accept: '*/*', ...(from === 0 ? {} : { range: `bytes=${from}-` }) };
      let answer = await this.#open('GET', url, target, accept, signal, BLOB_IDLE_MS);
      if (answer.statusCode === 401) {
        const challenges = parseChallenges(answer.headers['www-authenticate']);
        await answer.body.dump({ limit: MAX_ERROR_BYTES });
        const authorization = await this.#authorize(challenges, question);
        answer = await this.#open('GET', url, target, { ...accept, authorization }, signal, BLOB_IDLE_MS);
      }
      const { statusCode: status, headers } = answer;
      if (status === 200) return { from: 0, bytes: answer.body };
      if (status === 206 && String(headers['content-range']).startsWith(`bytes ${from}-`)) {
        return { from, bytes: answer.body };
      }
      const body = await readAnswer(answer, url, MAX_ERROR_BYTES);
      // A server in trouble may be out of it soon; any other answer would be the same again.
      if (from > 0 && status >= 500) throw new Error(`it answered ${status}`);
      this.#checked({ status, headers, body, url }, image);
      throw new TidepoolError('ORIGIN_LIED', `registry ${image.registry} sent another part of ${digest}`);
    } catch (error) {
      throw asUnreachable(error, signal, question);
    }
  }

  async close(): Promise<void> {
    const agents = [...this.#agents.values()];
    this.#agents.clear();
    await Promise.all(agents.map((agent) => agent.destroy()));
  }

  async #bounded<T>(
    image: ImageRef,
    account: Account | undefined,
    signal: AbortSignal,
    ask: (question: Question) => Promise<T>,
  ): Promise<T> {
    const target = this.#map.resolve(image.registry);
    const release = await this.#slots.acquire({ signal });
    const controller = new AbortController();
    const onAbort = (): void => controller.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    const timer = setTimeout(() => controller.abort(new Error('no answer in time')), this.#timeoutMs);
    try {
      return await ask({ target, image, account, signal: controller.signal });
    } catch (error) {
      const late = controller.signal.aborted ? new Error('no answer in time') : error;
      throw asUnreachable(error instanceof TidepoolError ? error : late, signal, { image, target });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      release();
    }
  }

  async #ask(method: 'GET' | 'HEAD', reference: string, question: Question): Promise<Answer> {
    const { target, image, account, signal } = question;
    const url = new URL(`${pathOf(question)}/manifests/${reference}`, target.base);
    const first = await this.#send(method, url, target, { accept: ACCEPT }, MAX_MANIFEST_BYTES, signal);
    if (first.status !== 401) return this.#checked(first, image);
    const authorization = await this.#authorize(parseChallenges(first.headers['www-authenticate']), question);
    const headers = { accept: ACCEPT, authorization };
    const second = await this.#send(method, url, target, headers, MAX_MANIFEST_BYTES, signal);
    if (second.status === 401) throw refused(image, account);
    return this.#checked(second, image);
  }

  async #authorize(challenges: readonly Challenge[], question: Question): Promise<string> {
    const { target, image, account, signal } = question;
    // Bearer before Basic: a token is worth less to whoever steals it.
    const bearer = challenges.find(({ scheme, params }) => scheme === 'bearer' && params.has('realm'));
    if (bearer === undefined) {
      const basic = challenges.some(({ scheme }) => scheme === 'basic');
      if (!basic || account === undefined) throw refused(image, account);
      return basicHeader(account);
    }
    const url = realmOf(bearer.params.get('realm') ?? '', target, image);
    const service = bearer.params.get('service');
    if (service !== undefined) url.searchParams.set('service', service);
    const scope = bearer.params.get('scope') ?? `repository:${image.repository}:pull`;
    for (const each of scope.split(' ')) if (each !== '') url.searchParams.append('scope', each);
    const answer = await this.#send(
      'GET',
      url,
      target,
      {
        accept: 'application/json',
        ...(account === undefined ? {} : { authorization: basicHeader(account) }),
      },
      MAX_TOKEN_BYTES,
      signal,
    );
    if (answer.status === 401 || answer.status === 403) throw refused(image, account);
    const token = answer.status === 200 ? parseTokenAnswer(answer.body.toString('utf8')) : undefined;
    if (token !== undefined) return `Bearer ${token.value}`;
    throw new TidepoolError(
      'ORIGIN_ERROR',
      `the token service ${url.origin} of registry ${image.registry} answered ${answer.status} and no token`,
    );
  }

  #checked(answer: Answer, image: ImageRef): Answer {
    const { status, body } = answer;
    if (status === 200) return answer;
    const name = formatImageRef(image);
    const said = errorText(body);
    const tail = said === undefined ? '' : `: ${quote(said.message, 200)}`;
    if (status === 404) {
      const code = said?.code === 'NAME_UNKNOWN' ? 'NAME_UNKNOWN' : 'MANIFEST_UNKNOWN';
      throw new TidepoolError(code, `registry ${image.registry} does not have ${name}${tail}`);
    }
    if (status === 403) {
      throw new TidepoolError('DENIED', `registry ${image.registry} denies access to ${name}${tail}`);
    }
    throw new TidepoolError(
      'ORIGIN_ERROR',
      `registry ${image.registry} answered ${status} for ${name}${tail}`,
    );
  }

  async #send(
    method: 'GET' | 'HEAD',
    from: URL,
    target: Target,
    headers: Readonly<Record<string, string>>,
    maxBytes: number,
    signal: AbortSignal,
  ): Promise<Answer> {
    const answer = await this.#open(method, from, target, headers, signal, ANSWER_MS);
    const limit = answer.statusCode === 200 ? maxBytes : MAX_ERROR_BYTES;
    const body = await readAnswer(answer, from, limit);
    return { status: answer.statusCode, headers: answer.headers, body, url: from };
  }

  /** Redirects are followed without Authorization, and never from https to http. */
  async #open(
    method: 'GET' | 'HEAD',
    from: URL,
    target: Target,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
    bodyTimeout: number,
  ): Promise<Dispatcher.ResponseData> {
    let url = from;
    let sent = headers;
    for (let hops = 0; ; hops++) {
      const answer = await request(url, {
        method,
        headers: { ...sent, 'accept-encoding': 'identity', 'user-agent': 'tidepool-hub' },
        dispatcher: this.#agent(url, target),
        headersTimeout: ANSWER_MS,
        bodyTimeout,
        signal,
      });
      const location = answer.headers.location;
      if (answer.statusCode < 300 || answer.statusCode >= 400 || typeof location !== 'string') return answer;
      await answer.body.dump({ limit: MAX_ERROR_BYTES });
      const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
      const plain = next?.protocol === 'http:' && url.protocol === 'https:';
      if (next === undefined || !/^https?:$/.test(next.protocol) || plain || hops >= MAX_REDIRECTS) {
        throw new TidepoolError('ORIGIN_ERROR', `${url.origin} redirects to where nobody follows it`);
      }
      if (next.origin !== url.origin) {
        const { authorization: _, ...rest } = sent;
        sent = rest;
      }
      url = next;
    }
  }

  #agent(url: URL, { base, ca }: Target): Agent {
    // A private authority vouches for the registry's own host only.
    const own = url.origin === base.origin ? ca : undefined;
    const key = `${url.origin} ${own === undefined ? '' : 'ca'}`;
    const known = this.#agents.get(key);
    this.#agents.delete(key);
    const agent =
      known ??
      new Agent({
        connections: 4,
        pipelining: 1,
        allowH2: false,
        keepAliveTimeout: 4_000,
        connect: { timeout: CONNECT_MS, ...(own === undefined ? {} : { ca: own }) },
      });
    this.#agents.set(key, agent);
    const [oldest] = this.#agents;
    if (this.#agents.size > MAX_AGENTS && oldest !== undefined) {
      this.#agents.delete(oldest[0]);
      // Closes when what is under way there has ended; nobody waits for it.
      oldest[1].close().catch(() => undefined);
    }
    return agent;
  }
}

function pathOf({ target, image }: Pick<Question, 'target' | 'image'>): string {
  return `${target.base.pathname.replace(/\/$/, '')}/v2/${image.repository}`;
}

function basicHeader({ username, password }: Account): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function refused(image: ImageRef, account: Account | undefined): TidepoolError {
  const name = formatImageRef(image);
  return new TidepoolError(
    'UNAUTHORIZED',
    account === undefined
      ? `registry ${image.registry} asks for an account to read ${name}, and the job has none`
      : `registry ${image.registry} does not take the job's account for ${name}`,
  );
}

function realmOf(text: string, { base }: Target, image: ImageRef): URL {
  const realm = URL.canParse(text, base.href) ? new URL(text, base) : undefined;
  const fine = realm?.protocol === 'https:' || (realm?.protocol === 'http:' && base.protocol === 'http:');
  if (realm !== undefined && fine) return realm;
  throw new TidepoolError(
    'ORIGIN_ERROR',
    `registry ${image.registry} names a token service that no account is sent to: ${quote(text)}`,
  );
}
