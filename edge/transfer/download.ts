import { setMaxListeners } from 'node:events';
import { Bitmap } from '../../shared/bitmap.ts';
import { type Clock, every } from '../../shared/clock.ts';
import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { raceAbort } from '../../shared/flow/single-flight.ts';
import type { BlobKey, Digest, NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { pieceLength } from '../../shared/pieces.ts';
import type { Credentials } from '../origin/types.ts';
import type { Members } from '../peers/members.ts';
import type {
  JoinAnswer,
  JoinRequest,
  OriginWord,
  PeerClient,
  PieceAsk,
  ProgressAnswer,
} from '../peers/types.ts';
import type { BlobStore, StoredBlob } from '../store/types.ts';
import { type AskAnswer, AskDesk } from './ask-desk.ts';
import type { Blame } from './blame.ts';
import { HEDGE_POLL_MS, WINDOW_PATIENCE_MS } from './constants.ts';
import { Flight, withResolvers } from './flight.ts';
import { type Interest, wantedPieces } from './interest.ts';
import { Joiner } from './joiner.ts';
import { Mender } from './mend.ts';
import type { OriginReader, OriginTarget } from './origin-reader.ts';
import { PieceFetcher } from './piece-fetcher.ts';
import type { RangeBook } from './range-book.ts';
import type { TransferStats } from './stats.ts';
import { SwarmView } from './swarm-view.ts';
import type { TransferCounts } from './types.ts';
import { orderOf, type WanGate } from './wan-gate.ts';

export type PoolMembers = Pick<
  Members,
  'self' | 'live' | 'get' | 'isLive' | 'version' | 'suspect' | 'setAside'
>;

export interface DownloadComponents {
  readonly store: BlobStore;
  readonly client: PeerClient;
  readonly members: PoolMembers;
  readonly reader: OriginReader;
  readonly gate: WanGate;
  readonly stats: TransferStats;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface DownloadInit {
  readonly registry: string;
  readonly repository: string;
  readonly key: BlobKey;
  readonly size: number;
  readonly gateways: ReadonlySet<string>;
  readonly weight: number;
  /** Where there is no room for the blob: its pieces come here, and no neighbour is told of them. */
  readonly passing?: StoredBlob | undefined;
  readonly ranges: RangeBook;
  readonly blame: Blame;
  /** This blob's window now, of all that the node has in progress. */
  readonly window: () => number;
  /** Called when pieces have come in: other blobs' windows may have opened. */
  readonly onProgress: () => void;
}

type State = 'idle' | 'joining' | 'running' | 'verifying' | 'whole' | 'failed' | 'closed';

/**
 * One blob on its way to this node, and this node's part in its swarm. It decides for each piece whom to ask, holds the
 * asks of others for what it fetches itself, and ends when the blob's digest is verified.
 */
export class Download {
  readonly key: BlobKey;
  readonly stored: StoredBlob;
  readonly view: SwarmView;
  readonly counts: TransferCounts = { wanBytes: 0, peerBytes: 0, localBytes: 0 };
  readonly target: OriginTarget;
  readonly startedAt: number;
  credentials: Credentials | undefined;
  readonly #c: DownloadComponents;
  readonly #init: DownloadInit;
  readonly #flights = new Map<number, Flight>();
  readonly #interests = new Set<Interest>();
  readonly #fetcher: PieceFetcher;
  readonly #joiner: Joiner;
  readonly #desk: AskDesk;
  readonly #closing = new AbortController();
  #state: State = 'idle';
  #joined: Promise<void> | undefined;
  #ranked = false;
  #verified = withResolvers<void>();
  #pieceWaiters = new Map<
    number,
    { promise: Promise<void>; resolve: () => void; reject: (reason: unknown) => void }
  >();
  /** Pieces that no neighbour was found to have, as of this version of the view. */
  readonly #unheld = new Set<number>();
  #unheldFor = -1;
  #stopTicking: () => void = () => undefined;
  #failure: unknown;
  readonly #mender: Mender;

  constructor(components: DownloadComponents, init: DownloadInit) {
    this.#c = components;
    this.#init = init;
    this.key = init.key;
    this.stored = init.passing ?? components.store.open(init.key, init.size);
    this.startedAt = components.clock.mono();
    this.view = new SwarmView({
      self: components.members.self,
      key: init.key,
      pieceCount: this.stored.layout.pieceCount,
      liveness: components.members,
      gateways: init.gateways,
      weight: init.weight,
      onWord: (node, word) => this.#fetcher.heard(node, word),
    });
    if (init.ranges.takesRanges(init.registry) === false) this.view.setOneOwner();
    this.target = {
      registry: init.registry,
      repository: init.repository,
      digest: init.key as Digest,
      layout: this.stored.layout,
    };
    this.#verified.promise.catch(() => undefined);
    // Every flight listens, and takes its listener off again.
    setMaxListeners(0, this.#closing.signal);
    this.counts.localBytes = heldBytes(this.stored);
    const shared = { key: this.key, stored: this.stored, view: this.view, target: this.target };
    const flightOf = (piece: number): Flight | undefined => this.#flights.get(piece);
    this.#fetcher = new PieceFetcher(components, {
      ...shared,
      counts: this.counts,
      closing: this.#closing.signal,
      credentials: () => this.credentials,
      ranges: init.ranges,
      tell: (nodes) => (nodes === undefined ? this.#joiner.tell() : this.#joiner.announce(nodes)),
      flightOf,
      onPiece: (piece) => this.#arrived(piece),
    });
    this.#joiner = new Joiner(components, {
      ...shared,
      weight: init.weight,
      closing: this.#closing.signal,
      ranked: () => this.#ranked,
      // What only passes by here is nothing that others could ask for.
      have: () =>
        (init.passing === undefined ? this.stored.have : new Bitmap(this.stored.have.size)).toBytes(),
      claimed: () => (init.passing === undefined ? this.#claimed() : []),
      origin: () => this.#originWord(),
    });
    this.#desk = new AskDesk(components, {
      ...shared,
      flightOf,
      launch: (piece, priority, mine) => this.#launch(piece, priority, mine),
      ranked: () => this.#ranked,
      joining: () => (this.#state === 'joining' ? this.#joined : undefined),
      ended: () => (this.#state === 'failed' || this.#state === 'closed' ? this.#failure : undefined),
    });
    this.#mender = new Mender(components, {
      stored: this.stored,
      view: this.view,
      target: this.target,
      signal: this.#closing.signal,
      blame: init.blame,
      senderOf: (piece) => this.#fetcher.senderOf(piece),
      readAgain: (piece) => this.#fetcher.readAgain(piece),
    });
    if (this.stored.whole) this.#setWhole();
  }

  get state(): State {
    return this.#state;
  }

  get ranked(): boolean {
    return this.#ranked;
  }

  get active(): boolean {
    return this.#state === 'joining' || this.#state === 'running' || this.#state === 'verifying';
  }

  get wanted(): boolean {
    return this.#interests.size > 0;
  }

  /** When bytes last moved towards this node, also at an owner that it waits for. */
  get progressAt(): number | undefined {
    const { lastAlive, lastMoved } = this.#fetcher;
    return lastAlive === undefined ? lastMoved : Math.max(lastAlive, lastMoved ?? 0);
  }

  get flights(): number {
    return this.#flights.size;
  }

  /** Adds a reader or a prefetch; the download runs until the last has gone. */
  enter(interest: Interest): () => void {
    this.#interests.add(interest);
    this.#goOn();
    this.#run(interest.mode === 'whole');
    return () => {
      this.#interests.delete(interest);
    };
  }

  /** Has the swarm know this node as a gateway for the blob, which fetches what it is asked for. */
  serve(): void {
    this.#run(true);
  }

  /** Resolves when the piece can be read. @throws what the download failed with */
  async piece(piece: number, signal?: AbortSignal): Promise<void> {
    if (this.stored.have.has(piece)) return;
    if (this.#failure !== undefined) throw this.#failure;
    this.#goOn();
    let waiter = this.#pieceWaiters.get(piece);
    if (waiter === undefined) {
      waiter = withResolvers<void>();
      waiter.promise.catch(() => undefined);
      this.#pieceWaiters.set(piece, waiter);
      this.pump();
    }
    await (signal === undefined ? waiter.promise : raceAbort(waiter.promise, signal));
  }

  /** Resolves when the blob's digest has been verified. */
  async whole(signal?: AbortSignal): Promise<void> {
    await (signal === undefined ? this.#verified.promise : raceAbort(this.#verified.promise, signal));
  }

  /** Some of the bytes that are here are known to be wrong, and not yet which. */
  get mending(): boolean {
    return this.#mender.mending;
  }

  /** True when bytes before this position were replaced after they had been read: the reader has wrong ones. */
  replacedBefore(position: number): boolean {
    return this.#mender.firstReplaced * this.stored.layout.pieceSize < position;
  }

  /** Starts what the window allows. Called whenever something changed. */
  pump(): void {
    if (this.#state !== 'running') return;
    if (this.stored.have.full && this.#init.passing === undefined) {
      void this.#complete();
      return;
    }
    this.#fetcher.setOwners(this.view.owners);
    const waited = this.#c.clock.mono() - this.startedAt > WINDOW_PATIENCE_MS;
    const window = Math.max(this.#init.window(), waited ? 1 : 0);
    for (const { piece, priority, wan } of wantedPieces(this.stored.have, this.#interests, window)) {
      const flight = this.#flights.get(piece);
      if (flight !== undefined) {
        flight.priority = Math.min(flight.priority, priority);
        continue;
      }
      if (wan || this.#isHeld(piece)) this.#launch(piece, priority);
    }
  }

  /** Whether a neighbour has the piece. Who has none is not looked through again until somebody has said more. */
  #isHeld(piece: number): boolean {
    const { heldVersion } = this.view;
    if (heldVersion !== this.#unheldFor) {
      this.#unheldFor = heldVersion;
      this.#unheld.clear();
    }
    if (this.#unheld.has(piece)) return false;
    if (this.view.holder(piece, NOBODY) !== undefined) return true;
    this.#unheld.add(piece);
    return false;
  }

  /** A neighbour says that it is on the blob, or looks. */
  joinedBy(node: NodeName, request: JoinRequest): JoinAnswer {
    this.view.learn(node, { ...request, whole: false }, 'announcement', this.#c.clock.mono());
    this.#joiner.heard(node);
    const whole = this.stored.whole;
    const origin = this.#originWord();
    return {
      onBlob: this.#ranked,
      weight: this.#init.weight,
      whole,
      have: whole ? new Uint8Array(0) : this.stored.have.toBytes(),
      claimed: this.#claimed(),
      ...(request.others === true ? { others: this.view.announced() } : {}),
      ...(origin === undefined ? {} : { origin }),
    };
  }

  /** It announced itself before this node wanted the blob. */
  announcedEarlier(node: NodeName, request: JoinRequest, at: number): void {
    const { layout } = this.stored;
    if (request.size !== layout.size || request.pieceSize !== layout.pieceSize) return;
    this.view.learn(node, { ...request, whole: false }, 'announcement', at);
  }

  /** A neighbour's ask for a piece. */
  ask(from: NodeName, ask: PieceAsk, signal: AbortSignal): Promise<AskAnswer> {
    return this.#desk.answer(from, ask, signal);
  }

  leftBy(node: NodeName): void {
    this.view.unrank(node);
  }

  progress(): ProgressAnswer {
    const pieces = new Map<number, number>();
    for (const flight of this.#flights.values()) {
      if (flight.via === 'origin' && flight.bytes > 0) pieces.set(flight.piece, flight.bytes);
    }
    return { originBytes: this.#fetcher.originBytes, pieces };
  }

  /** Ends what is going on; readers that are left get an error. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    const ranked = this.#ranked && this.#state !== 'whole';
    this.#fail(new TidepoolError('ABORTED', `${this.key}: nobody wants it any more`));
    this.#state = 'closed';
    this.#closing.abort(new TidepoolError('ABORTED', 'the download is closed'));
    this.#stopTicking();
    if (ranked) await this.#joiner.leave();
  }

  #run(ranked: boolean): void {
    if (ranked && !this.#ranked && this.#state !== 'whole') {
      this.#ranked = true;
      if (this.#state !== 'idle') void this.#announce(this.#c.members.live().map((member) => member.node));
    }
    if (this.#state !== 'idle') {
      this.pump();
      return;
    }
    this.#state = 'joining';
    this.#joined = this.#join();
    this.#stopTicking = every(this.#c.clock, HEDGE_POLL_MS, () => this.#tick());
  }

  /** Bytes of it were found damaged after it had been whole: they are fetched as after a restart. */
  #goOn(): void {
    if (this.#state !== 'whole' || this.stored.whole) return;
    this.#state = 'idle';
    this.#verified = withResolvers<void>();
    this.#verified.promise.catch(() => undefined);
    this.#run(this.#ranked);
  }

  /** Announces this node to every live member before anything else is sent. */
  async #join(): Promise<void> {
    await this.#joiner.first();
    if (this.#state !== 'joining') return;
    this.view.setSelfRanked(this.#ranked);
    this.#state = 'running';
    this.pump();
  }

  async #announce(nodes: readonly NodeName[]): Promise<void> {
    await this.#joiner.announce(nodes);
    // A late answer may have brought the only holder.
    if (this.#state !== 'running') return;
    this.view.setSelfRanked(this.#ranked);
    this.pump();
  }

  #tick(): void {
    if (this.#state !== 'running') return;
    const strangers = this.#joiner.strangers();
    if (strangers.length > 0) void this.#announce(strangers);
    this.pump();
  }

  #launch(piece: number, priority: number, mine = false): void {
    const flight = new Flight(piece, priority, orderOf(priority, piece));
    flight.mine = mine;
    this.#flights.set(piece, flight);
    this.#fetcher.fly(flight).then(
      () => {
        this.#flights.delete(piece);
        flight.land();
        this.#arrived(piece);
      },
      (error: unknown) => {
        this.#flights.delete(piece);
        flight.crash(error);
        if (this.#isWanted(piece)) this.#fail(error);
      },
    );
  }

  #arrived(piece: number): void {
    const waiter = this.#pieceWaiters.get(piece);
    this.#pieceWaiters.delete(piece);
    waiter?.resolve();
    this.#init.onProgress();
    this.pump();
  }

  async #complete(): Promise<void> {
    this.#state = 'verifying';
    try {
      await this.#mender.verify();
      this.#setWhole();
    } catch (error) {
      if (!isTidepoolError(error, 'PIECE_NOT_HELD') || this.stored.have.full || this.#state !== 'verifying') {
        this.#fail(error);
        return;
      }
      // The disk has lost a piece of it, and it comes again.
      this.#state = 'running';
      this.pump();
    }
  }

  #setWhole(): void {
    this.#state = 'whole';
    this.#stopTicking();
    for (const waiter of this.#pieceWaiters.values()) waiter.resolve();
    this.#pieceWaiters.clear();
    this.#verified.resolve();
    this.#init.onProgress();
  }

  #fail(error: unknown): void {
    if (this.#state === 'failed' || this.#state === 'closed' || this.#state === 'whole') return;
    this.#state = 'failed';
    this.#failure = error;
    this.#stopTicking();
    this.#verified.reject(error);
    for (const waiter of this.#pieceWaiters.values()) waiter.reject(error);
    this.#pieceWaiters.clear();
    this.#closing.abort(error);
    this.#init.onProgress();
  }

  #isWanted(piece: number): boolean {
    for (const interest of this.#interests) {
      if (interest.mode === 'whole' || (piece >= interest.cursor && piece < interest.end)) return true;
    }
    return false;
  }

  #claimed(): number[] {
    const pieces: number[] = [];
    for (const flight of this.#flights.values())
      if (flight.via === 'origin' || flight.mine) pieces.push(flight.piece);
    return pieces;
  }

  #originWord(): OriginWord | undefined {
    if (this.view.ownWord !== undefined) return this.view.ownWord;
    if (this.view.oneOwner) return 'whole';
    return this.#init.ranges.takesRanges(this.target.registry) === true ? 'ranges' : undefined;
  }

  /** For the mender's neighbours: a piece read again in a later round, once however many ask. */
  reread(ask: PieceAsk): Promise<AskAnswer | { readonly kind: 'confirmed' }> {
    return this.#mender.reread(ask);
  }
}

const NOBODY: ReadonlySet<NodeName> = new Set();

function heldBytes(stored: StoredBlob): number {
  if (stored.have.full) return stored.layout.size;
  let bytes = 0;
  for (let piece = 0; piece < stored.layout.pieceCount; piece++) {
    if (stored.have.has(piece)) bytes += pieceLength(stored.layout, piece);
  }
  return bytes;
}
