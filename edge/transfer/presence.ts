import { Bitmap } from '../../shared/bitmap.ts';
import type { Clock } from '../../shared/clock.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { JoinAnswer, JoinRequest, OriginWord } from '../peers/types.ts';
import type { StoredBlob } from '../store/types.ts';
import type { Flights } from './flights.ts';
import type { OriginTarget } from './origin-reader.ts';
import type { RangeBook } from './range-book.ts';
import type { SwarmView } from './swarm-view.ts';

interface PresenceInit {
  readonly stored: StoredBlob;
  readonly view: SwarmView;
  readonly target: OriginTarget;
  readonly flights: Pick<Flights, 'claimed'>;
  readonly ranges: Pick<RangeBook, 'takesRanges'>;
  readonly weight: number;
  readonly ranked: () => boolean;
  /** The blob only passes by here: nothing of it is anything that others could ask for. */
  readonly passing: boolean;
  /** A neighbour has announced itself. */
  readonly onJoined: (node: NodeName) => void;
}

/** This node among those on one blob: what it says of itself there, and what they say of themselves to it. */
export class Presence {
  readonly #clock: Clock;
  readonly #i: PresenceInit;

  constructor(components: { readonly clock: Clock }, init: PresenceInit) {
    this.#clock = components.clock;
    this.#i = init;
  }

  /** Packed: the pieces that others may ask this node for. */
  have(): Uint8Array {
    const { have } = this.#i.stored;
    return (this.#i.passing ? new Bitmap(have.size) : have).toBytes();
  }

  /** The pieces that this node fetches from the origin, for others too. */
  claimed(): number[] {
    return this.#i.passing ? [] : this.#i.flights.claimed();
  }

  /** What this node knows of the origin, and does there. */
  origin(): OriginWord | undefined {
    const { view, ranges, target } = this.#i;
    if (view.ownWord !== undefined) return view.ownWord;
    if (view.oneOwner) return 'whole';
    return ranges.takesRanges(target.registry) === true ? 'ranges' : undefined;
  }

  /** A neighbour says that it is on the blob, or looks. */
  joinedBy(node: NodeName, request: JoinRequest): JoinAnswer {
    const { view, stored, weight } = this.#i;
    view.learn(node, { ...request, whole: false }, 'announcement', this.#clock.mono());
    this.#i.onJoined(node);
    const { whole } = stored;
    const origin = this.origin();
    return {
      onBlob: this.#i.ranked(),
      weight,
      whole,
      have: whole ? new Uint8Array(0) : this.have(),
      claimed: this.claimed(),
      ...(request.others === true ? { others: view.announced() } : {}),
      ...(origin === undefined ? {} : { origin }),
    };
  }

  /** It announced itself before this node wanted the blob. */
  announcedEarlier(node: NodeName, request: JoinRequest, at: number): void {
    const { layout } = this.#i.stored;
    if (request.size !== layout.size || request.pieceSize !== layout.pieceSize) return;
    this.#i.view.learn(node, { ...request, whole: false }, 'announcement', at);
  }
}
