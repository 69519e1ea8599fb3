import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { CLIENT_KEEP_ALIVE_MS, CONNECTIONS_PER_PEER } from './constants.ts';
import { type AnswerSink, PieceConnection } from './piece-connection.ts';

interface Peer {
  readonly all: Set<PieceConnection>;
  readonly idle: PieceConnection[];
}

/** Connections to neighbours, kept between asks; a bound for each neighbour, past which asks fail at once. */
export class PieceConnections {
  readonly #clock: Clock;
  readonly #localAddress: string | undefined;
  readonly #peers = new Map<string, Peer>();

  constructor(components: { clock: Clock }, init: { localAddress?: string | undefined } = {}) {
    this.#clock = components.clock;
    this.#localAddress = init.localAddress;
  }

  /** Sends a request to `host:port`; the answer is a way to break it off. */
  send(address: string, request: string, sink: AnswerSink): (error: Error) => void {
    const peer = this.#peers.get(address) ?? { all: new Set(), idle: [] };
    this.#peers.set(address, peer);
    const connection = this.#idle(peer) ?? this.#open(address, peer);
    connection.send(request, sink);
    return (error) => connection.destroy(error);
  }

  close(): void {
    for (const peer of this.#peers.values()) for (const connection of [...peer.all]) connection.destroy();
    this.#peers.clear();
  }

  /** The one used last; those that the neighbour may be about to close are given up. */
  #idle(peer: Peer): PieceConnection | undefined {
    for (let last = peer.idle.pop(); last !== undefined; last = peer.idle.pop()) {
      if (last.idle && this.#clock.mono() - last.idleSince < CLIENT_KEEP_ALIVE_MS) return last;
      last.destroy();
    }
    return undefined;
  }

  #open(address: string, peer: Peer): PieceConnection {
    if (peer.all.size >= CONNECTIONS_PER_PEER) {
      throw new TidepoolError('OVERLOADED', `${CONNECTIONS_PER_PEER} asks are out to ${address} already`);
    }
    const colon = address.lastIndexOf(':');
    const connection = new PieceConnection({
      host: address.slice(0, colon).replace(/^\[|\]$/g, ''),
      port: Number(address.slice(colon + 1)),
      localAddress: this.#localAddress,
      onIdle: (idle) => {
        idle.idleSince = this.#clock.mono();
        peer.idle.push(idle);
      },
      onClosed: (closed) => {
        peer.all.delete(closed);
        const index = peer.idle.indexOf(closed);
        if (index >= 0) peer.idle.splice(index, 1);
        if (peer.all.size === 0) this.#peers.delete(address);
      },
    });
    peer.all.add(connection);
    return connection;
  }
}
