import { Bitmap } from '../../shared/bitmap.ts';
import type { NodeName } from '../../shared/ids.ts';
import { rank } from '../../shared/rendezvous.ts';
import type { Announced, OriginWord } from '../peers/types.ts';
import { FAN_OUT_RATIO } from './constants.ts';

/** What this member knows of another on one blob. */
interface Seen {
  readonly node: NodeName;
  ranked: boolean;
  weight: number;
  whole: boolean;
  have: Bitmap;
  readonly claimed: Set<number>;
  /** Asks of ours that it is busy with. */
  outstanding: number;
  /** When it last announced itself, monotonic ms. */
  announcedAt: number;
  /** False while only others have said that it is on the blob. */
  firsthand: boolean;
  /** What it said last of the origin. */
  word: OriginWord | undefined;
}

/** Liveness as the member table has it; `version` grows when it changes. */
export interface Liveness {
  readonly version: number;
  isLive(node: NodeName): boolean;
}

interface SwarmViewInit {
  readonly self: NodeName;
  readonly key: string;
  readonly pieceCount: number;
  readonly liveness: Liveness;
  /** Nodes that go over the WAN for the pool; empty: everyone who wants the blob. */
  readonly gateways: ReadonlySet<string>;
  /** This node's share of the work. */
  readonly weight: number;
  /** Told of each word on the origin. */
  readonly onWord?: (node: NodeName, word: OriginWord) => void;
}

/** What a member says of itself. */
export interface Said {
  readonly ranked: boolean;
  readonly weight: number;
  readonly whole: boolean;
  readonly have: Uint8Array;
  readonly claimed: readonly number[];
  readonly origin?: OriginWord;
}

export type Choice =
  | { readonly kind: 'self' }
  | { readonly kind: 'holder' | 'claimant' | 'owner'; readonly node: NodeName };

/**
 * Who is on a blob, what they have and what they have claimed, as one member sees it: pure bookkeeping and the decision
 * whom to ask for a piece.
 */
export class SwarmView {
  readonly #self: NodeName;
  readonly #key: string;
  readonly #pieceCount: number;
  readonly #liveness: Liveness;
  readonly #gateways: ReadonlySet<string>;
  readonly #weight: number;
  readonly #seen = new Map<NodeName, Seen>();
  #selfRanked = false;
  /** All pieces have one owner: the origin sends from start to end only. */
  #oneOwner = false;
  #ownWord: 'asks' | 'reads' | undefined;
  readonly #onWord: SwarmViewInit['onWord'];
  #version = 0;
  #cache = new Map<number, NodeName[]>();
  /** Of this view and the liveness together, which both only grow. */
  #cachedFor = -1;

  constructor(init: SwarmViewInit) {
    this.#self = init.self;
    this.#key = init.key;
    this.#pieceCount = init.pieceCount;
    this.#liveness = init.liveness;
    this.#gateways = init.gateways;
    this.#weight = init.weight;
    this.#onWord = init.onWord;
  }

  get gatewayed(): boolean {
    return this.#gateways.size > 0;
  }

  /** It has said something itself; one that others speak of is still to be asked. */
  knows(node: NodeName): boolean {
    return this.#seen.get(node)?.firsthand === true;
  }

  /** Members known to rank on the blob, this node not among them. */
  announced(): Announced[] {
    const announced: Announced[] = [];
    for (const seen of this.#seen.values()) {
      if (seen.ranked) announced.push({ node: seen.node, weight: seen.weight });
    }
    return announced;
  }

  /** Another member says that this one is on the blob: it counts until it says something itself, or refuses. */
  hearOf({ node, weight }: Announced): void {
    if (node === this.#self || this.#seen.has(node)) return;
    this.#version++;
    this.#seen.set(node, {
      node,
      ranked: true,
      weight,
      whole: false,
      have: new Bitmap(this.#pieceCount),
      claimed: new Set(),
      outstanding: 0,
      announcedAt: Number.NEGATIVE_INFINITY,
      firsthand: false,
      word: undefined,
    });
  }

  setSelfRanked(ranked: boolean): void {
    if (this.#selfRanked !== ranked) this.#version++;
    this.#selfRanked = ranked;
  }

  setOneOwner(): void {
    if (this.#oneOwner) return;
    this.#oneOwner = true;
    this.#version++;
  }

  get oneOwner(): boolean {
    return this.#oneOwner;
  }

  /** What this node does about reading the blob whole, for all. */
  get ownWord(): 'asks' | 'reads' | undefined {
    return this.#ownWord;
  }

  setOwnWord(word: 'asks' | 'reads' | undefined): void {
    this.#ownWord = word;
  }

  /** Whether this node goes before another when both want to read the blob whole: the same for both, whatever else they know. */
  precedes(node: NodeName): boolean {
    return this.#firstOf([this.#self, node]) === this.#self;
  }

  /** The live member that reads the blob whole, or is about to. */
  streamer(excluding: ReadonlySet<NodeName>): NodeName | undefined {
    return this.#firstOf(this.#saying('reads', excluding)) ?? this.#firstOf(this.#saying('asks', excluding));
  }

  /** The live member that this node has to leave the reading to. */
  rival(excluding: ReadonlySet<NodeName>): NodeName | undefined {
    const reads = this.#firstOf(this.#saying('reads', excluding));
    return reads ?? this.#firstOf(this.#saying('asks', excluding).filter((node) => !this.precedes(node)));
  }

  #saying(word: OriginWord, excluding: ReadonlySet<NodeName>): NodeName[] {
    const nodes: NodeName[] = [];
    for (const seen of this.#seen.values()) {
      if (seen.word === word && !excluding.has(seen.node) && this.#liveness.isLive(seen.node))
        nodes.push(seen.node);
    }
    return nodes;
  }

  #firstOf(nodes: readonly NodeName[]): NodeName | undefined {
    if (nodes.length < 2) return nodes[0];
    const [first] = rank(
      nodes.map((node) => ({ node, weight: 1 })),
      `${this.#key}#0`,
    );
    return first?.node;
  }

  /**
   * What a member said of itself: in its announcement (`asOf` is when that came in), or in its answer to ours (`asOf` is when
   * ours was sent). An answer from before its announcement must not take it out of the ranking again.
   */
  learn(node: NodeName, said: Said, kind: 'announcement' | 'answer', asOf: number): void {
    if (node === this.#self) return;
    this.#learn(node, said, kind, asOf);
    if (said.origin !== undefined) this.#onWord?.(node, said.origin);
  }

  #learn(node: NodeName, said: Said, kind: 'announcement' | 'answer', asOf: number): void {
    const known = this.#seen.get(node);
    if (known === undefined) {
      this.#version++;
      this.#seen.set(node, {
        node,
        ranked: said.ranked,
        weight: said.weight,
        whole: said.whole,
        have: said.whole ? new Bitmap(this.#pieceCount) : new Bitmap(this.#pieceCount, said.have),
        claimed: new Set(said.claimed),
        outstanding: 0,
        announcedAt: kind === 'announcement' ? asOf : Number.NEGATIVE_INFINITY,
        firsthand: true,
        word: said.origin,
      });
      return;
    }
    // That it begins to read is announced each time; an answer from before that knows less.
    if (kind === 'announcement' || said.origin === 'reads' || known.announcedAt < asOf)
      known.word = said.origin;
    const ranked = said.ranked || (kind === 'answer' && known.announcedAt >= asOf && known.ranked);
    known.firsthand = true;
    if (kind === 'announcement') known.announcedAt = asOf;
    if (known.ranked !== ranked || known.weight !== said.weight) this.#version++;
    known.ranked = ranked;
    known.weight = said.weight;
    known.whole ||= said.whole;
    // Added to, never replaced: a join and an answer may overtake each other. What has become untrue is refused, and unlearned.
    if (!said.whole) known.have.or(said.have);
    for (const piece of said.claimed) known.claimed.add(piece);
  }

  /** It gave us a piece, so it has it. */
  learnPiece(node: NodeName, piece: number): void {
    const seen = this.#seen.get(node);
    seen?.have.set(piece);
    seen?.claimed.delete(piece);
  }

  /** It said that it does not have the piece, or gave it up. */
  unlearnPiece(node: NodeName, piece: number): void {
    const seen = this.#seen.get(node);
    if (seen === undefined) return;
    if (seen.whole) {
      seen.whole = false;
      seen.have.setAll();
    }
    seen.have.clear(piece);
    seen.claimed.delete(piece);
    seen.word = undefined;
  }

  /** It is not on the blob any more. What it had stays known. */
  unrank(node: NodeName): void {
    const seen = this.#seen.get(node);
    if (seen === undefined || !seen.ranked) return;
    seen.ranked = false;
    seen.word = undefined;
    seen.claimed.clear();
    this.#version++;
  }

  /** Counts an ask that is out; the answer takes it back. */
  asked(node: NodeName): () => void {
    const seen = this.#seen.get(node);
    if (seen === undefined) return () => undefined;
    seen.outstanding++;
    return () => {
      const now = this.#seen.get(node);
      if (now !== undefined && now.outstanding > 0) now.outstanding--;
    };
  }

  /** A live member that has the piece: the one with the fewest asks of ours, ties spread by rank. */
  holder(piece: number, excluding: ReadonlySet<NodeName>): NodeName | undefined {
    let best: Seen | undefined;
    for (const seen of this.#seen.values()) {
      if (
        !(seen.whole || seen.have.has(piece)) ||
        excluding.has(seen.node) ||
        !this.#liveness.isLive(seen.node)
      )
        continue;
      if (best === undefined || seen.outstanding < best.outstanding) best = seen;
    }
    return best?.node;
  }

  /** A live member that is fetching the piece, as far as is known. */
  claimant(piece: number, excluding: ReadonlySet<NodeName>): NodeName | undefined {
    for (const seen of this.#seen.values()) {
      if (seen.claimed.has(piece) && !excluding.has(seen.node) && this.#liveness.isLive(seen.node))
        return seen.node;
    }
    return undefined;
  }

  /** Live members in the order in which they are to fetch a piece over the WAN, this node among them. */
  ranking(piece: number): readonly NodeName[] {
    const version = this.#version + this.#liveness.version;
    if (version !== this.#cachedFor) {
      this.#cachedFor = version;
      this.#cache = new Map();
    }
    const item = this.#oneOwner ? 0 : piece;
    let order = this.#cache.get(item);
    if (order === undefined) {
      order = rank(this.#rankable(), `${this.#key}#${item}`).map((member) => member.node as NodeName);
      this.#cache.set(item, order);
    }
    return order;
  }

  /** Members that share the WAN work now. */
  get owners(): number {
    return this.#rankable().length;
  }

  /** Whether holders should pass waiters on to each other: few owners for many members. */
  get fanOut(): boolean {
    let onBlob = 1;
    for (const seen of this.#seen.values()) if (seen.ranked) onBlob++;
    return onBlob > FAN_OUT_RATIO * Math.max(1, this.owners);
  }

  /**
   * Whom to get a piece from: who has it, who reads the whole blob, who is fetching it, its owner, the next in rank, this
   * node itself.
   * Undefined when all of them are excluded.
   */
  choose(piece: number, excluding: ReadonlySet<NodeName>): Choice | undefined {
    const holder = this.holder(piece, excluding);
    if (holder !== undefined) return { kind: 'holder', node: holder };
    if (this.#ownWord !== undefined && !excluding.has(this.#self)) return { kind: 'self' };
    const claimant = this.streamer(excluding) ?? this.claimant(piece, excluding);
    if (claimant !== undefined) return { kind: 'claimant', node: claimant };
    for (const node of this.ranking(piece)) {
      if (excluding.has(node)) continue;
      return node === this.#self ? { kind: 'self' } : { kind: 'owner', node };
    }
    return excluding.has(this.#self) ? undefined : { kind: 'self' };
  }

  /** Live ranked members, whatever they have. */
  rankedNodes(): NodeName[] {
    return this.#rankable()
      .map((member) => member.node as NodeName)
      .filter((node) => node !== this.#self);
  }

  #rankable(): { node: string; weight: number }[] {
    const members: { node: string; weight: number }[] = [];
    if (this.#gateways.size > 0) {
      for (const node of this.#gateways) {
        if (node === this.#self) members.push({ node, weight: this.#weight });
        else if (this.#liveness.isLive(node as NodeName)) {
          members.push({ node, weight: this.#seen.get(node as NodeName)?.weight ?? 1 });
        }
      }
      return members;
    }
    if (this.#selfRanked) members.push({ node: this.#self, weight: this.#weight });
    for (const seen of this.#seen.values()) {
      if (seen.ranked && this.#liveness.isLive(seen.node))
        members.push({ node: seen.node, weight: seen.weight });
    }
    return members;
  }
}
