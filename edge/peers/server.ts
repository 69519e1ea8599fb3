import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { TokenBucket } from '../../shared/flow/token-bucket.ts';
import { type NodeName, parseDigest, parsePoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { pieceRange } from '../../shared/pieces.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import type { PoolService, ServedPiece } from '../transfer/pool-service.ts';
import type { TransferStats } from '../transfer/stats.ts';
import { MAX_JSON_BYTES, SEND_TIMEOUT_MS } from './constants.ts';
import type { Door } from './door.ts';
import { createListener, type ListenerLimits } from './listener.ts';
import type { Custodian, UpstreamAsk } from './types.ts';
import {
  encodeClaim,
  encodeJoinAnswer,
  encodeProgress,
  PATHS,
  parseAccessAsk,
  parseAsk,
  parseBlobKeys,
  parseDigests,
  parseGrants,
  parseJoin,
  parseKey,
  parseLeaseRequest,
  parseName,
  parseSender,
  parseTagName,
  parseUpstream,
  STATUS,
} from './wire.ts';

interface PeerServerComponents {
  readonly service: PoolService;
  readonly stats: TransferStats;
  readonly clock: Clock;
  readonly log: Logger;
  /** Plain without one: then anybody may say to be anyone. */
  readonly identity?: TlsIdentity | undefined;
  /** Absent: nobody is promised anything. */
  readonly custody?: Custodian | undefined;
  /** The hub's last message of whom to trust, as it was signed. */
  readonly signedTrust?: (() => Uint8Array | undefined) | undefined;
}

interface PeerServerInit {
  readonly host: string;
  readonly port: number;
  readonly limits?: ListenerLimits;
}

/** Made once: an error a request, with its stack, would cost more than the request. */
const HUNG_UP = new TidepoolError('ABORTED', 'the neighbour hung up');
/** Most of a piece that is read and sent at once. */
const SEND_BYTES = 1024 * 1024;
/**
 * The same of what is given to TLS, which enciphers at once all that it is given, and keeps it until the kernel has it:
 * eight of its records, that one call to the kernel takes. More is more memory for each connection, and leaves the cache.
 */
const TLS_SEND_BYTES = 128 * 1024;

/**
 * Where neighbours ask. Every request names its sender and pool; another pool's is refused with 403. With an identity all
 * of it goes over TLS, and the names have to be those of the connection's certificate.
 */
export class PeerServer implements Startable {
  readonly name = 'peer-server';
  readonly #c: PeerServerComponents;
  readonly #init: PeerServerInit;
  readonly #server: Server;
  readonly #door: Door | undefined;
  readonly #release: () => void;
  readonly #sendTimeoutMs: number;
  readonly #upload: TokenBucket;

  constructor(components: PeerServerComponents, init: PeerServerInit) {
    this.#c = components;
    this.#init = init;
    this.#upload = new TokenBucket(components.clock, undefined);
    this.#sendTimeoutMs = init.limits?.sendTimeoutMs ?? SEND_TIMEOUT_MS;
    const { service, identity, clock, log } = components;
    const { server, door, close } = createListener(
      { identity, clock, log },
      { pool: parsePoolName(service.pool), limits: init.limits },
      (request, response) => {
        void this.#handle(request, response);
      },
    );
    this.#server = server;
    this.#door = door;
    this.#release = close;
  }

  get listening(): boolean {
    return this.#server.listening;
  }

  address(): AddressInfo {
    const address = this.#server.address();
    if (address === null || typeof address === 'string')
      throw new TidepoolError('INTERNAL', 'the peer server does not listen');
    return address;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const onError = (error: Error): void => {
        const { host, port } = this.#init;
        const message = `the peer server cannot listen on ${host}:${port}: ${describeError(error)}; free the port or set another by --peer-port`;
        reject(new TidepoolError('INVALID_CONFIG', message, { cause: error }));
      };
      this.#server.once('error', onError);
      this.#server.listen(this.#init.port, this.#init.host, () => {
        this.#server.off('error', onError);
        this.#server.on('error', (error) => this.#c.log.error({ err: error }, 'peer server'));
        resolve();
      });
    });
  }

  async stop(): Promise<void> {
    this.#release();
    if (!this.#server.listening) return;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  /** Cap of what this node sends to neighbours, bytes a second. */
  setUploadRate(bytesPerSecond: number | undefined): void {
    this.#upload.setRate(bytesPerSecond);
  }

  /** Pools that name this one as their upstream: what they are let read, and nothing else. */
  setDownstreams(pools: ReadonlySet<string>): void {
    this.#door?.setDownstreams(pools);
  }

  /** Connections and requests that were not of somebody with business here; 0 without an identity. */
  get refused(): number {
    return this.#door?.refused ?? 0;
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.on('close', () => gone.abort(HUNG_UP));
    try {
      const sender = parseSender(request.headers);
      const reading = request.method === 'GET' && request.url?.startsWith(`${PATHS.upstream}?`) === true;
      this.#door?.check(request.socket, sender, reading);
      if (reading) {
        const ask = parseUpstream(new URLSearchParams(request.url?.split('?')[1]));
        this.#note(sender.node, 'upstream', ask.key, ask.repository);
        await this.#sendRange(response, ask, gone.signal);
        return;
      }
      if (sender.pool !== this.#c.service.pool) {
        throw new TidepoolError('POOL_MISMATCH', `this is pool ${this.#c.service.pool}, not ${sender.pool}`);
      }
      this.#c.service.heard(sender.node, sender.address);
      await this.#route(sender.node, request, response, gone.signal);
    } catch (error) {
      this.#refuse(request, response, error, gone.signal);
    }
  }

  async #route(
    from: NodeName,
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const { service } = this.#c;
    const url = request.url ?? '/';
    const mark = url.indexOf('?');
    const path = mark < 0 ? url : url.slice(0, mark);
    const query = new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1));
    switch (`${request.method} ${path}`) {
      case `GET ${PATHS.piece}`: {
        const ask = parseAsk(query);
        const served = await service.piece(from, ask, signal);
        await this.#sendPiece(response, ask.piece, served, ask.priority, signal);
        return;
      }
      case `GET ${PATHS.hello}`:
        sendJson(response, 200, service.hello());
        return;
      case `POST ${PATHS.join}`: {
        const join = parseJoin(await readJson(request));
        this.#note(from, 'join', join.key, join.repository);
        sendJson(response, 200, encodeJoinAnswer(await service.join(from, join)));
        return;
      }
      case `POST ${PATHS.leave}`: {
        const body = await readJson(request);
        const key = typeof body === 'object' && body !== null && 'key' in body ? String(body.key) : '';
        service.leave(from, parseKey(new URLSearchParams({ key })));
        sendJson(response, 200, {});
        return;
      }
      case `GET ${PATHS.progress}`:
        sendJson(response, 200, encodeProgress(service.progress(parseKey(query), parseName(query))));
        return;
      case `GET ${PATHS.claims}`:
        sendBytes(response, service.claims(parseKey(query), parseName(query)), 'application/octet-stream');
        return;
      case `GET ${PATHS.manifest}`: {
        const [digest, name] = [parseDigest(query.get('digest') ?? ''), parseName(query)];
        this.#note(from, 'manifest', digest, name.repository);
        const record = service.manifest(digest, name);
        sendBytes(response, record?.bytes, record?.mediaType ?? '');
        return;
      }
      case `GET ${PATHS.tags}`:
        sendJson(response, 200, service.tags(parseTagName(query)));
        return;
      case `POST ${PATHS.holdings}`:
        sendJson(response, 200, service.holdings(parseDigests(await readJson(request)), parseName(query)));
        return;
      case `GET ${PATHS.size}`: {
        const size = service.size(parseDigest(query.get('digest') ?? ''), parseName(query));
        if (size === undefined) throw new TidepoolError('NOT_FOUND', 'not whole here');
        sendJson(response, 200, { size });
        return;
      }
      case `GET ${PATHS.access}`:
        sendJson(response, 200, service.access(parseAccessAsk(query)));
        return;
      case `POST ${PATHS.grants}`:
        service.granted(from, parseGrants(await readJson(request)));
        sendJson(response, 200, {});
        return;
      case `POST ${PATHS.custody}`: {
        const keys = parseBlobKeys(await readJson(request));
        sendJson(response, 200, (await this.#c.custody?.keep(keys)) ?? keys.map(() => 'absent'));
        return;
      }
      case `GET ${PATHS.trust}`:
        sendBytes(response, this.#c.signedTrust?.(), 'application/octet-stream');
        return;
      case `POST ${PATHS.lease}`:
        sendJson(response, 200, service.lease(from, parseLeaseRequest(await readJson(request))));
        return;
      default:
        throw new TidepoolError('NOT_FOUND', `no such question: ${request.method} ${path}`);
    }
  }

  async #sendPiece(
    response: ServerResponse,
    piece: number,
    served: ServedPiece,
    priority: number,
    signal: AbortSignal,
  ): Promise<void> {
    if (signal.aborted) return;
    if (served.kind === 'elsewhere' || served.kind === 'refused') {
      sendJson(response, STATUS[served.kind], served);
      return;
    }
    if (served.kind === 'confirmed') {
      response.writeHead(STATUS.confirmed, encodeClaim(served.claim)).end();
      return;
    }
    const { start, end } = pieceRange(served.stored.layout, piece);
    await this.#upload.take(end - start, { priority, signal });
    let position = start;
    let lease = await served.stored.lease(position, Math.min(SEND_BYTES, end - position));
    if (signal.aborted) {
      lease.release();
      return;
    }
    response.writeHead(STATUS.bytes, { 'content-length': end - start, ...encodeClaim(served.claim) });
    for (;;) {
      position += lease.bytes.length;
      try {
        await this.#write(response, lease.bytes, position === end);
        this.#c.stats.servedPeerBytes += lease.bytes.length;
      } finally {
        lease.release();
      }
      if (position === end || signal.aborted) return;
      lease = await served.stored.lease(position, Math.min(SEND_BYTES, end - position));
    }
  }

  /** For a pool that names this one as its upstream: served as to a runtime, and never ranked. */
  async #sendRange(response: ServerResponse, ask: UpstreamAsk, signal: AbortSignal): Promise<void> {
    for await (const lease of await this.#c.service.range(ask, signal)) {
      try {
        if (!response.headersSent) response.writeHead(200, { 'content-length': ask.end - ask.start });
        await this.#upload.take(lease.bytes.length, { priority: 1, signal });
        await this.#write(response, lease.bytes, false);
        this.#c.stats.servedPeerBytes += lease.bytes.length;
      } finally {
        lease.release();
      }
    }
    response.end();
  }

  /** A neighbour that takes what it asked for too slowly is hung up on: it holds a lease meanwhile. */
  async #write(response: ServerResponse, bytes: Uint8Array, last: boolean): Promise<void> {
    const cancel = this.#c.clock.after(this.#sendTimeoutMs, () => response.destroy());
    try {
      const step = this.#c.identity === undefined ? bytes.length : TLS_SEND_BYTES;
      let sent = 0;
      for (; bytes.length - sent > step; sent += step) {
        await write(response, bytes.subarray(sent, sent + step), false);
      }
      await write(response, bytes.subarray(sent), last);
    } finally {
      cancel();
    }
  }

  /** Who has been let ask for what; not for each piece. */
  #note(node: NodeName, what: 'join' | 'manifest' | 'upstream', key: string, repository: string): void {
    if (this.#door !== undefined) this.#c.log.debug({ node, what, key, repository }, 'a neighbour asks');
  }

  #refuse(request: IncomingMessage, response: ServerResponse, error: unknown, signal: AbortSignal): void {
    if (signal.aborted) return;
    const known = toTidepoolError(error);
    if (known.code === 'INTERNAL') this.#c.log.error({ err: error }, 'peer server');
    else this.#c.log.debug({ why: describeError(error) }, 'a neighbour is refused');
    if (response.headersSent) {
      response.destroy();
      return;
    }
    // What is left of a body that was given up is not read: the connection is of no use any more.
    const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
    const body = length !== undefined || encoding !== undefined;
    if (body && !request.complete) response.setHeader('connection', 'close');
    sendJson(response, known.status, { kind: 'refused', code: known.code, message: known.message });
  }
}

/** Resolves when the bytes have been handed to the kernel: only then may their buffer be used again. */
function write(response: ServerResponse, bytes: Uint8Array, last: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    // Nothing tells of the end of what is written to an answer that is gone already.
    if (response.destroyed) {
      reject(HUNG_UP);
      return;
    }
    const done = (error?: Error | null): void => {
      response.off('close', onClose);
      if (error) reject(error);
      else resolve();
    };
    const onClose = (): void => done(HUNG_UP);
    response.once('close', onClose);
    if (last) response.end(bytes, () => done());
    else response.write(bytes, done);
  });
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const bytes = Buffer.from(JSON.stringify(body));
  response
    .writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length })
    .end(bytes);
}

function sendBytes(response: ServerResponse, bytes: Uint8Array | undefined, mediaType: string): void {
  if (bytes === undefined) {
    sendJson(response, 404, { kind: 'refused', code: 'NOT_FOUND', message: 'not here' });
    return;
  }
  response.writeHead(200, { 'content-type': mediaType, 'content-length': bytes.length }).end(bytes);
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_JSON_BYTES)
      throw new TidepoolError('INVALID_ARGUMENT', `a body of over ${MAX_JSON_BYTES} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', 'the body is no JSON', { cause: error });
  }
}
