import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { CLIENT_KEEP_ALIVE_MS, CONNECTIONS_PER_PEER } from './constants.ts';
import type { Dialer } from './dialer.ts';
import { type AnswerSink, PieceConnection } from './piece-connection.ts';
import type { Member } from './types.ts';
import { splitAddress } from './wire.ts';

interface Peer {
  readonly all: Set<PieceConnection>;
  readonly idle: PieceConnection[];
}

/** Connections to neighbours, kept between asks; a bound for each neighbour, past which asks fail at once. */
export class PieceConnections {
  readonly #clock: Clock;
  readonly #dialer: Dialer;
  readonly #peers = new Map<string, Peer>();

  constructor(components: { readonly clock: Clock; readonly dialer: Dialer }) {
    this.#clock = components.clock;
    this.#dialer = components.dialer;
  }

  /** Sends a request to a member; the answer is a way to break it off. */
  send(member: Member, request: string, sink: AnswerSink): (error: Error) => void {
    const key = `${member.node} ${member.address}`;
    const peer = this.#peers.get(key) ?? { all: new Set(), idle: [] };
    this.#peers.set(key, peer);
    const connection = this.#idle(peer) ?? this.#open(key, member, peer);
    connection.send(request, sink);
    return (error) => connection.destroy(error);
  }

  close(): void {
    for (const peer of this.#peers.values()) for (const connection of [...peer.all]) connection.destroy();
    this.#peers.clear();
  }

  /** The one used last; those that the neighbour may be about to close are given up. */
  #idle(peer: Peer): PieceConnection | undefined {
    const { generation } = this.#dialer;
    for (let last = peer.idle.pop(); last !== undefined; last = peer.idle.pop()) {
      const fresh = this.#clock.mono() - last.idleSince < CLIENT_KEEP_ALIVE_MS;
      // Of before this node's new certificate: what was under way could end, and nothing new begins on it.
      if (last.idle && fresh && last.generation === generation) return last;
      last.destroy();
    }
    return undefined;
  }

  #open(key: string, { node, address }: Member, peer: Peer): PieceConnection {
    if (peer.all.size >= CONNECTIONS_PER_PEER) {
      throw new TidepoolError('OVERLOADED', `${CONNECTIONS_PER_PEER} asks are out to ${address} already`);
    }
    const target = { ...splitAddress(address), expected: { kind: 'member', node } } as const;
    const connection = new PieceConnection({
      generation: this.#dialer.generation,
      secure: this.#dialer.secure,
      dial: (onread, done) => this.#dialer.dial(target, onread, done),
      onIdle: (idle) => {
        idle.idleSince = this.#clock.mono();
        peer.idle.push(idle);
      },
      onClosed: (closed) => {
        peer.all.delete(closed);
        const index = peer.idle.indexOf(closed);
        if (index >= 0) peer.idle.splice(index, 1);
        if (peer.all.size === 0) this.#peers.delete(key);
      },
    });
    peer.all.add(connection);
    return connection;
  }
}
