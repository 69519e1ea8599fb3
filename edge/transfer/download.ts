import { setMaxListeners } from 'node:events';
import { every } from '../../shared/clock.ts';
import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { BlobKey, Digest, NodeName } from '../../shared/ids.ts';
import type { Credentials } from '../origin/types.ts';
import type { PieceAsk, ProgressAnswer } from '../peers/types.ts';
import { bytesOf } from '../store/piece-maps.ts';
import type { StoredBlob } from '../store/types.ts';
import { type AskAnswer, AskDesk } from './ask-desk.ts';
import type { Blame } from './blame.ts';
import { HEDGE_POLL_MS, WINDOW_PATIENCE_MS } from './constants.ts';
import type { DownloadComponents } from './download-components.ts';
import { Flights } from './flights.ts';
import { type Interest, Interests } from './interest.ts';
import { Joiner } from './joiner.ts';
import { Mender } from './mend.ts';
import type { OriginTarget } from './origin-reader.ts';
import { PieceFetcher } from './piece-fetcher.ts';
import { Presence } from './presence.ts';
import type { RangeBook } from './range-book.ts';
import { SwarmView } from './swarm-view.ts';
import type { TransferCounts } from './types.ts';
import { Waiters } from './waiters.ts';

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
  readonly presence: Presence;
  readonly mender: Mender;
  readonly counts: TransferCounts = { wanBytes: 0, peerBytes: 0, localBytes: 0 };
  readonly target: OriginTarget;
  readonly startedAt: number;
  credentials: Credentials | undefined;
  readonly #c: DownloadComponents;
  readonly #init: DownloadInit;
  readonly #flights: Flights;
  readonly #interests = new Interests();
  readonly #waiters = new Waiters();
  readonly #fetcher: PieceFetcher;
  readonly #joiner: Joiner;
  readonly #desk: AskDesk;
  readonly #closing = new AbortController();
  #state: State = 'idle';
  #joined: Promise<void> | undefined;
  #ranked = false;
  #stopTicking: () => void = () => undefined;
  #failure: unknown;

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
    // Every flight listens, and takes its listener off again.
    setMaxListeners(0, this.#closing.signal);
    this.counts.localBytes = bytesOf(this.stored.have, this.stored.layout);
    const shared = { key: this.key, stored: this.stored, view: this.view, target: this.target };
    this.#flights = new Flights({
      fly: (flight) => this.#fetcher.fly(flight),
      onLanded: (piece) => this.#arrived(piece),
      onCrashed: (piece, error) => {
        if (this.#interests.cover(piece)) this.#fail(error);
      },
    });
    this.presence = new Presence(components, {
      ...shared,
      flights: this.#flights,
      ranges: init.ranges,
      weight: init.weight,
      ranked: () => this.#ranked,
      passing: init.passing !== undefined,
      onJoined: (node) => this.#joiner.heard(node),
    });
    this.#fetcher = new PieceFetcher(components, {
      ...shared,
      counts: this.counts,
      closing: this.#closing.signal,
      credentials: () => this.credentials,
      ranges: init.ranges,
      tell: (nodes) => (nodes === undefined ? this.#joiner.tell() : this.#joiner.announce(nodes)),
      flights: this.#flights,
      onPiece: (piece) => this.#arrived(piece),
    });
    this.#joiner = new Joiner(components, {
      ...shared,
      weight: init.weight,
      closing: this.#closing.signal,
      ranked: () => this.#ranked,
      have: () => this.presence.have(),
      claimed: () => this.presence.claimed(),
      origin: () => this.presence.origin(),
    });
    this.#desk = new AskDesk(components, {
      ...shared,
      flights: this.#flights,
      ranked: () => this.#ranked,
      joining: () => (this.#state === 'joining' ? this.#joined : undefined),
      ended: () => (this.#state === 'failed' || this.#state === 'closed' ? this.#failure : undefined),
    });
    this.mender = new Mender(components, {
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
    const leave = this.#interests.add(interest);
    this.#goOn();
    this.#run(interest.mode === 'whole');
    return leave;
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
    const isNew = !this.#waiters.isAwaited(piece);
    const arrival = this.#waiters.piece(piece, signal);
    if (isNew) this.pump();
    await arrival;
  }

  /** Resolves when the blob's digest has been verified. */
  async whole(signal?: AbortSignal): Promise<void> {
    await this.#waiters.whole(signal);
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
    for (const { piece, priority, wan } of this.#interests.wanted(this.stored.have, window)) {
      const flight = this.#flights.get(piece);
      if (flight !== undefined) flight.priority = Math.min(flight.priority, priority);
      else if (wan || this.view.holder(piece, NOBODY) !== undefined) this.#flights.launch(piece, priority);
    }
  }

  /** A neighbour's ask for a piece. */
  ask(from: NodeName, ask: PieceAsk, signal: AbortSignal): Promise<AskAnswer> {
    return this.#desk.answer(from, ask, signal);
  }

  progress(): ProgressAnswer {
    return { originBytes: this.#fetcher.originBytes, pieces: this.#flights.read() };
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
    this.#waiters.again();
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

  #arrived(piece: number): void {
    this.#waiters.arrived(piece);
    this.#init.onProgress();
    this.pump();
  }

  async #complete(): Promise<void> {
    this.#state = 'verifying';
    try {
      await this.mender.verify();
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
    this.#waiters.verified();
    this.#init.onProgress();
  }

  #fail(error: unknown): void {
    if (this.#state === 'failed' || this.#state === 'closed' || this.#state === 'whole') return;
    this.#state = 'failed';
    this.#failure = error;
    this.#stopTicking();
    this.#waiters.failed(error);
    this.#closing.abort(error);
    this.#init.onProgress();
  }
}

const NOBODY: ReadonlySet<NodeName> = new Set();
