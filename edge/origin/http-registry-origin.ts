import type { Clock } from '../../shared/clock.ts';
import { type ErrorCode, TidepoolError } from '../../shared/errors.ts';
import { Recent } from '../../shared/flow/recent.ts';
import { type Digest, quote } from '../../shared/ids.ts';
import { isRepository, parseReference } from '../../shared/image-ref.ts';
import type { Logger } from '../../shared/log.ts';
import type { RegistrySettings } from '../settings.ts';
import { answerError, headerOf } from './answers.ts';
import { Authorizer } from './auth.ts';
import { readBlobAnswer } from './blob-answer.ts';
import {
  DEFAULT_ANSWER_MS,
  DEFAULT_CONNECT_MS,
  DEFAULT_CONNECTIONS,
  DEFAULT_STALL_MS,
  LOCATION_LIFE_MS,
  MAX_LOCATIONS,
  MAX_OPEN_DOMAINS,
  MAX_PASS_THROUGH_BYTES,
  RETIRE_MS,
} from './constants.ts';
import { parseContentLength, parseContentRange, parseUnsatisfied } from './content-range.ts';
import { DialGuard, type Resolve } from './dial-guard.ts';
import { Domain, type Lane, type Timeouts } from './domain.ts';
import type { Method } from './exchange.ts';
import { discard, type Followed } from './follow.ts';
import { MANIFEST_ACCEPT, readManifest, readManifestHead } from './manifest-answer.ts';
import { checkPassThrough, passedHeaders } from './pass-through.ts';
import { RegistryMap } from './registry-map.ts';
import type {
  OpenBreaker,
  OriginAnswer,
  OriginBody,
  OriginManifest,
  OriginRequest,
  RegistryOrigin,
} from './types.ts';

export interface HttpRegistryOriginComponents {
  readonly clock: Clock;
  readonly log: Logger;
}

export interface HttpRegistryOriginInit {
  /** By host as runtimes name it. */
  readonly registries: Readonly<Record<string, RegistrySettings>>;
  /** Any other registry is dialled at `https://<host>`. */
  readonly openRegistries: boolean;
  /** Networks (CIDR) that may be dialled though they are not public; hosts in `registries` may be in any case. */
  readonly allowAddresses?: readonly string[] | undefined;
  /** How names become addresses; the system's when absent. */
  readonly resolve?: Resolve;
  /** Connections are made from this literal address (a chosen uplink). */
  readonly localAddress?: string | undefined;
  /** Connections for blobs to one origin, default 16. */
  readonly connections?: number;
  readonly timeouts?: Partial<Timeouts>;
  /** In [0, 1), for jitter; default Math.random. */
  readonly random?: () => number;
}

interface Open {
  readonly domain: Domain;
  readonly authorizer: Authorizer;
}

interface Ask {
  readonly request: OriginRequest;
  readonly method: Method;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly lane: Lane;
  /** The content's digest is known, so a redirect to plain http does no harm and remembered credentials may serve. */
  readonly verified: boolean;
}

/** Registries over HTTP/1.1. See {@link RegistryOrigin} for what each call promises. */
export class HttpRegistryOrigin implements RegistryOrigin {
  readonly name = 'origin';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #init: HttpRegistryOriginInit;
  readonly #timeouts: Timeouts;
  readonly #random: () => number;
  readonly #map: RegistryMap;
  readonly #guard: DialGuard;
  readonly #configured = new Map<string, Open>();
  /** Registries dialled by their own name. Bounded, as the names come from requests. */
  readonly #opened = new Map<string, Open>();
  /** Of registries that the hub moved, and what calls off their end. */
  readonly #retired = new Map<Domain, () => void>();
  /** Where a blob was last redirected to: saves asking the registry again for each piece. */
  readonly #locations: Recent<URL>;

  /** @throws TidepoolError INVALID_CONFIG for a URL or an authorities' file that cannot be used */
  constructor(components: HttpRegistryOriginComponents, init: HttpRegistryOriginInit) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#init = init;
    this.#random = init.random ?? Math.random;
    this.#timeouts = {
      connectMs: init.timeouts?.connectMs ?? DEFAULT_CONNECT_MS,
      answerMs: init.timeouts?.answerMs ?? DEFAULT_ANSWER_MS,
      stallMs: init.timeouts?.stallMs ?? DEFAULT_STALL_MS,
    };
    this.#map = new RegistryMap(init.registries, init.openRegistries);
    this.#guard = new DialGuard({
      configured: this.#map.configuredUrls(),
      allow: init.allowAddresses ?? [],
      resolve: init.resolve,
    });
    this.#locations = new Recent(components.clock, MAX_LOCATIONS);
  }

  async start(): Promise<void> {}

  /** Cuts what is under way. */
  async stop(): Promise<void> {
    const open = [...this.#configured.values(), ...this.#opened.values()].map(({ domain }) => domain);
    for (const [domain, cancel] of this.#retired) {
      cancel();
      open.push(domain);
    }
    this.#configured.clear();
    this.#opened.clear();
    this.#retired.clear();
    await Promise.all(open.map((domain) => domain.close()));
  }

  /**
   * Moves registries to the URLs that the hub chose; what is being read from the old ones is read to its end.
   * @returns what is wrong with those that were refused; they stay where they are
   */
  choose(urls: Readonly<Record<string, string>>): readonly string[] {
    const { moved, refused } = this.#map.choose(urls);
    for (const key of moved) {
      for (const domains of [this.#configured, this.#opened]) {
        const open = domains.get(key);
        domains.delete(key);
        if (open !== undefined) this.#retire(key, open.domain);
      }
    }
    return refused;
  }

  downSince(registry: string): number | undefined {
    const key = this.#map.keyOf(registry);
    return (this.#configured.get(key) ?? this.#opened.get(key))?.domain.downSince;
  }

  /** Hosts that requests are kept from now, over all registries. */
  openBreakers(): readonly OpenBreaker[] {
    return [...this.#configured.values(), ...this.#opened.values()].flatMap(({ domain }) =>
      domain.openBreakers(),
    );
  }

  async manifest(
    request: OriginRequest & { reference: string; method: 'GET' | 'HEAD' },
  ): Promise<OriginManifest> {
    const reference = parseReference(request.reference);
    const expected = reference.kind === 'digest' ? reference.digest : undefined;
    const where = `registry ${request.registry}, manifest ${request.repository}:${request.reference}`;
    const send = (method: Method): Promise<Followed> =>
      this.#send({
        request,
        method,
        path: `manifests/${request.reference}`,
        headers: { Accept: MANIFEST_ACCEPT },
        lane: 'control',
        verified: false,
      });
    if (request.method === 'HEAD') {
      const answer = await send('HEAD');
      if (answer.status === 200) {
        const head = readManifestHead(answer, expected, where, this.#clock.now());
        if (head !== undefined) return head;
      } else if (answer.status !== 405 && answer.status !== 501) {
        throw await this.#refusal(answer, where, 'MANIFEST_UNKNOWN');
      }
      // Too little said, or HEAD is not served: only the manifest itself tells its digest.
    }
    const answer = await send('GET');
    if (answer.status !== 200) throw await this.#refusal(answer, where, 'MANIFEST_UNKNOWN');
    const manifest = await readManifest(answer, expected, where, this.#clock.now());
    if (request.method === 'GET') return manifest;
    const { bytes: _, ...head } = manifest;
    return head;
  }

  async blobSize(request: OriginRequest & { digest: Digest }): Promise<number> {
    const where = blobName(request);
    const head = await this.#blobRequest(request, 'HEAD', {}, 'control');
    const length = parseContentLength(headerOf(head, 'content-length'));
    if (head.status === 200 && length !== undefined) return length;
    if (head.status !== 200 && !head.elsewhere && head.status !== 405 && head.status !== 501) {
      throw await this.#refusal(head, where, 'BLOB_UNKNOWN');
    }
    // Object stores sign a location for one method, often GET alone; a range of one byte tells the size as well.
    const get = await this.#blobRequest(request, 'GET', { Range: 'bytes=0-0' }, 'control');
    const range = headerOf(get, 'content-range');
    const size =
      get.status === 206
        ? parseContentRange(range)?.size
        : get.status === 416
          ? parseUnsatisfied(range)
          : parseContentLength(headerOf(get, 'content-length'));
    if (get.status !== 200 && get.status !== 206 && get.status !== 416) {
      throw await this.#refusal(get, where, 'BLOB_UNKNOWN');
    }
    get.body.cancel();
    if (size === undefined)
      throw new TidepoolError('ORIGIN_LIED', `${where}: it does not say how long it is`);
    return size;
  }

  async blob(request: OriginRequest & { digest: Digest; start: number; end?: number }): Promise<OriginBody> {
    const { start, end, digest } = request;
    if (!Number.isSafeInteger(start) || start < 0 || (end !== undefined && !(end > start))) {
      throw new TidepoolError('INVALID_ARGUMENT', `not a range of bytes: [${start}, ${end ?? 'end'})`);
    }
    const where = blobName(request);
    // Asked with a range even from 0 to the end: the answer then tells whether the origin knows ranges.
    const range = `bytes=${start}-${end === undefined ? '' : end - 1}`;
    const answer = await this.#blobRequest(request, 'GET', { Range: range }, 'data');
    if (answer.status !== 200 && answer.status !== 206 && answer.status !== 416) {
      throw await this.#refusal(answer, where, 'BLOB_UNKNOWN');
    }
    return readBlobAnswer(answer, { digest, start, end }, where);
  }

  async passThrough(
    request: OriginRequest & { path: string; query: string; method: 'GET' | 'HEAD' },
  ): Promise<OriginAnswer> {
    const query = checkPassThrough(request.path, request.query);
    const where = `registry ${request.registry}, ${request.repository}/${request.path}`;
    const answer = await this.#send({
      request,
      method: request.method,
      path: `${request.path}${query}`,
      headers: { Accept: '*/*' },
      lane: 'control',
      verified: false,
    });
    // Runtimes ask at once again for these two, however often they get them.
    if (answer.status === 429 || answer.status === 408) throw await this.#refusal(answer, where, 'NOT_FOUND');
    const body = await answer.body.readAll(MAX_PASS_THROUGH_BYTES);
    if (body === undefined) {
      throw new TidepoolError('ORIGIN_ERROR', `${where}: more than ${MAX_PASS_THROUGH_BYTES} bytes`);
    }
    return { status: answer.status, headers: passedHeaders(answer.headers, request.method), body };
  }

  /** A blob's answer, from where the registry sent us for it before if that is still good. */
  async #blobRequest(
    request: OriginRequest & { digest: Digest },
    method: Method,
    headers: Readonly<Record<string, string>>,
    lane: Lane,
  ): Promise<Followed> {
    const ask: Ask = { request, method, headers, lane, path: `blobs/${request.digest}`, verified: true };
    const { domain, authorizer } = this.#domain(request);
    const who = authorizer.identity(this.#account(ask));
    const key = [domain.base.href, request.repository, request.digest, method, who].join('\n');
    const known = this.#locations.get(key);
    if (known !== undefined) {
      const answer = await this.#fromLocation(domain, known, ask);
      if (answer !== undefined) return answer;
      this.#locations.delete(key);
    }
    const answer = await this.#send(ask);
    if (answer.elsewhere && (answer.status === 200 || answer.status === 206)) {
      this.#locations.set(key, answer.url, LOCATION_LIFE_MS);
    }
    return answer;
  }

  async #fromLocation(domain: Domain, url: URL, ask: Ask): Promise<Followed | undefined> {
    const { signal } = ask.request;
    try {
      const headers = { ...ask.headers, 'Accept-Encoding': 'identity' };
      const answer = await domain.hop({ url, headers, signal, method: ask.method, lane: ask.lane });
      if (answer.status === 200 || answer.status === 206) return { ...answer, elsewhere: true };
      await discard(answer);
    } catch (error) {
      signal?.throwIfAborted();
      this.#log.debug(
        { err: error, host: url.host },
        'a remembered location failed; asking the registry again',
      );
    }
    return undefined;
  }

  #send(ask: Ask): Promise<Followed> {
    const { request } = ask;
    const { domain, authorizer } = this.#domain(request);
    return authorizer.send({
      ...this.#account(ask),
      url: domain.url(`/v2/${request.repository}/${ask.path}`),
      method: ask.method,
      headers: { ...ask.headers, 'Accept-Encoding': 'identity' },
      lane: ask.lane,
      verified: ask.verified,
      signal: request.signal,
    });
  }

  #account(ask: Ask) {
    const { repository, credentials, exact } = ask.request;
    return { repository, credentials, mayUseRemembered: ask.verified && exact !== true };
  }

  /** @throws TidepoolError REGISTRY_NOT_CONFIGURED, INVALID_REFERENCE */
  #domain(request: OriginRequest): Open {
    if (!isRepository(request.repository)) {
      throw new TidepoolError('INVALID_REFERENCE', `not a repository: ${quote(request.repository)}`);
    }
    const key = this.#map.keyOf(request.registry);
    const known = this.#configured.get(key) ?? this.#opened.get(key);
    if (known !== undefined) return known;
    const target = this.#map.resolve(request.registry);
    const domain = new Domain(this.#clock, {
      registry: request.registry,
      base: target.base,
      ca: target.ca,
      skipVerify: target.skipVerify,
      localAddress: this.#init.localAddress,
      realms: target.realms ?? [],
      guard: this.#guard,
      connections: this.#init.connections ?? DEFAULT_CONNECTIONS,
      timeouts: this.#timeouts,
      random: this.#random,
    });
    const open = { domain, authorizer: new Authorizer({ clock: this.#clock, random: this.#random }, domain) };
    (target.configured ? this.#configured : this.#opened).set(key, open);
    this.#forgetOldest();
    return open;
  }

  #forgetOldest(): void {
    if (this.#opened.size <= MAX_OPEN_DOMAINS) return;
    const oldest = this.#opened.entries().next();
    if (oldest.done === true) return;
    const [key, { domain }] = oldest.value;
    this.#opened.delete(key);
    this.#drain(key, domain);
  }

  /** A request that began may take several steps (a challenge, a token): the old connections stay for those. */
  #retire(registry: string, domain: Domain): void {
    const cancel = this.#clock.after(RETIRE_MS, () => {
      this.#retired.delete(domain);
      this.#drain(registry, domain);
    });
    this.#retired.set(domain, cancel);
  }

  #drain(registry: string, domain: Domain): void {
    domain.drain().catch((error: unknown) => {
      this.#log.warn({ err: error, registry }, 'connections to a registry did not close cleanly');
    });
  }

  #refusal(answer: Followed, where: string, unknown: ErrorCode): Promise<TidepoolError> {
    // A refusal by the host that a redirect led to is no word of the registry on who may read what.
    return answerError(answer, where, unknown, answer.elsewhere);
  }
}

function blobName(request: OriginRequest & { digest: Digest }): string {
  return `registry ${request.registry}, blob ${request.repository}@${request.digest}`;
}
