import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { type AnswerSink, Channel, type OpenAsk } from './channel.ts';
import { type ChannelAsk, encodeOpening } from './channel-wire.ts';
import { ASKS_PER_CHANNEL, CLIENT_KEEP_ALIVE_MS } from './constants.ts';
import type { Dialer } from './dialer.ts';
import type { Member } from './types.ts';
import { splitAddress } from './wire/members.ts';

/**
 * What must not wait behind what: an answer is read when there is room for it, and those after it wait. Of questions the
 * answers are always read; pieces wait for buffers, and for what a cap lets through of their kind.
 */
export type Lane = 'questions' | 'pieces' | 'prefetch';

interface Peer {
  /** Where the next ask goes. */
  current: Channel | undefined;
  readonly all: Set<Channel>;
}

/** Channels to neighbours, one a neighbour and lane, kept between asks; a bound of asks, past which they fail at once. */
export class Channels {
  readonly #clock: Clock;
  readonly #dialer: Dialer;
  readonly #sender: string;
  readonly #peers = new Map<string, Peer>();
  #closed = false;

  /** @param init.sender header lines that name this node */
  constructor(
    components: { readonly clock: Clock; readonly dialer: Dialer },
    init: { readonly sender: string },
  ) {
    this.#clock = components.clock;
    this.#dialer = components.dialer;
    this.#sender = init.sender;
  }

  /** Puts an ask to a member; the answer is a way to break it off. @throws TidepoolError OVERLOADED */
  send(member: Member, lane: Lane, ask: ChannelAsk, sink: AnswerSink): () => void {
    const open: OpenAsk = { ask, sink, again: false, breakOff: () => undefined };
    this.#send(member, lane, open);
    return () => open.breakOff();
  }

  close(): void {
    this.#closed = true;
    const error = new TidepoolError('ABORTED', 'this node stops');
    for (const peer of this.#peers.values()) for (const channel of [...peer.all]) channel.destroy(error);
    this.#peers.clear();
  }

  #send(member: Member, lane: Lane, open: OpenAsk): void {
    if (this.#closed) throw new TidepoolError('ABORTED', 'this node stops');
    const key = `${lane} ${member.node} ${member.address}`;
    const peer = this.#peers.get(key) ?? { current: undefined, all: new Set() };
    this.#peers.set(key, peer);
    let asks = 0;
    for (const { size } of peer.all) asks += size;
    if (asks >= ASKS_PER_CHANNEL) {
      throw new TidepoolError('OVERLOADED', `${asks} asks are out to ${member.address} already`);
    }
    const channel = this.#usable(peer) ?? this.#open(key, member, lane, peer);
    channel.send(open);
  }

  /** Undefined where there is none, or the neighbour may be about to close it. */
  #usable(peer: Peer): Channel | undefined {
    const { generation } = this.#dialer;
    const now = this.#clock.mono();
    for (const channel of [...peer.all]) {
      const isFresh = now - channel.idleSince < CLIENT_KEEP_ALIVE_MS;
      // Of before this node's new certificate: what is under way can end, and nothing new begins on it.
      if (channel === peer.current && channel.generation === generation && (channel.size > 0 || isFresh))
        continue;
      if (channel === peer.current) peer.current = undefined;
      if (channel.size === 0) channel.destroy(new Error('too old'));
    }
    return peer.current;
  }

  #open(key: string, member: Member, lane: Lane, peer: Peer): Channel {
    const { node, address } = member;
    const target = { ...splitAddress(address), expected: { kind: 'member', node } } as const;
    const channel: Channel = new Channel({
      generation: this.#dialer.generation,
      secure: this.#dialer.secure,
      opening: encodeOpening(address, this.#sender),
      now: () => this.#clock.mono(),
      dial: (onread, done) => this.#dialer.dial(target, onread, done),
      onClosed: (left) => {
        peer.all.delete(channel);
        if (peer.current === channel) peer.current = undefined;
        if (peer.all.size === 0) this.#peers.delete(key);
        for (const open of left) this.#again(member, lane, open);
      },
    });
    channel.idleSince = this.#clock.mono();
    // The last one that was given up may have taken the neighbour out of the table.
    this.#peers.set(key, peer);
    peer.all.add(channel);
    peer.current = channel;
    return channel;
  }

  #again(member: Member, lane: Lane, open: OpenAsk): void {
    open.again = true;
    try {
      this.#send(member, lane, open);
    } catch (error) {
      open.sink.onEnd(error);
    }
  }
}
