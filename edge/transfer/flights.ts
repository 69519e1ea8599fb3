import { Flight } from './flight.ts';
import { orderOf } from './wan-gate.ts';

interface FlightsInit {
  readonly fly: (flight: Flight) => Promise<void>;
  readonly onLanded: (piece: number) => void;
  readonly onCrashed: (piece: number, error: unknown) => void;
}

/** The pieces of one blob that are on their way to this node, one flight each. */
export class Flights {
  readonly #init: FlightsInit;
  readonly #flights = new Map<number, Flight>();

  constructor(init: FlightsInit) {
    this.#init = init;
  }

  get size(): number {
    return this.#flights.size;
  }

  get(piece: number): Flight | undefined {
    return this.#flights.get(piece);
  }

  /** @param mine this node reads the piece from the origin, whoever else may have it */
  launch(piece: number, priority: number, mine = false): void {
    const flight = new Flight(piece, priority, orderOf(priority, piece));
    flight.mine = mine;
    this.#flights.set(piece, flight);
    this.#init.fly(flight).then(
      () => {
        this.#flights.delete(piece);
        flight.land();
        this.#init.onLanded(piece);
      },
      (error: unknown) => {
        this.#flights.delete(piece);
        flight.crash(error);
        this.#init.onCrashed(piece, error);
      },
    );
  }

  /** Pieces that this node reads from the origin, or is about to. */
  claimed(): number[] {
    const pieces: number[] = [];
    for (const flight of this.#flights.values()) {
      if (flight.via === 'origin' || flight.mine) pieces.push(flight.piece);
    }
    return pieces;
  }

  /** Bytes that have come from the origin, of each piece that is being read there. */
  read(): Map<number, number> {
    const pieces = new Map<number, number>();
    for (const flight of this.#flights.values()) {
      if (flight.via === 'origin' && flight.bytes > 0) pieces.set(flight.piece, flight.bytes);
    }
    return pieces;
  }
}
