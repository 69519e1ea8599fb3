import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { refused } from '../../shared/trust/certificate.ts';
import { shownBy, TrustedSockets } from '../../shared/trust/tls.ts';
import type { NodePrincipal, TlsIdentity } from '../../shared/trust/types.ts';
import { MAX_CONNECTIONS_PER_NODE, MAX_HANDSHAKES, MAX_HANDSHAKES_PER_ADDRESS } from './constants.ts';
import { HandshakeQueue } from './handshake-queue.ts';
import type { Sender } from './wire/members.ts';

interface DoorComponents {
  readonly identity: TlsIdentity;
  readonly clock: Clock;
  readonly log: Logger;
}

interface DoorInit {
  readonly pool: PoolName;
  readonly maxHandshakes?: number;
  readonly maxHandshakesPerAddress?: number;
  readonly maxConnectionsPerNode?: number;
}

interface Guest {
  readonly principal: NodePrincipal;
  readonly shown: Uint8Array;
}

/**
 * Who may stand at the peer port: nodes of this pool, and of pools that name it as their upstream. Everyone else is shown
 * out before a word is read, and each request has to be that of whoever the connection's certificate names.
 */
export class Door {
  readonly #c: DoorComponents;
  readonly #pool: PoolName;
  readonly #maxPerNode: number;
  readonly #sockets: TrustedSockets;
  readonly #handshakes: HandshakeQueue;
  readonly #guests = new WeakMap<Socket, Guest>();
  readonly #perNode = new Map<NodeName, number>();
  #downstreams: ReadonlySet<string> = new Set();
  #refused = 0;

  constructor(components: DoorComponents, init: DoorInit) {
    this.#c = components;
    this.#pool = init.pool;
    this.#maxPerNode = init.maxConnectionsPerNode ?? MAX_CONNECTIONS_PER_NODE;
    this.#sockets = new TrustedSockets(components.identity);
    this.#handshakes = new HandshakeQueue({
      max: init.maxHandshakes ?? MAX_HANDSHAKES,
      maxPerAddress: init.maxHandshakesPerAddress ?? MAX_HANDSHAKES_PER_ADDRESS,
    });
  }

  /** Connections and requests that were shown out. */
  get refused(): number {
    return this.#refused + this.#handshakes.dropped;
  }

  /** Connections without a certificate so far. */
  get pending(): number {
    return this.#handshakes.size;
  }

  /** Pools that may ask for ranges, as those of a cache above them. */
  setDownstreams(pools: ReadonlySet<string>): void {
    this.#downstreams = pools;
  }

  /** A connection, before its handshake. */
  knock(socket: Socket): void {
    this.#handshakes.add(socket);
  }

  /** A connection whose handshake is done. False when it has been closed: it was nobody's who has business here. */
  admit(socket: TLSSocket): boolean {
    this.#handshakes.done(socket.remoteAddress, socket.remotePort);
    try {
      const principal = this.#sockets.admit(socket);
      if (principal.kind !== 'node') throw refused('it is the hub’s, which has no business with pieces');
      this.#mayEnter(principal);
      const open = this.#perNode.get(principal.node) ?? 0;
      if (open >= this.#maxPerNode) {
        throw new TidepoolError('OVERLOADED', `${principal.node} has ${open} connections open already`);
      }
      this.#perNode.set(principal.node, open + 1);
      socket.once('close', () => this.#left(principal.node));
      this.#guests.set(socket, { principal, shown: shownBy(socket) });
      return true;
    } catch (error) {
      this.#showOut(socket, error);
      return false;
    }
  }

  /**
   * The request's sender is whom the connection belongs to, and may ask this.
   * @param reading it is for a range, which other pools may ask for too
   * @throws TidepoolError CERTIFICATE_REFUSED, POOL_MISMATCH
   */
  check(socket: Socket, sender: Sender, reading: boolean): void {
    try {
      const guest = this.#guests.get(socket);
      if (guest === undefined) throw refused('none was shown');
      const { principal, shown } = guest;
      // Only what has ended since is judged again: a verdict costs more than a small answer.
      if (principal.notAfter <= this.#c.clock.now()) this.#c.identity.judge(shown);
      if (sender.node !== principal.node || sender.pool !== principal.pool) {
        throw refused(
          `it is ${principal.node}'s of pool ${principal.pool}, and the request says ${sender.node} of ${sender.pool}`,
        );
      }
      this.#mayEnter(principal);
      if (principal.pool !== this.#pool && !reading) {
        throw new TidepoolError(
          'POOL_MISMATCH',
          `this is pool ${this.#pool}; ${principal.pool} may ask it for ranges and for nothing else`,
        );
      }
    } catch (error) {
      this.#refused++;
      throw error;
    }
  }

  close(): void {
    this.#sockets.close();
  }

  #mayEnter({ node, pool }: NodePrincipal): void {
    if (pool === this.#pool || this.#downstreams.has(pool)) return;
    throw new TidepoolError(
      'POOL_MISMATCH',
      `this is pool ${this.#pool}; ${node} is of ${pool}, which does not name it as its upstream`,
    );
  }

  #left(node: NodeName): void {
    const open = (this.#perNode.get(node) ?? 1) - 1;
    if (open > 0) this.#perNode.set(node, open);
    else this.#perNode.delete(node);
  }

  #showOut(socket: Socket, error: unknown): void {
    this.#refused++;
    this.#c.log.debug(
      { address: socket.remoteAddress, why: describeError(error), refused: this.refused },
      'a connection is refused',
    );
    socket.destroy();
  }
}
