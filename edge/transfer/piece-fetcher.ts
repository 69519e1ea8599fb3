import { describeError, isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { Slots } from '../../shared/flow/queue.ts';
import type { BlobKey, NodeName } from '../../shared/ids.ts';
import { pieceLength } from '../../shared/pieces.ts';
import type { Credentials } from '../origin/types.ts';
import type { OriginWord, PieceAnswer, PieceAsk, Refusal } from '../peers/types.ts';
import type { StoredBlob } from '../store/types.ts';
import { MAX_HOPS } from './constants.ts';
import type { DownloadComponents } from './download-components.ts';
import type { Flight } from './flight.ts';
import type { Flights } from './flights.ts';
import { HedgeWatch } from './hedge.ts';
import { type OriginTarget, RangelessError, type ReadOptions } from './origin-reader.ts';
import { OriginStream, YieldedError } from './origin-stream.ts';
import { PieceTimes } from './piece-times.ts';
import type { RangeBook } from './range-book.ts';
import type { SwarmView } from './swarm-view.ts';
import { PRIORITY, type TransferCounts } from './types.ts';
import { orderOf, type PrefetchPass } from './wan-gate.ts';
import { wanDepth } from './window.ts';

interface PieceFetcherInit {
  readonly key: BlobKey;
  readonly stored: StoredBlob;
  readonly view: SwarmView;
  readonly target: OriginTarget;
  readonly counts: TransferCounts;
  /** Aborts when the download ends. */
  readonly closing: AbortSignal;
  readonly credentials: () => Credentials | undefined;
  readonly ranges: RangeBook;
  readonly flights: Pick<Flights, 'get'>;
  /** Tells these members, or all, what this node knows of the origin and does there. */
  readonly tell: (nodes?: readonly NodeName[]) => Promise<void>;
  /** A piece has come that came along with others. */
  readonly onPiece: (piece: number) => void;
}

/** Gets the pieces of one blob, each from whoever has it or shall fetch it, until it is here or everyone has been tried. */
export class PieceFetcher {
  /** All bytes read from the origin for the blob. */
  originBytes = 0;
  /** When bytes of the blob last came in here, and when they last moved anywhere on their way here, monotonic ms. */
  lastMoved: number | undefined;
  lastAlive: number | undefined;
  readonly #c: DownloadComponents;
  readonly #i: PieceFetcherInit;
  /** By certificate, of the pieces that neighbours gave; what a claim says of itself proves nothing. */
  readonly #senders = new Map<number, NodeName>();
  readonly #times = new PieceTimes();
  readonly #depth = new Slots(wanDepth(1));
  readonly #stream: OriginStream;
  /** Asks that are out. */
  readonly #turns = new Set<AbortController>();

  constructor(components: DownloadComponents, init: PieceFetcherInit) {
    this.#c = components;
    this.#i = init;
    const { closing } = init;
    closing.addEventListener(
      'abort',
      () => {
        for (const turn of this.#turns) turn.abort(closing.reason);
      },
      { once: true },
    );
    this.#stream = new OriginStream(components, {
      ...init,
      readOptions: (pass) => this.#readOptions(undefined, pass),
    });
  }

  /** A member said what it knows of the origin, and does there. */
  heard(node: NodeName, word: OriginWord): void {
    const { ranges, target, view } = this.#i;
    if (word === 'ranges') {
      // Only where nothing is known: this node may have found otherwise since.
      if (ranges.takesRanges(target.registry) === undefined) ranges.learn(target.registry, true);
      return;
    }
    ranges.learn(target.registry, false);
    view.setOneOwner();
    this.#stream.heard(node, word);
  }

  /** How many share the WAN work decides how much each has under way. */
  setOwners(owners: number): void {
    this.#depth.setLimit(wanDepth(owners));
  }

  /** Which neighbour gave this node a piece; undefined for what it read itself, or had. */
  senderOf(piece: number): NodeName | undefined {
    return this.#senders.get(piece);
  }

  /** Gets one piece, from whoever has it or shall fetch it, until it is here or everyone has been tried. */
  async fly(flight: Flight): Promise<void> {
    const { piece } = flight;
    let hint: { node: NodeName; fed: boolean; by: NodeName } | undefined;
    let hops = 0;
    let reset = 0;
    let heldBack = false;
    while (!this.#i.stored.have.has(piece)) {
      this.#i.closing.throwIfAborted();
      if (flight.mine || hint?.node === this.#c.members.self) {
        flight.mine = false;
        hint = undefined;
        if (await this.#fromOrigin(flight)) return;
        heldBack ||= isHeldBack(flight.error);
        continue;
      }
      const choice =
        hint !== undefined
          ? ({ kind: 'claimant', node: hint.node } as const)
          : this.#i.view.choose(piece, flight.excluding);
      if (choice === undefined) {
        if (heldBack && flight.priority < PRIORITY.prefetch) {
          // As a prefetch it had to wait; since then somebody has come who cannot.
          heldBack = false;
          flight.excluding.delete(this.#c.members.self);
          flight.mine = true;
          continue;
        }
        throw (
          flight.error ??
          new TidepoolError('BLOB_UNKNOWN', `nobody can give piece ${piece} of ${this.#i.key}`)
        );
      }
      if (choice.kind === 'self') {
        if (await this.#fromOrigin(flight)) return;
        heldBack ||= isHeldBack(flight.error);
        continue;
      }
      const { node } = choice;
      const via = hint?.fed === true ? hint.by : undefined;
      hint = undefined;
      try {
        const answer = await this.#fromPeer(flight, node, via, choice.kind !== 'holder' && via === undefined);
        if (answer === undefined) continue; // taken over, or the other way round was quicker
        if (answer.kind === 'bytes') return;
        if (answer.kind === 'elsewhere' && answer.node !== node && ++hops <= MAX_HOPS) {
          if (
            answer.node === this.#c.members.self ||
            (this.#c.members.isLive(answer.node) && !flight.excluding.has(answer.node))
          ) {
            hint = { node: answer.node, fed: answer.fed, by: node };
            continue;
          }
        }
        this.#i.view.unlearnPiece(node, piece);
        if (answer.kind === 'refused' && (answer.code === 'NOT_ON_BLOB' || answer.code === 'DENIED'))
          this.#i.view.unrank(node);
        if (answer.kind === 'refused')
          flight.error ??= new TidepoolError('PIECE_REFUSED', `${node}: ${answer.message}`);
        flight.excluding.add(node);
      } catch (error) {
        this.#i.closing.throwIfAborted();
        if (isTidepoolError(error, 'PIECE_CORRUPT')) {
          this.#c.stats.corruptPieces++;
          this.#c.members.setAside(node, describeError(error));
          flight.excluding.add(node);
        } else if (isTidepoolError(error, 'PEER_UNREACHABLE') && reset++ === 0) {
          // A kept connection may have been closed under the ask; only a second failure says something of the node.
        } else if (isTidepoolError(error, 'OVERLOADED')) {
          flight.excluding.add(node);
        } else {
          this.#c.members.suspect(node, error);
          flight.excluding.add(node);
        }
        flight.error ??= error;
      }
    }
  }

  /** Asks one neighbour; undefined when the flight was turned to another way meanwhile. */
  async #fromPeer(
    flight: Flight,
    node: NodeName,
    via: NodeName | undefined,
    hedged: boolean,
  ): Promise<PieceAnswer | undefined> {
    const member = this.#c.members.get(node);
    if (member === undefined) return refused('NO_MEMBER', `${node} is no member`);
    flight.via = 'peer';
    flight.from = node;
    const turn = new AbortController();
    flight.turn = turn;
    this.#turns.add(turn);
    const answered = this.#i.view.asked(node);
    let received = 0;
    let begunAt: number | undefined;
    const hedge = new HedgeWatch(this.#c, {
      member,
      key: this.#i.key,
      target: this.#i.target,
      piece: flight.piece,
      hedged,
      received: () => received,
      lastMovedElsewhere: () => this.lastMoved,
      medianSince: (at) => this.#times.medianSince(at),
      onMoved: () => {
        this.lastAlive = this.#c.clock.mono();
      },
      onStill: () => {
        this.#c.stats.hedges++;
        flight.excluding.add(node);
        turn.abort(new Error('the owner stands still'));
      },
      onGone: (error) => {
        this.#c.members.suspect(node, error);
        flight.excluding.add(node);
        turn.abort(error);
      },
    });
    try {
      const ask: PieceAsk = {
        key: this.#i.key,
        layout: this.#i.stored.layout,
        piece: flight.piece,
        registry: this.#i.target.registry,
        repository: this.#i.target.repository,
        excluding: [...flight.excluding],
        ...(via === undefined ? {} : { via }),
        round: 0,
        ...(this.#i.view.oneOwner ? { rangeless: true } : {}),
        priority: flight.priority,
      };
      const answer = await this.#c.client.piece(member, ask, turn.signal, (count) => {
        received += count;
        begunAt ??= this.#c.clock.mono();
      });
      if (answer.kind === 'bytes') {
        const now = this.#c.clock.mono();
        this.#times.add(begunAt ?? now, now);
        await this.#i.stored.write(flight.piece, answer.buffer, answer.claim);
        this.#senders.set(flight.piece, node);
        const length = pieceLength(this.#i.stored.layout, flight.piece);
        this.#i.counts.peerBytes += length;
        this.#c.stats.peerBytes += length;
        this.#c.stats.peerPieces++;
        this.#i.view.learnPiece(node, flight.piece);
        this.lastMoved = this.#c.clock.mono();
      }
      return answer;
    } catch (error) {
      if (turn.signal.aborted && !this.#i.closing.aborted) return undefined;
      throw error;
    } finally {
      hedge.stop();
      answered();
      this.#turns.delete(turn);
    }
  }

  /** True when the piece is here; false when this node cannot fetch it, and others are to be tried. */
  async #fromOrigin(flight: Flight): Promise<boolean> {
    flight.via = 'origin';
    flight.from = undefined;
    try {
      if (this.#i.view.oneOwner) await this.#fromStream(flight);
      else await this.#fromRange(flight);
      return true;
    } catch (error) {
      this.#i.closing.throwIfAborted();
      if (error instanceof YieldedError) return false;
      if (error instanceof RangelessError) {
        this.#c.log.info(
          { key: this.#i.key, registry: this.#i.target.registry },
          'origin takes no ranges: one owner reads from start to end',
        );
        this.#i.ranges.learn(this.#i.target.registry, false);
        this.#i.view.setOneOwner();
        return false;
      }
      this.#c.log.info(
        { key: this.#i.key, piece: flight.piece, why: describeError(error) },
        'cannot fetch from the origin',
      );
      flight.error = error;
      flight.excluding.add(this.#c.members.self);
      flight.giveUp(error);
      return false;
    }
  }

  async #fromRange(flight: Flight): Promise<void> {
    const signal = this.#i.closing;
    if (this.#i.ranges.takesRanges(this.#i.target.registry) === undefined) await this.#probe(flight.piece);
    const releaseDepth = await this.#depth.acquire({ priority: flight.order, signal });
    let releaseSlot: (() => void) | undefined;
    let pass: PrefetchPass | undefined;
    try {
      releaseSlot = await this.#c.gate.slot(flight.order, signal);
      if (this.#i.stored.have.has(flight.piece)) return;
      if (this.#i.view.oneOwner) throw new RangelessError('the origin takes no ranges');
      pass = this.#c.gate.pass(pieceLength(this.#i.stored.layout, flight.piece), flight.priority);
      const { buffer, claim } = await this.#c.reader.piece(
        this.#i.target,
        flight.piece,
        this.#readOptions(flight, pass),
      );
      await this.#i.stored.write(flight.piece, buffer, claim);
    } finally {
      pass?.end();
      releaseSlot?.();
      releaseDepth();
    }
  }

  /**
   * Where it is not known whether the registry takes ranges, the owner of the first piece asks for it at once, and owners of
   * others wait for what it finds: each of them would be sent the whole blob.
   */
  async #probe(piece: number): Promise<void> {
    const { stored, view, ranges, target, closing } = this.#i;
    const { leading } = stored.have;
    const order = view.ranking(leading);
    const { self } = this.#c.members;
    const mine = order[0] === self && this.#i.flights.get(leading) === undefined;
    if (piece === leading || mine || !order.includes(self)) ranges.probe(target.registry);
    else await ranges.turn(target.registry, closing);
  }

  /** One read of the whole blob serves every piece that is asked of this node. */
  async #fromStream(flight: Flight): Promise<void> {
    await Promise.race([this.#stream.read(flight), flight.done]);
    if (!flight.landed && !this.#i.stored.have.has(flight.piece))
      throw new TidepoolError('ORIGIN_ERROR', 'the origin ended the blob early');
  }

  #readOptions(flight: Flight | undefined, pass?: PrefetchPass): ReadOptions {
    return {
      credentials: this.#i.credentials(),
      priority: flight?.priority ?? 0,
      signal: this.#i.closing,
      lastProgress: () => this.lastMoved,
      onRanged: (ranged) => {
        // Others wait for it.
        if (this.#i.ranges.learn(this.#i.target.registry, ranged) && ranged)
          void this.#i.tell(this.#i.view.rankedNodes());
      },
      onBytes: (count) => {
        if (flight !== undefined) flight.bytes += count;
        pass?.spend(count);
        this.originBytes += count;
        this.#i.counts.wanBytes += count;
        this.lastMoved = this.#c.clock.mono();
      },
    };
  }

  /** Reads one piece from the origin again, whatever is held: the mender compares the two. */
  async readAgain(piece: number) {
    const release = await this.#c.gate.slot(orderOf(0, piece), this.#i.closing);
    try {
      return await this.#c.reader.piece(this.#i.target, piece, this.#readOptions(undefined));
    } finally {
      release();
    }
  }
}

/** The guard of prefetches said no, not the origin. */
function isHeldBack(error: unknown): boolean {
  return isTidepoolError(error, 'OVERLOADED') && error.details.prefetch === true;
}

function refused(code: string, why: unknown): Refusal {
  return { kind: 'refused', code, message: describeError(why) };
}
