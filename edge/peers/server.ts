import type { IncomingHttpHeaders, Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { TokenBucket } from '../../shared/flow/token-bucket.ts';
import { type NodeName, parseBlobKey, parseDigest, parsePoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { pieceRange } from '../../shared/pieces.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import type { PoolService, ServedPiece } from '../transfer/pool-service.ts';
import type { TransferStats } from '../transfer/stats.ts';
import { PRIORITY } from '../transfer/types.ts';
import { SEND_TIMEOUT_MS } from './constants.ts';
import type { Door } from './door.ts';
import type { Exchange } from './exchange.ts';
import { createListener, type ListenerLimits } from './listener.ts';
import type { Custodian, UpstreamAsk } from './types.ts';
import { parseAccessAsk, parseGrants } from './wire/access.ts';
import { parseKey, parseName } from './wire/fields.ts';
import { encodeJoinAnswer, encodeProgress, parseJoin } from './wire/join.ts';
import { parseLeaseRequest } from './wire/lease.ts';
import { parseSender } from './wire/members.ts';
import { PATHS, STATUS } from './wire/paths.ts';
import { encodeClaim, parseAsk, parseUpstream } from './wire/piece.ts';
import { parseBlobKeys, parseDigests, parseTagName } from './wire/records.ts';

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

/** Most of a piece that is read and sent at once. */
const SEND_BYTES = 1024 * 1024;
/**
 * The same of what is given to TLS, which enciphers at once all that it is given, and keeps it until the kernel has it; it
 * takes the next part a turn of the event loop later. More is more memory for each connection, less is more turns.
 */
const TLS_SEND_BYTES = 256 * 1024;

/**
 * Where neighbours ask, over channels or by single HTTP requests. Each of them names its sender and pool; another pool's is
 * refused with 403. With an identity all of it goes over TLS, and the names have to be those of the connection's certificate.
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
      (socket, exchange, headers) => {
        void this.#handle(socket, exchange, headers);
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

  async #handle(socket: Socket, exchange: Exchange, headers: IncomingHttpHeaders): Promise<void> {
    try {
      const sender = parseSender(headers);
      const reading = exchange.method === 'GET' && exchange.url.startsWith(`${PATHS.upstream}?`);
      this.#door?.check(socket, sender, reading);
      if (reading) {
        const ask = parseUpstream(new URLSearchParams(exchange.url.slice(PATHS.upstream.length + 1)));
        this.#note(sender.node, 'upstream', ask.key, ask.repository);
        await this.#sendRange(exchange, ask);
        return;
      }
      if (sender.pool !== this.#c.service.pool) {
        throw new TidepoolError('POOL_MISMATCH', `this is pool ${this.#c.service.pool}, not ${sender.pool}`);
      }
      this.#c.service.heard(sender.node, sender.address);
      await this.#route(sender.node, exchange);
    } catch (error) {
      this.#refuse(exchange, error);
    }
  }

  async #route(from: NodeName, exchange: Exchange): Promise<void> {
    const { service } = this.#c;
    const { method, url } = exchange;
    const mark = url.indexOf('?');
    const path = mark < 0 ? url : url.slice(0, mark);
    const query = new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1));
    switch (`${method} ${path}`) {
      case `GET ${PATHS.piece}`: {
        const ask = parseAsk(query);
        const served = await service.piece(from, ask, exchange.signal);
        await this.#sendPiece(exchange, ask.piece, served, ask.priority);
        return;
      }
      case `GET ${PATHS.hello}`:
        sendJson(exchange, 200, service.hello());
        return;
      case `POST ${PATHS.join}`: {
        const join = parseJoin(await readJson(exchange));
        this.#note(from, 'join', join.key, join.repository);
        sendJson(exchange, 200, encodeJoinAnswer(await service.join(from, join)));
        return;
      }
      case `POST ${PATHS.leave}`: {
        const body = await readJson(exchange);
        const key = typeof body === 'object' && body !== null && 'key' in body ? String(body.key) : '';
        service.leave(from, parseBlobKey(key));
        sendJson(exchange, 200, {});
        return;
      }
      case `GET ${PATHS.progress}`:
        sendJson(exchange, 200, encodeProgress(service.progress(parseKey(query), parseName(query))));
        return;
      case `GET ${PATHS.claims}`:
        sendBytes(exchange, service.claims(parseKey(query), parseName(query)), 'application/octet-stream');
        return;
      case `GET ${PATHS.manifest}`: {
        const [digest, name] = [parseDigest(query.get('digest') ?? ''), parseName(query)];
        this.#note(from, 'manifest', digest, name.repository);
        const record = service.manifest(digest, name);
        sendBytes(exchange, record?.bytes, record?.mediaType ?? '');
        return;
      }
      case `GET ${PATHS.tags}`:
        sendJson(exchange, 200, service.tags(parseTagName(query)));
        return;
      case `POST ${PATHS.holdings}`:
        sendJson(exchange, 200, service.holdings(parseDigests(await readJson(exchange)), parseName(query)));
        return;
      case `GET ${PATHS.size}`: {
        const size = service.size(parseDigest(query.get('digest') ?? ''), parseName(query));
        if (size === undefined) throw new TidepoolError('NOT_FOUND', 'not whole here');
        sendJson(exchange, 200, { size });
        return;
      }
      case `GET ${PATHS.access}`:
        sendJson(exchange, 200, service.access(parseAccessAsk(query)));
        return;
      case `POST ${PATHS.grants}`:
        service.granted(from, parseGrants(await readJson(exchange)));
        sendJson(exchange, 200, {});
        return;
      case `POST ${PATHS.custody}`: {
        const keys = parseBlobKeys(await readJson(exchange));
        sendJson(exchange, 200, (await this.#c.custody?.keep(keys)) ?? keys.map(() => 'absent'));
        return;
      }
      case `GET ${PATHS.trust}`:
        sendBytes(exchange, this.#c.signedTrust?.(), 'application/octet-stream');
        return;
      case `POST ${PATHS.lease}`:
        sendJson(exchange, 200, service.lease(from, parseLeaseRequest(await readJson(exchange))));
        return;
      default:
        throw new TidepoolError('NOT_FOUND', `no such question: ${method} ${path}`);
    }
  }

  async #sendPiece(exchange: Exchange, piece: number, served: ServedPiece, priority: number): Promise<void> {
    const { signal } = exchange;
    if (signal.aborted) return;
    if (served.kind === 'elsewhere' || served.kind === 'refused') {
      sendJson(exchange, STATUS[served.kind], served);
      return;
    }
    if (served.kind === 'confirmed') {
      exchange.answer(STATUS.confirmed, encodeClaim(served.claim));
      return;
    }
    const { start, end } = pieceRange(served.stored.layout, piece);
    await this.#upload.take(end - start, { priority, signal });
    const over = await exchange.turn(priority);
    try {
      let position = start;
      let lease = await served.stored.lease(position, Math.min(SEND_BYTES, end - position));
      if (signal.aborted) {
        lease.release();
        return;
      }
      exchange.begin(STATUS.bytes, { 'content-length': end - start, ...encodeClaim(served.claim) });
      for (;;) {
        position += lease.bytes.length;
        try {
          await this.#write(exchange, lease.bytes, position === end);
          this.#c.stats.servedPeerBytes += lease.bytes.length;
        } finally {
          lease.release();
        }
        if (position === end || signal.aborted) return;
        lease = await served.stored.lease(position, Math.min(SEND_BYTES, end - position));
      }
    } finally {
      over();
    }
  }

  /** For a pool that names this one as its upstream: served as to a runtime, and never ranked. */
  async #sendRange(exchange: Exchange, ask: UpstreamAsk): Promise<void> {
    const over = await exchange.turn(PRIORITY.prefetch);
    try {
      let left = ask.end - ask.start;
      for await (const lease of await this.#c.service.range(ask, exchange.signal)) {
        try {
          if (!exchange.begun) exchange.begin(200, { 'content-length': left });
          await this.#upload.take(lease.bytes.length, { priority: 1, signal: exchange.signal });
          left -= lease.bytes.length;
          await this.#write(exchange, lease.bytes, left <= 0);
          this.#c.stats.servedPeerBytes += lease.bytes.length;
        } finally {
          lease.release();
        }
      }
      // The content has ended early.
      if (left > 0) exchange.destroy();
    } finally {
      over();
    }
  }

  /** A neighbour that takes what it asked for too slowly is hung up on: it holds a lease meanwhile. */
  async #write(exchange: Exchange, bytes: Uint8Array, last: boolean): Promise<void> {
    const cancel = this.#c.clock.after(this.#sendTimeoutMs, () => exchange.destroy());
    try {
      const step = this.#c.identity === undefined ? bytes.length : TLS_SEND_BYTES;
      let sent = 0;
      for (; bytes.length - sent > step; sent += step) {
        await exchange.write(bytes.subarray(sent, sent + step), false);
      }
      await exchange.write(bytes.subarray(sent), last);
    } finally {
      cancel();
    }
  }

  /** Who has been let ask for what; not for each piece. */
  #note(node: NodeName, what: 'join' | 'manifest' | 'upstream', key: string, repository: string): void {
    if (this.#door !== undefined) this.#c.log.debug({ node, what, key, repository }, 'a neighbour asks');
  }

  #refuse(exchange: Exchange, error: unknown): void {
    if (exchange.signal.aborted) return;
    const known = toTidepoolError(error);
    if (known.code === 'INTERNAL') this.#c.log.error({ err: error }, 'peer server');
    else this.#c.log.debug({ why: describeError(error) }, 'a neighbour is refused');
    if (exchange.begun) exchange.destroy();
    else sendJson(exchange, known.status, { kind: 'refused', code: known.code, message: known.message });
  }
}

function sendJson(exchange: Exchange, status: number, body: unknown): void {
  exchange.answer(status, { 'content-type': 'application/json' }, Buffer.from(JSON.stringify(body)));
}

function sendBytes(exchange: Exchange, bytes: Uint8Array | undefined, mediaType: string): void {
  if (bytes === undefined) {
    sendJson(exchange, 404, { kind: 'refused', code: 'NOT_FOUND', message: 'not here' });
    return;
  }
  exchange.answer(200, { 'content-type': mediaType }, bytes);
}

async function readJson(exchange: Exchange): Promise<unknown> {
  const body = Buffer.from(await exchange.body());
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', 'the body is no JSON', { cause: error });
  }
}
