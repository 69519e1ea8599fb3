import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type Clock, delay, systemClock } from '../../../shared/clock.ts';
import { TokenBucket } from '../../../shared/flow/token-bucket.ts';
import { type Digest, isDigest } from '../../../shared/ids.ts';
import { freePort } from '../free-port.ts';
import {
  type Answer,
  document,
  manifestAnswer,
  type Repository,
  referrersAnswer,
  refuse,
} from './answers.ts';
import type { SampleImage } from './image.ts';
import { type BlobSource, blobOf } from './layers.ts';
import { Ledger, type LedgerEntry } from './ledger.ts';
import {
  defaultOptions,
  type Fault,
  type LoggedRequest,
  type RegistryOptions,
  type SampleRequest,
} from './options.ts';
import { parseRange } from './range.ts';
import { parseRequest } from './request.ts';
import { sendBody } from './send-body.ts';
import { TokenOffice } from './tokens.ts';

export interface SampleRegistryInit extends Partial<RegistryOptions> {
  readonly clock?: Clock;
  /** PEM; the registry then speaks https. */
  readonly tls?: { readonly key: string; readonly cert: string };
}

/**
 * A registry for tests and the demo: the pull side of the OCI distribution specification, with faults, accounts, a pace a source pool,
 * and counters. Content is generated (see `buildImage`), so that it needs no network and little memory.
 */
export class SampleRegistry {
  /** Read at each request. */
  readonly options: RegistryOptions;
  readonly #clock: Clock;
  readonly #tls: SampleRegistryInit['tls'];
  readonly #ledger = new Ledger();
  readonly #office: TokenOffice;
  readonly #repositories = new Map<string, Repository>();
  readonly #buckets = new Map<string, TokenBucket>();
  #servers: Server[] = [];
  #url = '';
  #blobUrl = '';

  constructor(init: SampleRegistryInit = {}) {
    const { clock, tls, ...options } = init;
    this.options = { ...defaultOptions(), ...options };
    this.#clock = clock ?? systemClock;
    this.#tls = tls;
    this.#office = new TokenOffice(this.#clock);
  }

  /** `http://127.0.0.1:5000`, without a slash at its end. */
  get url(): string {
    return this.#url;
  }

  /** Host and port, as in an image reference. */
  get host(): string {
    return new URL(this.#url).host;
  }

  /** The last requests, oldest first. */
  get requests(): readonly LoggedRequest[] {
    return this.#ledger.requests;
  }

  /** Answers from `host:port`; blobs that are redirected come from another port of the same host. */
  async start(host = '127.0.0.1', port = 0): Promise<void> {
    const scheme = this.#tls === undefined ? 'http' : 'https';
    const urls: string[] = [];
    for (const wanted of [port, 0]) {
      const at = wanted === 0 ? await freePort(host) : wanted;
      const server = this.#tls === undefined ? createServer() : createTlsServer(this.#tls);
      server.keepAliveTimeout = 30_000;
      const redirected = urls.length > 0;
      server.on('request', (request, response) => {
        this.#serve(request, response, redirected).catch((error: unknown) => {
          response.destroy(error instanceof Error ? error : new Error(String(error)));
        });
      });
      this.#servers.push(server);
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(at, host, () => resolve());
      });
      const address = server.address();
      const bound = typeof address === 'object' ? address?.port : undefined;
      urls.push(`${scheme}://${host.includes(':') ? `[${host}]` : host}:${bound}`);
    }
    [this.#url = '', this.#blobUrl = ''] = urls;
  }

  /** Cuts every connection, as a registry that is gone does. May be started again, on the same port where that is named. */
  async stop(): Promise<void> {
    const servers = this.#servers;
    this.#servers = [];
    await Promise.all(
      servers.map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve());
            server.closeAllConnections();
          }),
      ),
    );
  }

  /** Takes an image in under a tag, or under its digests alone. A tag that exists is moved. */
  addImage(repository: string, tag: string | undefined, image: SampleImage): void {
    let held = this.#repositories.get(repository);
    if (held === undefined) {
      held = { tags: new Map(), manifests: new Map(), blobs: new Map() };
      this.#repositories.set(repository, held);
    }
    for (const manifest of image.manifests) held.manifests.set(manifest.digest, manifest);
    for (const blob of image.blobs) held.blobs.set(blob.digest, blob);
    if (tag !== undefined) held.tags.set(tag, image.digest);
  }

  removeTag(repository: string, tag: string): void {
    this.#repositories.get(repository)?.tags.delete(tag);
  }

  /** Bytes of bodies sent to one source pool, or to all. */
  bytesSent(pool?: string): number {
    return this.#ledger.bytesSent(pool);
  }

  bytesOf(digest: Digest, pool?: string): number {
    return this.#ledger.bytesOf(digest, pool);
  }

  /** Source pools that were sent anything. */
  pools(): readonly string[] {
    return this.#ledger.pools();
  }

  resetCounters(): void {
    this.#ledger.reset();
  }

  /** Makes every token given out so far worthless. */
  revokeTokens(): void {
    this.#office.revokeAll();
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse, redirected: boolean): Promise<void> {
    const request = parseRequest(incoming, this.options.poolOf, redirected);
    const entry = this.#ledger.open(request);
    const fault = this.options.fault?.(request) ?? {};
    if (fault.delayMs !== undefined) await delay(this.#clock, fault.delayMs);
    if (fault.hang === true) return;
    if (fault.reset === true) {
      incoming.socket.destroy();
      return;
    }
    const answer =
      fault.status !== undefined && fault.status >= 300
        ? refuse(fault.status, 'UNKNOWN', `the sample registry was told to answer ${fault.status}`)
        : this.#answer(request);
    await this.#send(request, response, answer, fault, entry);
  }

  async #send(
    request: SampleRequest,
    response: ServerResponse,
    answer: Answer,
    fault: Fault,
    entry: LedgerEntry,
  ): Promise<void> {
    const source = fault.body === undefined ? answer.source : blobOf(fault.body);
    const [start, end] = fault.body === undefined ? [answer.start, answer.end] : [0, fault.body.length];
    const contentLength = fault.contentLength ?? end - start;
    const headers: Record<string, string> = { ...answer.headers, 'Content-Length': String(contentLength) };
    if (fault.retryAfter !== undefined) headers['Retry-After'] = String(fault.retryAfter);
    if (fault.contentRange !== undefined) headers['Content-Range'] = fault.contentRange;
    if (fault.contentDigest === null) delete headers['Docker-Content-Digest'];
    else if (fault.contentDigest !== undefined) headers['Docker-Content-Digest'] = fault.contentDigest;
    entry.status = fault.status ?? answer.status;
    response.writeHead(entry.status, { ...headers, ...fault.headers });
    if (request.method === 'HEAD') {
      response.end();
      return;
    }
    response.flushHeaders();
    await sendBody(
      response,
      { source, start, end },
      {
        bucket: this.#bucket(request.pool),
        fault,
        contentLength,
        onSent: (bytes) => this.#ledger.sent(entry, { pool: request.pool, digest: answer.digest }, bytes),
      },
    );
  }

  #bucket(pool: string): TokenBucket {
    const rate = this.options.bytesPerSecond;
    let bucket = this.#buckets.get(pool);
    if (bucket === undefined) {
      bucket = new TokenBucket(this.#clock, rate);
      this.#buckets.set(pool, bucket);
    } else if (bucket.rate !== rate) bucket.setRate(rate);
    return bucket;
  }

  #answer(request: SampleRequest): Answer {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return refuse(405, 'UNSUPPORTED', `${request.method} is not served`);
    }
    if (request.kind === 'token') return this.#token(request);
    if (request.kind === 'redirected-blob') return this.#redirectedBlob(request);
    const { auth } = this.options;
    if (auth !== undefined) {
      const verdict = this.#office.check(
        auth,
        request.authorization,
        request.repository,
        `${this.#url}/token`,
      );
      if (verdict.kind === 'denied') return refuse(403, 'DENIED', 'this account may not read that');
      if (verdict.kind === 'challenge') {
        return refuse(401, 'UNAUTHORIZED', 'authentication required', { 'WWW-Authenticate': verdict.header });
      }
    }
    if (request.kind === 'ping') return document(200, {});
    const repository = this.#repositories.get(request.repository ?? '');
    if (repository === undefined) return refuse(404, 'NAME_UNKNOWN', 'repository name not known to registry');
    const reference = request.reference ?? '';
    if (request.kind === 'manifest') return manifestAnswer(repository, reference);
    if (request.kind === 'tags') {
      return document(200, { name: request.repository, tags: [...repository.tags.keys()].sort() });
    }
    if (request.kind === 'referrers') return referrersAnswer(repository, reference);
    if (request.kind === 'blob') return this.#blobAnswer(repository, request);
    return refuse(404, 'UNSUPPORTED', `no such path: ${request.path}`);
  }

  #token(request: SampleRequest): Answer {
    const { auth } = this.options;
    if (auth === undefined) return refuse(404, 'UNSUPPORTED', 'this registry gives no tokens');
    const token = this.#office.issue(auth, request.authorization, request.query);
    return token === undefined
      ? refuse(401, 'UNAUTHORIZED', 'incorrect username or password', {
          'WWW-Authenticate': 'Basic realm="tokens"',
        })
      : document(200, token);
  }

  #blobAnswer(repository: Repository, request: SampleRequest): Answer {
    const reference = request.reference ?? '';
    const blob = isDigest(reference) ? repository.blobs.get(reference) : undefined;
    if (blob === undefined) return refuse(404, 'BLOB_UNKNOWN', 'blob unknown to registry');
    const status = this.options.redirectBlobs;
    if (status === undefined) return this.#bytes(blob, request);
    const location = `${this.#blobUrl}/data/${request.repository}/${blob.digest}?signature=sample`;
    return { ...document(status, {}), headers: { Location: location } };
  }

  /** As object stores do: a request that carries both a signature and Authorization is refused. */
  #redirectedBlob(request: SampleRequest): Answer {
    if (request.authorization !== undefined) {
      return refuse(400, 'UNSUPPORTED', 'Authorization came along with a redirect to another host');
    }
    const reference = request.reference ?? '';
    const repository = this.#repositories.get(request.repository ?? '');
    const blob = isDigest(reference) ? repository?.blobs.get(reference) : undefined;
    return blob === undefined
      ? refuse(404, 'BLOB_UNKNOWN', 'blob unknown to registry')
      : this.#bytes(blob, request);
  }

  #bytes(blob: BlobSource, request: SampleRequest): Answer {
    const headers: Record<string, string> = {
      'Content-Type': 'application/octet-stream',
      'Docker-Content-Digest': blob.digest,
      ETag: `"${blob.digest}"`,
    };
    const whole = { status: 200, headers, source: blob, start: 0, end: blob.size, digest: blob.digest };
    if (!this.options.ranges) return whole;
    headers['Accept-Ranges'] = 'bytes';
    if (request.range === undefined) return whole;
    const range = parseRange(request.range, blob.size);
    if (range === 'ignored') return whole;
    if (range === 'unsatisfiable') {
      const refused = refuse(416, 'SIZE_INVALID', `the blob has ${blob.size} bytes`);
      return { ...refused, headers: { ...refused.headers, 'Content-Range': `bytes */${blob.size}` } };
    }
    headers['Content-Range'] = `bytes ${range.start}-${range.end - 1}/${blob.size}`;
    return { ...whole, status: 206, start: range.start, end: range.end };
  }
}
