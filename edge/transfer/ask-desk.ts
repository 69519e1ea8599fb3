import { describeError } from '../../shared/errors.ts';
import { raceAbort } from '../../shared/flow/single-flight.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Elsewhere, PieceAsk, Refusal } from '../peers/types.ts';
import type { StoredBlob } from '../store/types.ts';
import { FAN_OUT } from './constants.ts';
import type { PoolMembers } from './download-components.ts';
import type { Flights } from './flights.ts';
import type { SwarmView } from './swarm-view.ts';

/** What an ask is answered with; 'held' means that the piece is here now. */
export type AskAnswer = { readonly kind: 'held' } | Elsewhere | Refusal;

interface AskDeskInit {
  readonly stored: StoredBlob;
  readonly view: SwarmView;
  readonly flights: Pick<Flights, 'get' | 'launch'>;
  readonly ranked: () => boolean;
  /** Pending while this node still announces itself. */
  readonly joining: () => Promise<void> | undefined;
  /** Why the download is over, when it failed or was closed. */
  readonly ended: () => unknown;
}

/** Answers what neighbours ask one node for one blob. */
export class AskDesk {
  readonly #members: PoolMembers;
  readonly #i: AskDeskInit;
  /** Whom each piece has been given to while owners are few. */
  readonly #fed = new Map<number, NodeName[]>();
  #feedTurn = 0;

  constructor(components: { readonly members: PoolMembers }, init: AskDeskInit) {
    this.#members = components.members;
    this.#i = init;
  }

  /**
   * A neighbour's ask: held while this node fetches the piece from the origin, answered with whom to ask otherwise.
   * Never forwarded: a chain of asks could close into a circle.
   */
  async answer(from: NodeName, ask: PieceAsk, signal: AbortSignal): Promise<AskAnswer> {
    const { piece } = ask;
    // Before anything else: by the ranking for ranges this node would send the asker, or itself, to another owner.
    if (ask.rangeless === true) this.#i.view.setOneOwner();
    const joining = this.#i.joining();
    if (joining !== undefined) await raceAbort(joining, signal);
    const excluding = new Set(ask.excluding);
    for (;;) {
      if (this.#i.stored.have.has(piece)) return this.#feed(from, piece, excluding);
      const ended = this.#i.ended();
      if (ended !== undefined) return refused('NOT_ON_BLOB', ended);
      const flight = this.#i.flights.get(piece);
      if (flight === undefined) {
        const answer = this.#askUnstarted(from, piece, excluding, ask.priority);
        if (answer !== undefined) return answer;
        continue;
      }
      flight.priority = Math.min(flight.priority, ask.priority);
      // It could not fetch the piece itself and asks others now.
      if (flight.excluding.has(this.#members.self)) return refused('FETCH_FAILED', flight.error);
      // All pieces come by here: also those that this node had asked others for before it began to read.
      if (flight.via === 'peer' && !flight.mine && this.#i.view.ownWord !== undefined) flight.takeOver();
      if (flight.via === 'peer' && !flight.mine) {
        const holder = flight.from;
        const fedByVia = ask.via !== undefined && holder === ask.via;
        if (!fedByVia && holder !== undefined) {
          if (holder !== from && !excluding.has(holder))
            return { kind: 'elsewhere', node: holder, fed: false };
          // Each asks the other, or the asker has given up whom we ask: the first in rank of the two goes to the origin.
          if (!this.#before(piece, from, excluding)) return { kind: 'elsewhere', node: from, fed: false };
          flight.takeOver();
        }
      }
      try {
        await raceAbort(flight.held, signal);
      } catch (error) {
        signal.throwIfAborted();
        return refused('FETCH_FAILED', error);
      }
    }
  }

  /** Serves the piece, or sends the asker on to one that is being fed, where owners are few for many. */
  #feed(from: NodeName, piece: number, excluding: ReadonlySet<NodeName>): AskAnswer {
    if (!this.#i.view.fanOut) return { kind: 'held' };
    const fed = this.#fed.get(piece) ?? [];
    const others = fed.filter((node) => node !== from && !excluding.has(node) && this.#members.isLive(node));
    if (excluding.size > 0 || others.length < FAN_OUT) {
      if (!fed.includes(from)) this.#fed.set(piece, [...fed, from].slice(-FAN_OUT));
      return { kind: 'held' };
    }
    this.#feedTurn++;
    const node = others[this.#feedTurn % others.length];
    return node === undefined ? { kind: 'held' } : { kind: 'elsewhere', node, fed: true };
  }

  /** Nothing is under way for the piece: who shall fetch it? Undefined when this node has just begun to. */
  #askUnstarted(
    from: NodeName,
    piece: number,
    excluding: Set<NodeName>,
    priority: number,
  ): AskAnswer | undefined {
    const avoid = new Set(excluding).add(from);
    const { view } = this.#i;
    const reading = view.ownWord !== undefined;
    const holder =
      view.holder(piece, avoid) ??
      (reading ? undefined : (view.streamer(avoid) ?? view.claimant(piece, avoid)));
    if (holder !== undefined) return { kind: 'elsewhere', node: holder, fed: false };
    const { self } = this.#members;
    const first = reading ? self : view.ranking(piece).find((node) => !excluding.has(node));
    if (first === undefined || (!this.#i.ranked() && first !== self))
      return refused('NOT_ON_BLOB', 'not on this blob');
    if (first !== self) return { kind: 'elsewhere', node: first, fed: false };
    this.#i.flights.launch(piece, priority, true);
    return undefined;
  }

  #before(piece: number, other: NodeName, excluding: ReadonlySet<NodeName>): boolean {
    for (const node of this.#i.view.ranking(piece)) {
      if (excluding.has(node)) continue;
      if (node === this.#members.self) return true;
      if (node === other) return false;
    }
    return true;
  }
}

function refused(code: string, why: unknown): Refusal {
  return { kind: 'refused', code, message: describeError(why) };
}
