import net from 'node:net';
import tls from 'node:tls';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { serverTls, TrustedSockets } from '../../shared/trust/tls.ts';
import type { Principal, TlsIdentity } from '../../shared/trust/types.ts';
import { Complaints } from './complaints.ts';

const HANDSHAKE_MS = 10_000;
/** Connections that have not shown a certificate yet: a handshake costs a stranger less than it costs us. */
const MAX_PENDING = 1_024;
/** A whole site may stand behind one address, and a load balancer may put all sites there. */
const MAX_PENDING_PER_ADDRESS = 512;

export interface FrontInit {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly maxConnections: number;
  readonly maxPending?: number;
  readonly maxPendingPerAddress?: number;
  readonly handshakeMs?: number;
}

/**
 * The broker's door. With an identity nobody gets past it without a certificate that is good now; what is revoked later
 * loses its connection. A node has one connection: the newest.
 */
export class Front {
  readonly #log: Logger;
  readonly #identity: TlsIdentity | undefined;
  readonly #init: FrontInit;
  readonly #onClient: (socket: net.Socket, principal: Principal | undefined) => void;
  readonly #sockets = new Set<net.Socket>();
  /** By address. */
  readonly #pending = new Map<string, number>();
  /** By both ends of the connection: TLS wraps a socket into another, and does not say which. */
  readonly #knocking = new Map<string, () => void>();
  readonly #byNode = new Map<NodeName, tls.TLSSocket>();
  readonly #complaints: Complaints;
  readonly #server: net.Server;
  #secure: tls.Server | undefined;
  #trusted: TrustedSockets | undefined;
  #unsubscribe: (() => void) | undefined;
  #pendingCount = 0;

  constructor(
    components: { readonly clock: Clock; readonly log: Logger; readonly identity?: TlsIdentity | undefined },
    init: FrontInit,
    onClient: (socket: net.Socket, principal: Principal | undefined) => void,
  ) {
    this.#log = components.log;
    this.#identity = components.identity;
    this.#init = init;
    this.#onClient = onClient;
    this.#complaints = new Complaints(components, 'a connection to the broker is refused');
    this.#server = net.createServer((socket) => this.#take(socket));
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** Connections that were not let in. */
  get refused(): number {
    return this.#complaints.total;
  }

  /** Where it listens, `host:port`. */
  get address(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') return '';
    return address.family === 'IPv6'
      ? `[${address.address}]:${address.port}`
      : `${address.address}:${address.port}`;
  }

  /** @throws the system's error when the address cannot be bound */
  listen(): Promise<void> {
    if (this.#identity !== undefined) this.#openTls(this.#identity);
    const server = this.#server;
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: this.#init.host, port: this.#init.port }, () => {
        server.off('error', reject);
        server.on('error', (error) => this.#log.error({ err: error }, 'broker socket failed'));
        resolve();
      });
    });
  }

  /** Lets nobody in any more; the answer resolves when everybody has gone. */
  close(): Promise<void> {
    this.#unsubscribe?.();
    this.#trusted?.close();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  dropAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #openTls(identity: TlsIdentity): void {
    const trusted = new TrustedSockets(identity);
    const secure = tls.createServer({
      ...serverTls(identity),
      handshakeTimeout: this.#init.handshakeMs ?? HANDSHAKE_MS,
    });
    secure.on('secureConnection', (socket) => this.#judge(socket, trusted));
    secure.on('tlsClientError', (error, socket) => {
      this.#complaints.tell({ from: socket.remoteAddress }, error);
      socket.destroy();
    });
    this.#unsubscribe = identity.onChange(() => secure.setSecureContext(serverTls(identity)));
    this.#trusted = trusted;
    this.#secure = secure;
  }

  #take(socket: net.Socket): void {
    const { maxConnections } = this.#init;
    socket.on('error', () => socket.destroy());
    if (this.#sockets.size >= maxConnections) {
      this.#refuse(socket, `the broker is full: ${maxConnections} connections`);
      return;
    }
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.setNoDelay(true);
    if (this.#secure === undefined) {
      this.#onClient(socket, undefined);
      return;
    }
    if (!this.#mayKnock(socket)) {
      this.#refuse(socket, 'too many connections without a certificate yet');
      return;
    }
    this.#secure.emit('connection', socket);
  }

  /** Counts the socket until its handshake is done, or it is gone. */
  #mayKnock(socket: net.Socket): boolean {
    const from = socket.remoteAddress ?? '';
    const ofAddress = this.#pending.get(from) ?? 0;
    const { maxPending = MAX_PENDING, maxPendingPerAddress = MAX_PENDING_PER_ADDRESS } = this.#init;
    if (this.#pendingCount >= maxPending || ofAddress >= maxPendingPerAddress) return false;
    this.#pendingCount++;
    this.#pending.set(from, ofAddress + 1);
    let counted = true;
    const done = (): void => {
      if (!counted) return;
      counted = false;
      this.#pendingCount--;
      const left = (this.#pending.get(from) ?? 1) - 1;
      if (left > 0) this.#pending.set(from, left);
      else this.#pending.delete(from);
    };
    const ends = endsOf(socket);
    this.#knocking.set(ends, done);
    socket.once('close', () => {
      done();
      if (this.#knocking.get(ends) === done) this.#knocking.delete(ends);
    });
    return true;
  }

  #judge(socket: tls.TLSSocket, trusted: TrustedSockets): void {
    socket.on('error', () => socket.destroy());
    this.#knocking.get(endsOf(socket))?.();
    let principal: Principal;
    try {
      principal = trusted.admit(socket);
    } catch (error) {
      this.#refuse(socket, error);
      return;
    }
    if (principal.lapsed) {
      this.#refuse(socket, 'its certificate has ended');
      return;
    }
    if (principal.kind === 'node') this.#replace(principal.node, socket);
    this.#onClient(socket, principal);
  }

  #replace(node: NodeName, socket: tls.TLSSocket): void {
    const before = this.#byNode.get(node);
    this.#byNode.set(node, socket);
    socket.once('close', () => {
      if (this.#byNode.get(node) === socket) this.#byNode.delete(node);
    });
    before?.destroy(new TidepoolError('ABORTED', `${node} has connected anew`));
  }

  #refuse(socket: net.Socket, reason: unknown): void {
    this.#complaints.tell({ from: socket.remoteAddress }, reason);
    socket.destroy();
  }
}

function endsOf({ remoteAddress, remotePort, localAddress }: net.Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}
