import { createHash } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import type { Index } from '../../edge/index/types.ts';
import { OPENED } from '../../edge/peers/channel-wire.ts';
import { HttpPeerClient } from '../../edge/peers/client.ts';
import type { ListenerLimits } from '../../edge/peers/listener.ts';
import { Members } from '../../edge/peers/members.ts';
import { PeerServer } from '../../edge/peers/server.ts';
import type { PieceAsk } from '../../edge/peers/types.ts';
import type { BlobStore, Lease, PieceBuffer, PieceClaim, StoredBlob } from '../../edge/store/types.ts';
import { Manifests } from '../../edge/transfer/manifests.ts';
import { OriginReader } from '../../edge/transfer/origin-reader.ts';
import { PoolService } from '../../edge/transfer/pool-service.ts';
import { TransferStats } from '../../edge/transfer/stats.ts';
import { Swarms } from '../../edge/transfer/swarms.ts';
import { WanBudget } from '../../edge/transfer/wan-budget.ts';
import { WanGate } from '../../edge/transfer/wan-gate.ts';
import { Bitmap } from '../../shared/bitmap.ts';
import { type Clock, systemClock } from '../../shared/clock.ts';
import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { type Digest, digestOf, parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import { layoutOf, type PieceLayout, pieceRange } from '../../shared/pieces.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import { EVERYTHING } from './everything-allowed.ts';
import { FakeContent } from './fake-content.ts';
import { memoryIndex } from './memory-index.ts';

export const SERVER_NODE = parseNodeName('server');
export const CLIENT_NODE = parseNodeName('client');
export const POOL = parsePoolName('pool-a');
export const NAME = { registry: 'reg.example', repository: 'lab/app' } as const;

/** A blob in memory that counts what is lent of it. All of it is held, and none of it can be written. */
export class HeldBlob implements StoredBlob {
  readonly key: Digest;
  readonly layout: PieceLayout;
  readonly have: Bitmap;
  readonly whole = true;
  readonly bytes: Uint8Array;
  lent = 0;
  lentTotal = 0;
  readonly #claims = new Map<number, PieceClaim>();

  constructor(bytes: Uint8Array, pieceSize?: number) {
    this.bytes = bytes;
    this.key = digestOf(bytes);
    this.layout = layoutOf(bytes.length, pieceSize);
    this.have = new Bitmap(this.layout.pieceCount);
    this.have.setAll();
  }

  piece(piece: number): Uint8Array {
    const { start, end } = pieceRange(this.layout, piece);
    return this.bytes.subarray(start, end);
  }

  claim(piece: number): PieceClaim {
    let claim = this.#claims.get(piece);
    if (claim === undefined) {
      const sha256 = createHash('sha256').update(this.piece(piece)).digest();
      claim = { sha256, reader: SERVER_NODE, verified: true };
      this.#claims.set(piece, claim);
    }
    return claim;
  }

  async lease(start: number, maxBytes: number): Promise<Lease> {
    const pieceEnd = (Math.floor(start / this.layout.pieceSize) + 1) * this.layout.pieceSize;
    this.lent++;
    this.lentTotal++;
    let released = false;
    return {
      bytes: this.bytes.subarray(start, Math.min(start + maxBytes, pieceEnd, this.layout.size)),
      release: () => {
        if (released) throw new Error('a lease was released twice');
        released = true;
        this.lent--;
      },
    };
  }

  write(): Promise<void> {
    return Promise.reject(new TidepoolError('INTERNAL', 'held already'));
  }

  verify(): Promise<'whole'> {
    return Promise.resolve('whole');
  }

  drop(): Promise<void> {
    return Promise.reject(new TidepoolError('INTERNAL', 'nothing is dropped here'));
  }

  /** An ask for one of its pieces. */
  ask(piece: number, more: Partial<PieceAsk> = {}): PieceAsk {
    return {
      key: this.key,
      layout: this.layout,
      piece,
      ...NAME,
      excluding: [],
      round: 0,
      priority: 0,
      ...more,
    };
  }
}

/** Hands out piece buffers and counts them. */
export class CountingBuffers {
  lent = 0;
  lentTotal = 0;

  async buffer(length: number): Promise<PieceBuffer> {
    this.lent++;
    this.lentTotal++;
    let released = false;
    return {
      bytes: Buffer.allocUnsafeSlow(length),
      release: () => {
        if (released) throw new Error('a buffer was released twice');
        released = true;
        this.lent--;
      },
    };
  }
}

export interface ServerFixture {
  readonly server: PeerServer;
  readonly service: PoolService;
  readonly members: Members;
  readonly content: FakeContent;
  readonly index: Index;
  readonly stats: TransferStats;
  readonly address: string;
  readonly port: number;
  stop(): Promise<void>;
}

export interface ServerInit {
  /** Plain without one. */
  readonly identity?: TlsIdentity;
  readonly limits?: ListenerLimits;
}

/** A node that holds some blobs and listens on loopback; it reaches neither origin nor neighbours. */
export async function peerServer(
  blobs: readonly StoredBlob[] = [],
  { identity, limits }: ServerInit = {},
): Promise<ServerFixture> {
  const clock = systemClock;
  const log = silentLogger();
  const index = memoryIndex();
  const stats = new TransferStats();
  const content = new FakeContent();
  const client = new HttpPeerClient(
    { store: new CountingBuffers(), clock },
    { node: SERVER_NODE, pool: POOL, address: '127.0.0.1:1' },
  );
  const members = new Members(
    { client, documents: index.documents, clock, log },
    { self: SERVER_NODE, pool: POOL, peers: [] },
  );
  const held = new Map(blobs.map((blob) => [blob.key, blob] as const));
  const nothing = (): Promise<never> => Promise.reject(new TidepoolError('ORIGIN_UNREACHABLE', 'cut off'));
  const store: BlobStore = {
    get: (key) => held.get(key),
    open: () => {
      throw new TidepoolError('STORE_FULL', 'nothing is stored here');
    },
    buffer: nothing,
    remove: nothing,
    flush: () => Promise.resolve(),
    usage: () => ({ bytes: 0, blobs: held.size }),
  };
  const origin = { blob: nothing, manifest: nothing, downSince: () => undefined };
  const gate = new WanGate({ clock }, { connections: 4 });
  const reader = new OriginReader(
    { origin, upstream: undefined, store, gate, stats, clock, log, random: () => 0.5 },
    { self: SERVER_NODE },
  );
  const swarms = new Swarms({ store, client, members, reader, gate, stats, clock, log });
  const budget = new WanBudget({ gate, client, members, clock, log });
  const manifests = new Manifests({
    ...EVERYTHING,
    index,
    store,
    origin,
    client,
    members,
    stats,
    clock,
    log,
  });
  const service = new PoolService(
    { ...EVERYTHING, store, members, manifests, swarms, budget, content, log },
    { address: '127.0.0.1:1', weight: () => 1 },
  );
  const server = new PeerServer(
    { service, stats, clock, log, identity },
    { host: '127.0.0.1', port: 0, ...(limits === undefined ? {} : { limits }) },
  );
  await server.start();
  const { port } = server.address();
  return {
    server,
    service,
    members,
    content,
    index,
    stats,
    port,
    address: `127.0.0.1:${port}`,
    stop: async () => {
      await server.stop();
      await client.close();
    },
  };
}

export interface ClientFixture {
  readonly client: HttpPeerClient;
  readonly buffers: CountingBuffers;
}

export function peerClient(
  init: { node?: string; pool?: string; clock?: Clock; identity?: TlsIdentity } = {},
): ClientFixture {
  const buffers = new CountingBuffers();
  const { node = CLIENT_NODE, pool = POOL, clock = systemClock, identity } = init;
  const client = new HttpPeerClient(
    { store: buffers, clock, identity },
    { node: parseNodeName(node), pool: parsePoolName(pool), address: '127.0.0.1:2' },
  );
  return { client, buffers };
}

/**
 * A server of raw bytes: `behave` is called with the connection for each question that comes, over channels too. There each
 * answer is given the number of the oldest question that has none, or of the last one.
 */
export class HostileServer {
  address = '';
  connections = 0;
  /** Asks that were withdrawn. */
  withdrawn = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(behave: (socket: Socket, head: string) => void) {
    this.#server = createServer((socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => this.#sockets.delete(socket));
      let text = '';
      const numbers: string[] = [];
      numberAnswers(socket, numbers);
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1');
        for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
          const head = text.slice(0, end + 4);
          text = text.slice(end + 4);
          const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
          text = text.slice(length);
          const number = /tidepool-ask: (\d+)/.exec(head)?.[1];
          if (number !== undefined && !head.startsWith('DELETE')) numbers.push(number);
          if (head.includes('upgrade: tidepool')) socket.write(OPENED);
          else if (head.startsWith('DELETE')) this.withdrawn++;
          else behave(socket, head);
        }
      });
    });
  }

  /** Connections that are open now. */
  get open(): number {
    return this.#sockets.size;
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('no address');
    this.address = `127.0.0.1:${address.port}`;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

/** Puts numbers of asks into what is written as answers. */
function numberAnswers(socket: Socket, numbers: string[]): void {
  let last: string | undefined;
  const numbered = (text: unknown): unknown => {
    if (typeof text !== 'string' || !text.startsWith('HTTP/1.1 ') || text === OPENED) return text;
    last = numbers.shift() ?? last;
    return last === undefined ? text : text.replace('\r\n', `\r\ntidepool-ask: ${last}\r\n`);
  };
  for (const name of ['write', 'end'] as const) {
    const plain = socket[name];
    const value = (text?: unknown, ...rest: unknown[]): unknown =>
      Reflect.apply(plain, socket, [numbered(text), ...rest]);
    Object.defineProperty(socket, name, { value, writable: true });
  }
}

/** Sends on and on, as fast as the other end takes it, until that hangs up. */
export function pour(socket: Socket, first: string, again: string): void {
  socket.write(first, 'latin1');
  const more = again.repeat(Math.ceil(65_536 / again.length));
  const go = (): void => {
    while (!socket.destroyed && socket.write(more, 'latin1'));
  };
  socket.on('drain', go);
  go();
}

/** The code of an error that has one, and a message with it; anything else is thrown on. */
export function codeOf(error: unknown): string {
  if (!isTidepoolError(error)) throw error;
  if (error.message === '') throw new Error(`${error.code} without a message`);
  return error.code;
}
