import { setMaxListeners } from 'node:events';
import { type Clock, every } from '../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { Slots } from '../../shared/flow/queue.ts';
import { raceAbort } from '../../shared/flow/single-flight.ts';
import type { BlobKey, Digest, NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { pieceLength } from '../../shared/pieces.ts';
import type { Credentials } from '../origin/types.ts';
import type { Members } from '../peers/members.ts';
import type {
  Elsewhere,
  JoinAnswer,
  JoinRequest,
  PeerClient,
  PieceAnswer,
  PieceAsk,
  ProgressAnswer,
  Refusal,
} from '../peers/types.ts';
import type { BlobStore, StoredBlob } from '../store/types.ts';
import {
  FAN_OUT,
  HEDGE_POLL_MS,
  JOIN_WAIT_MS,
  MAX_HOPS,
  REJOIN_MS,
  WINDOW_PATIENCE_MS,
} from './constants.ts';
import { Flight, withResolvers } from './flight.ts';
import { HedgeWatch } from './hedge.ts';
import { type Interest, wantedPieces } from './interest.ts';
import { Mender } from './mend.ts';
import { type OriginReader, type OriginTarget, RangelessError } from './origin-reader.ts';
import type { TransferStats } from './stats.ts';
import { SwarmView } from './swarm-view.ts';
import type { TransferCounts } from './types.ts';
import { orderOf, type WanGate } from './wan-gate.ts';
import { wanDepth } from './window.ts';

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
  /** This blob's window now, of all that the node has in progress. */
  readonly window: () => number;
  /** Called when pieces have come in: other blobs' windows may have opened. */
  readonly onProgress: () => void;
}

type State = 'idle' | 'joining' | 'running' | 'verifying' | 'whole' | 'failed' | 'closed';

/** What an ask is answered with; 'held' means that the piece is here now. */
export type AskAnswer = { readonly kind: 'held' } | Elsewhere | Refusal;

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
  readonly #depth: Slots;
  /** Whom each piece has been given to while owners are few. */
  readonly #fed = new Map<number, NodeName[]>();
  readonly #closing = new AbortController();
  readonly #joinTried = new Map<NodeName, number>();
  #state: State = 'idle';
  #joined: Promise<void> | undefined;
  #ranked = false;
  #verified = withResolvers<void>();
  #pieceWaiters = new Map<
    number,
    { promise: Promise<void>; resolve: () => void; reject: (reason: unknown) => void }
  >();
  #originBytes = 0;
  /** When bytes of this blob last came in here, and when they last moved anywhere on their way here, monotonic ms. */
  #lastMoved: number | undefined;
  #lastAlive: number | undefined;
  #stopTicking: () => void = () => undefined;
  #stream: Promise<void> | undefined;
  #failure: unknown;
  #feedTurn = 0;
  readonly #mender: Mender;

  constructor(components: DownloadComponents, init: DownloadInit) {
    this.#c = components;
    this.#init = init;
    this.key = init.key;
    this.stored = components.store.open(init.key, init.size);
    this.startedAt = components.clock.mono();
    this.view = new SwarmView({
      self: components.members.self,
      key: init.key,
      pieceCount: this.stored.layout.pieceCount,
      liveness: components.members,
      gateways: init.gateways,
      weight: init.weight,
    });
    this.target = {
      registry: init.registry,
      repository: init.repository,
      digest: init.key as Digest,
      layout: this.stored.layout,
    };
    this.#depth = new Slots(wanDepth(1));
    this.#verified.promise.catch(() => undefined);
    // Every flight listens, and takes its listener off again.
    setMaxListeners(0, this.#closing.signal);
    this.counts.localBytes = heldBytes(this.stored);
    if (this.stored.whole) this.#setWhole();
    this.#mender = new Mender(components, {
      stored: this.stored,
      view: this.view,
      target: this.target,
      signal: this.#closing.signal,
      readAgain: (piece) => this.#readAgain(piece),
    });
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
    return this.#lastAlive === undefined ? this.#lastMoved : Math.max(this.#lastAlive, this.#lastMoved ?? 0);
  }

  get flights(): number {
    return this.#flights.size;
  }

  /** Adds a reader or a prefetch; the download runs until the last has gone. */
  enter(interest: Interest): () => void {
    this.#interests.add(interest);
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

  /** True when bytes before this position were replaced after they had been read: the reader has wrong ones. */
  replacedBefore(position: number): boolean {
    return this.#mender.firstReplaced * this.stored.layout.pieceSize < position;
  }

  /** Starts what the window allows. Called whenever something changed. */
  pump(): void {
    if (this.#state !== 'running') return;
    if (this.stored.have.full) {
      void this.#complete();
      return;
    }
    this.#depth.setLimit(wanDepth(this.view.owners));
    const waited = this.#c.clock.mono() - this.startedAt > WINDOW_PATIENCE_MS;
    const window = Math.max(this.#init.window(), waited ? 1 : 0);
    for (const { piece, priority, wan } of wantedPieces(this.stored.have, this.#interests, window)) {
      const flight = this.#flights.get(piece);
      if (flight !== undefined) {
        flight.priority = Math.min(flight.priority, priority);
        continue;
      }
      if (wan || this.view.holder(piece, NOBODY) !== undefined) this.#launch(piece, priority);
    }
  }

  /** A neighbour says that it is on the blob, or looks. */
  joinedBy(node: NodeName, request: JoinRequest): JoinAnswer {
    this.view.learn(node, { ...request, whole: false }, 'announcement', this.#c.clock.mono());
    this.#joinTried.set(node, this.#c.clock.mono());
    const whole = this.stored.whole;
    return {
      onBlob: this.#ranked,
      weight: this.#init.weight,
      whole,
      have: whole ? new Uint8Array(0) : this.stored.have.toBytes(),
      claimed: this.#claimed(),
    };
  }

  leftBy(node: NodeName): void {
    this.view.unrank(node);
  }

  progress(): ProgressAnswer {
    const pieces = new Map<number, number>();
    for (const flight of this.#flights.values()) {
      if (flight.via === 'origin' && flight.bytes > 0) pieces.set(flight.piece, flight.bytes);
    }
    return { originBytes: this.#originBytes, pieces };
  }

  /**
   * A neighbour's ask: held while this node fetches the piece from the origin, answered with whom to ask otherwise.
   * Never forwarded: a chain of asks could close into a circle.
   */
  async ask(from: NodeName, ask: PieceAsk, signal: AbortSignal): Promise<AskAnswer> {
    const { piece } = ask;
    if (this.#state === 'joining' && this.#joined !== undefined) await raceAbort(this.#joined, signal);
    const excluding = new Set(ask.excluding);
    for (;;) {
      if (this.stored.have.has(piece)) return this.#feed(from, piece, excluding);
      if (this.#state === 'failed' || this.#state === 'closed') return refused('NOT_ON_BLOB', this.#failure);
      const flight = this.#flights.get(piece);
      if (flight === undefined) {
        const answer = this.#askUnstarted(from, piece, excluding, ask.priority);
        if (answer !== undefined) return answer;
        continue;
      }
      flight.priority = Math.min(flight.priority, ask.priority);
      // It could not fetch the piece itself and asks others now.
      if (flight.excluding.has(this.#c.members.self)) return refused('FETCH_FAILED', flight.error);
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

  /** Ends what is going on; readers that are left get an error. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    const ranked = this.#ranked && this.#state !== 'whole';
    this.#fail(new TidepoolError('ABORTED', `${this.key}: nobody wants it any more`));
    this.#state = 'closed';
    this.#closing.abort(new TidepoolError('ABORTED', 'the download is closed'));
    this.#stopTicking();
    if (ranked) {
      const timeout = this.#deadline(JOIN_WAIT_MS);
      const leaves = this.view.rankedNodes().map(async (node) => {
        const member = this.#c.members.get(node);
        // It finds out at its next ask; this only spares it that ask.
        if (member !== undefined)
          await this.#c.client.leave(member, this.key, timeout.signal).catch(() => undefined);
      });
      await Promise.all(leaves);
      timeout.clear();
    }
  }

  #run(ranked: boolean): void {
    if (ranked && !this.#ranked && this.#state !== 'whole') {
      this.#ranked = true;
      if (this.#state !== 'idle') void this.#joinAll(this.#c.members.live().map((member) => member.node));
    }
    if (this.#state !== 'idle') {
      this.pump();
      return;
    }
    this.#state = 'joining';
    this.#joined = this.#join();
    this.#stopTicking = every(this.#c.clock, HEDGE_POLL_MS, () => this.#tick());
  }

  /** Announces this node to every live member before anything else is sent. */
  async #join(): Promise<void> {
    const nodes = this.#c.members.live().map((member) => member.node);
    const timeout = this.#deadline(JOIN_WAIT_MS);
    await Promise.race([this.#joinAll(nodes), timeout.promise]);
    timeout.clear();
    if (this.#state !== 'joining') return;
    this.view.setSelfRanked(this.#ranked);
    this.#state = 'running';
    this.pump();
  }

  async #joinAll(nodes: readonly NodeName[]): Promise<void> {
    this.#c.stats.joins++;
    const { layout } = this.stored;
    const request: JoinRequest = {
      key: this.key,
      size: layout.size,
      pieceSize: layout.pieceSize,
      registry: this.target.registry,
      repository: this.target.repository,
      ranked: this.#ranked,
      weight: this.#init.weight,
      have: this.stored.have.toBytes(),
      claimed: this.#claimed(),
    };
    await Promise.all(
      nodes.map(async (node) => {
        const member = this.#c.members.get(node);
        if (member === undefined) return;
        const sentAt = this.#c.clock.mono();
        this.#joinTried.set(node, sentAt);
        const timeout = this.#deadline(4 * JOIN_WAIT_MS);
        try {
          const answer = await this.#c.client.join(member, request, timeout.signal);
          this.view.learn(node, { ...answer, ranked: answer.onBlob }, 'answer', sentAt);
        } catch (error) {
          // Only a failed connection says that it is gone; one that is late is asked again soon.
          if (isTidepoolError(error, 'PEER_UNREACHABLE')) this.#c.members.suspect(node, error);
        } finally {
          timeout.clear();
        }
      }),
    );
    // A late answer may have brought the only holder.
    if (this.#state === 'running') {
      this.view.setSelfRanked(this.#ranked);
      this.pump();
    }
  }

  #tick(): void {
    if (this.#state !== 'running') return;
    const now = this.#c.clock.mono();
    const strangers = this.#c.members
      .live()
      .map((member) => member.node)
      .filter(
        (node) =>
          !this.view.knows(node) &&
          now - (this.#joinTried.get(node) ?? Number.NEGATIVE_INFINITY) >= REJOIN_MS,
      );
    if (strangers.length > 0) void this.#joinAll(strangers);
    this.pump();
  }

  #launch(piece: number, priority: number, mine = false): void {
    const flight = new Flight(piece, priority, orderOf(priority, piece));
    flight.mine = mine;
    this.#flights.set(piece, flight);
    this.#fly(flight).then(
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

  /** Gets one piece, from whoever has it or shall fetch it, until it is here or everyone has been tried. */
  async #fly(flight: Flight): Promise<void> {
    const { piece } = flight;
    let hint: { node: NodeName; fed: boolean; by: NodeName } | undefined;
    let hops = 0;
    let reset = 0;
    while (!this.stored.have.has(piece)) {
      this.#closing.signal.throwIfAborted();
      if (flight.mine || hint?.node === this.#c.members.self) {
        flight.mine = false;
        hint = undefined;
        if (await this.#fromOrigin(flight)) return;
        continue;
      }
      const choice =
        hint !== undefined
          ? ({ kind: 'claimant', node: hint.node } as const)
          : this.view.choose(piece, flight.excluding);
      if (choice === undefined)
        throw (
          flight.error ?? new TidepoolError('BLOB_UNKNOWN', `nobody can give piece ${piece} of ${this.key}`)
        );
      if (choice.kind === 'self') {
        if (await this.#fromOrigin(flight)) return;
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
        this.view.unlearnPiece(node, piece);
        if (answer.kind === 'refused' && answer.code === 'NOT_ON_BLOB') this.view.unrank(node);
        if (answer.kind === 'refused')
          flight.error ??= new TidepoolError('PIECE_REFUSED', `${node}: ${answer.message}`);
        flight.excluding.add(node);
      } catch (error) {
        this.#closing.signal.throwIfAborted();
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
    flight.turn = new AbortController();
    const onClose = (): void => flight.turn.abort(this.#closing.signal.reason);
    this.#closing.signal.addEventListener('abort', onClose, { once: true });
    const answered = this.view.asked(node);
    let received = 0;
    const hedge = new HedgeWatch(this.#c, {
      member,
      key: this.key,
      piece: flight.piece,
      hedged,
      received: () => received,
      lastMovedElsewhere: () => this.#lastMoved,
      onMoved: () => {
        this.#lastAlive = this.#c.clock.mono();
      },
      onStill: () => {
        this.#c.stats.hedges++;
        flight.excluding.add(node);
        flight.turn.abort(new Error('the owner stands still'));
      },
      onGone: (error) => {
        this.#c.members.suspect(node, error);
        flight.excluding.add(node);
        flight.turn.abort(error);
      },
    });
    try {
      const ask: PieceAsk = {
        key: this.key,
        layout: this.stored.layout,
        piece: flight.piece,
        registry: this.target.registry,
        repository: this.target.repository,
        excluding: [...flight.excluding],
        ...(via === undefined ? {} : { via }),
        round: 0,
        priority: flight.priority,
      };
      const answer = await this.#c.client.piece(member, ask, flight.turn.signal, (count) => {
        received += count;
      });
      if (answer.kind === 'bytes') {
        await this.stored.write(flight.piece, answer.buffer, answer.claim);
        const length = pieceLength(this.stored.layout, flight.piece);
        this.counts.peerBytes += length;
        this.#c.stats.peerBytes += length;
        this.#c.stats.peerPieces++;
        this.view.learnPiece(node, flight.piece);
        this.#lastMoved = this.#c.clock.mono();
      }
      return answer;
    } catch (error) {
      if (flight.turn.signal.aborted && !this.#closing.signal.aborted) return undefined;
      throw error;
    } finally {
      hedge.stop();
      answered();
      this.#closing.signal.removeEventListener('abort', onClose);
    }
  }

  /** True when the piece is here; false when this node cannot fetch it, and others are to be tried. */
  async #fromOrigin(flight: Flight): Promise<boolean> {
    flight.via = 'origin';
    flight.from = undefined;
    try {
      if (this.view.oneOwner) await this.#fromStream(flight);
      else await this.#fromRange(flight);
      return true;
    } catch (error) {
      this.#closing.signal.throwIfAborted();
      if (error instanceof RangelessError) {
        this.#c.log.info(
          { key: this.key, registry: this.target.registry },
          'origin takes no ranges: one owner reads from start to end',
        );
        this.view.setOneOwner();
        return false;
      }
      this.#c.log.info(
        { key: this.key, piece: flight.piece, why: describeError(error) },
        'cannot fetch from the origin',
      );
      flight.error = error;
      flight.excluding.add(this.#c.members.self);
      flight.giveUp(error);
      return false;
    }
  }

  async #fromRange(flight: Flight): Promise<void> {
    const signal = this.#closing.signal;
    const releaseDepth = await this.#depth.acquire({ priority: flight.order, signal });
    let releaseSlot: (() => void) | undefined;
    try {
      releaseSlot = await this.#c.gate.slot(flight.order, signal);
      if (this.stored.have.has(flight.piece)) return;
      if (this.view.oneOwner) throw new RangelessError('the origin takes no ranges');
      const { buffer, claim } = await this.#c.reader.piece(
        this.target,
        flight.piece,
        this.#readOptions(flight),
      );
      await this.stored.write(flight.piece, buffer, claim);
    } finally {
      releaseSlot?.();
      releaseDepth();
    }
  }

  /** One read of the whole blob serves every piece that is asked of this node. */
  async #fromStream(flight: Flight): Promise<void> {
    this.#stream ??= this.#runStream(flight).finally(() => {
      this.#stream = undefined;
    });
    await this.#stream;
    if (!this.stored.have.has(flight.piece))
      throw new TidepoolError('ORIGIN_ERROR', 'the origin ended the blob early');
  }

  async #runStream(flight: Flight): Promise<void> {
    const release = await this.#c.gate.slot(flight.order, this.#closing.signal);
    try {
      await this.#c.reader.stream(
        this.target,
        this.#readOptions(undefined),
        (piece) => !this.stored.have.has(piece) && this.#flights.get(piece)?.via !== 'peer',
        async (piece, buffer, claim) => {
          await this.stored.write(piece, buffer, claim);
          const waiting = this.#flights.get(piece);
          if (waiting === undefined) this.#arrived(piece);
          else {
            waiting.land();
            this.#arrived(piece);
          }
        },
      );
    } finally {
      release();
    }
  }

  #readOptions(flight: Flight | undefined) {
    return {
      credentials: this.credentials,
      priority: flight?.priority ?? 0,
      signal: this.#closing.signal,
      lastProgress: () => this.#lastMoved,
      onBytes: (count: number) => {
        if (flight !== undefined) flight.bytes += count;
        this.#originBytes += count;
        this.counts.wanBytes += count;
        this.#lastMoved = this.#c.clock.mono();
      },
    };
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
      this.#fail(error);
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

  /** Serves the piece, or sends the asker on to one that is being fed, where owners are few for many. */
  #feed(from: NodeName, piece: number, excluding: ReadonlySet<NodeName>): AskAnswer {
    if (!this.view.fanOut) return { kind: 'held' };
    const fed = this.#fed.get(piece) ?? [];
    const others = fed.filter(
      (node) => node !== from && !excluding.has(node) && this.#c.members.isLive(node),
    );
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
    const holder = this.view.holder(piece, avoid) ?? this.view.claimant(piece, avoid);
    if (holder !== undefined) return { kind: 'elsewhere', node: holder, fed: false };
    const { self } = this.#c.members;
    const first = this.view.ranking(piece).find((node) => !excluding.has(node));
    if (first === undefined || (!this.#ranked && first !== self))
      return refused('NOT_ON_BLOB', 'not on this blob');
    if (first !== self) return { kind: 'elsewhere', node: first, fed: false };
    this.#launch(piece, priority, true);
    return undefined;
  }

  #before(piece: number, other: NodeName, excluding: ReadonlySet<NodeName>): boolean {
    for (const node of this.view.ranking(piece)) {
      if (excluding.has(node)) continue;
      if (node === this.#c.members.self) return true;
      if (node === other) return false;
    }
    return true;
  }

  /** Reads one piece from the origin again, whatever is held: the mender compares the two. */
  async #readAgain(piece: number) {
    const release = await this.#c.gate.slot(orderOf(0, piece), this.#closing.signal);
    try {
      return await this.#c.reader.piece(this.target, piece, this.#readOptions(undefined));
    } finally {
      release();
    }
  }

  /** For the mender's neighbours: a piece read again in a later round, once however many ask. */
  reread(ask: PieceAsk): Promise<AskAnswer | { readonly kind: 'confirmed' }> {
    return this.#mender.reread(ask);
  }

  #deadline(ms: number): { signal: AbortSignal; promise: Promise<void>; clear: () => void } {
    const controller = new AbortController();
    const onClose = (): void => controller.abort(this.#closing.signal.reason);
    this.#closing.signal.addEventListener('abort', onClose, { once: true });
    const done = withResolvers<void>();
    const cancel = this.#c.clock.after(ms, () => {
      controller.abort(new TidepoolError('TIMEOUT', `no answer in ${ms} ms`));
      done.resolve();
    });
    return {
      signal: controller.signal,
      promise: done.promise,
      clear: () => {
        cancel();
        this.#closing.signal.removeEventListener('abort', onClose);
      },
    };
  }
}

const NOBODY: ReadonlySet<NodeName> = new Set();

function refused(code: string, why: unknown): Refusal {
  return { kind: 'refused', code, message: describeError(why) };
}

function heldBytes(stored: StoredBlob): number {
  if (stored.have.full) return stored.layout.size;
  let bytes = 0;
  for (let piece = 0; piece < stored.layout.pieceCount; piece++) {
    if (stored.have.has(piece)) bytes += pieceLength(stored.layout, piece);
  }
  return bytes;
}
