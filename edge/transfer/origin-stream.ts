import { raceAbort } from '../../shared/flow/single-flight.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { OriginWord } from '../peers/types.ts';
import type { StoredBlob } from '../store/types.ts';
import { STREAM_YIELDS_MS } from './constants.ts';
import type { DownloadComponents } from './download-components.ts';
import type { Flight } from './flight.ts';
import type { Flights } from './flights.ts';
import type { OriginTarget, ReadOptions } from './origin-reader.ts';
import type { SwarmView } from './swarm-view.ts';
import type { PrefetchPass } from './wan-gate.ts';

interface OriginStreamInit {
  readonly stored: StoredBlob;
  readonly view: SwarmView;
  readonly target: OriginTarget;
  readonly closing: AbortSignal;
  readonly flights: Pick<Flights, 'get'>;
  readonly onPiece: (piece: number) => void;
  readonly readOptions: (pass: PrefetchPass) => ReadOptions;
  /** Tells these members, or all, what this node does at the origin, and learns what they do; ends after a bounded time. */
  readonly tell: (nodes?: readonly NodeName[]) => Promise<void>;
}

/** Another member reads the blob for all. */
export class YieldedError extends Error {
  override readonly name = 'YieldedError';
}

/** Times that one member is told of a stream that it contests. */
const TELLINGS = 2;
const TELL_AGAIN_MS = 3_000;

/**
 * The read of a whole blob from an origin without ranges. There is to be one in the pool, and views differ while members
 * come: so before the first byte it is asked of all whether one reads already, or wants to and goes before this node. Of two
 * that ask at the same time at least one sees the other, and both go by the same order.
 */
export class OriginStream {
  readonly #c: DownloadComponents;
  readonly #i: OriginStreamInit;
  #running: Promise<void> | undefined;
  #yielding: AbortController = new AbortController();
  #excluding: ReadonlySet<NodeName> = new Set();
  #begunAt = 0;
  readonly #told = new Map<NodeName, number>();

  constructor(components: DownloadComponents, init: OriginStreamInit) {
    this.#c = components;
    this.#i = init;
  }

  /** One read serves every piece that is asked of this node. @throws YieldedError when another member reads the blob */
  async read(flight: Flight): Promise<void> {
    this.#running ??= this.#run(flight).finally(() => {
      this.#i.view.setOwnWord(undefined);
      this.#running = undefined;
    });
    await this.#running;
  }

  /** A member says that it reads, or wants to: with a read of its own under way here, one of the two ends. */
  heard(node: NodeName, word: OriginWord): void {
    const { view } = this.#i;
    if (view.ownWord !== 'reads' || (word !== 'reads' && word !== 'asks') || this.#excluding.has(node))
      return;
    if (view.precedes(node)) {
      // Also when it announced itself: the answer may come too late for it.
      const told = this.#told.get(node) ?? 0;
      if (told >= TELLINGS) return;
      this.#told.set(node, told + 1);
      void this.#i.tell([node]);
    } else if (word === 'reads' && this.#c.clock.mono() - this.#begunAt < STREAM_YIELDS_MS) {
      view.setOwnWord(undefined);
      this.#yielding.abort(new YieldedError(`${node} reads it`));
    }
  }

  async #run(flight: Flight): Promise<void> {
    const { view, closing } = this.#i;
    this.#excluding = flight.excluding;
    this.#yieldTo(view.rival(flight.excluding));
    view.setOwnWord('asks');
    await raceAbort(this.#i.tell(), closing);
    this.#yieldTo(view.rival(flight.excluding));
    view.setOwnWord('reads');
    void this.#i.tell();
    const controller = new AbortController();
    this.#yielding = controller;
    this.#begunAt = this.#c.clock.mono();
    this.#told.clear();
    const onClose = (): void => controller.abort(closing.reason);
    closing.addEventListener('abort', onClose, { once: true });
    // Once more for those who did not hear it, or whose answers were late.
    const cancel = this.#c.clock.after(TELL_AGAIN_MS, () => void this.#i.tell());
    try {
      await this.#stream(flight, controller.signal);
    } finally {
      cancel();
      closing.removeEventListener('abort', onClose);
    }
  }

  #yieldTo(node: NodeName | undefined): void {
    if (node === undefined) return;
    this.#i.view.setOwnWord(undefined);
    throw new YieldedError(`${node} reads it`);
  }

  async #stream(flight: Flight, signal: AbortSignal): Promise<void> {
    const { stored, target } = this.#i;
    const release = await this.#c.gate.slot(flight.order, signal);
    let pass: PrefetchPass | undefined;
    try {
      pass = this.#c.gate.pass(stored.layout.size, flight.priority);
      await this.#c.reader.stream(
        target,
        { ...this.#i.readOptions(pass), signal },
        // Also what a neighbour is asked for: the bytes come by here anyway, and passed over they would be read once more.
        (piece) => !stored.have.has(piece),
        async (piece, buffer, claim) => {
          await stored.write(piece, buffer, claim);
          this.#i.flights.get(piece)?.land();
          this.#i.onPiece(piece);
        },
      );
    } finally {
      pass?.end();
      release();
    }
  }
}
