import { describeError, isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { Slots } from '../../shared/flow/queue.ts';
import { SingleFlight } from '../../shared/flow/single-flight.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type { Member, PeerClient, PieceAsk } from '../peers/types.ts';
import type { PieceBuffer, PieceClaim, StoredBlob } from '../store/types.ts';
import type { AskAnswer } from './ask-desk.ts';
import type { Blame } from './blame.ts';
import { MEND_ROUNDS } from './constants.ts';
import type { PoolMembers } from './download-components.ts';
import type { OriginTarget } from './origin-reader.ts';
import type { TransferStats } from './stats.ts';
import type { SwarmView } from './swarm-view.ts';

interface MenderComponents {
  readonly client: Pick<PeerClient, 'piece' | 'claims'>;
  readonly members: PoolMembers;
  readonly stats: TransferStats;
  readonly log: Logger;
}

interface MenderInit {
  readonly stored: StoredBlob;
  readonly view: SwarmView;
  readonly target: OriginTarget;
  readonly signal: AbortSignal;
  readonly blame: Blame;
  /** Which neighbour a held piece came from in this download. */
  readonly senderOf: (piece: number) => NodeName | undefined;
  readonly readAgain: (piece: number) => Promise<{ buffer: PieceBuffer; claim: PieceClaim }>;
}

/** One piece as two members read it from the origin. */
interface SecondRead {
  readonly piece: number;
  readonly first: NodeName;
  readonly second: NodeName;
  readonly differs: boolean;
}

/** Bytes that were here and have been replaced; whether they were wrong is known once the blob is right. */
interface Replaced {
  readonly piece: number;
  readonly claim: PieceClaim;
  readonly sender: NodeName | undefined;
}

/** Pieces looked at side by side. */
const PARALLEL = 4;
const HASH_BYTES = 32;

/**
 * What happens when all pieces are here and the blob's digest does not match: somebody read wrong bytes from the origin
 * and hashed them faithfully. A member that has verified the blob knows which pieces; without one, each piece is read again
 * by the next in its rank, never by the same reader, and once for the whole pool.
 */
export class Mender {
  /** The digest did not match, and which bytes are wrong is being found out. */
  mending = false;
  readonly #c: MenderComponents;
  readonly #init: MenderInit;
  /** First piece whose bytes were replaced after they could have been read, or Infinity. */
  #firstReplaced = Number.POSITIVE_INFINITY;
  /** What each piece was found to be in each round, so that it is read again once however many ask. */
  readonly #found = new Map<string, PieceClaim>();
  readonly #reading = new SingleFlight<string, PieceClaim>();
  /** At most what its rounds replace. */
  readonly #replaced: Replaced[] = [];
  /** Who gave what stands where something was replaced. */
  readonly #givers = new Map<number, NodeName>();
  /** Members that say they have verified the blob, and by whose hashes it did not come right. */
  readonly #disproved = new Set<NodeName>();

  constructor(components: MenderComponents, init: MenderInit) {
    this.#c = components;
    this.#init = init;
  }

  /** True when bytes before this position were replaced after they had been read: the reader has wrong ones. */
  replacedBefore(position: number): boolean {
    return this.#firstReplaced * this.#init.stored.layout.pieceSize < position;
  }

  /** @throws TidepoolError DIGEST_MISMATCH when the blob cannot be made right; its pieces are gone then */
  async verify(): Promise<void> {
    try {
      await this.#verify();
    } finally {
      this.mending = false;
    }
  }

  async #verify(): Promise<void> {
    const { stored, signal } = this.#init;
    for (let round = 1; (await stored.verify()) === 'mismatch'; round++) {
      signal.throwIfAborted();
      this.mending = true;
      this.#c.stats.digestMismatches++;
      this.#c.log.warn({ key: stored.key, round }, 'the bytes do not match the digest');
      const mended = round <= MEND_ROUNDS && ((await this.#fromVerified()) || (await this.#readAll(round)));
      if (mended) continue;
      // Nobody is blamed: it may be the registry that sends other bytes than it promised.
      await stored.drop(everyPiece(stored));
      throw new TidepoolError(
        'DIGEST_MISMATCH',
        `what ${this.#init.target.registry} and the pool gave for ${stored.key} does not match that digest; its pieces are dropped`,
      );
    }
    this.#blameAll();
  }

  /** The blob is right: whatever was here instead of a piece that is here now was wrong. */
  #blameAll(): void {
    const { stored, blame } = this.#init;
    for (const { piece, claim, sender } of this.#replaced.splice(0)) {
      if (sameHash(stored.claim(piece)?.sha256, claim.sha256)) continue;
      blame.wrong({ key: stored.key, piece, reader: claim.reader, sender });
    }
  }

  /** A neighbour asks for a piece to be read again. */
  async reread(ask: PieceAsk): Promise<AskAnswer | { readonly kind: 'confirmed' }> {
    try {
      const claim = await this.#once(ask.piece, ask.round);
      if (ask.compare === true || Buffer.from(claim.sha256).toString('hex') === ask.holding)
        return { kind: 'confirmed' };
      return { kind: 'held' };
    } catch (error) {
      return { kind: 'refused', code: 'FETCH_FAILED', message: describeError(error) };
    }
  }

  /** True when a member that has verified the blob showed which pieces are wrong, and they have been replaced. */
  async #fromVerified(): Promise<boolean> {
    const { stored, signal, target } = this.#init;
    for (const member of this.#c.members.live()) {
      if (this.#disproved.has(member.node)) continue;
      const hashes = await this.#c.client.claims(member, stored.key, target, signal).catch(() => undefined);
      if (hashes?.length !== stored.layout.pieceCount * HASH_BYTES) continue;
      const wrong = everyPiece(stored).filter((piece) => {
        const right = hashes.subarray(piece * HASH_BYTES, (piece + 1) * HASH_BYTES);
        return !sameHash(stored.claim(piece)?.sha256, right);
      });
      this.#disproved.add(member.node);
      if (wrong.length === 0) continue;
      try {
        for (const piece of wrong) {
          if (!(await this.#fetch(member, piece, 0))) return false;
        }
        return true;
      } catch (error) {
        signal.throwIfAborted();
        this.#c.log.info(
          { node: member.node, why: describeError(error) },
          'cannot replace the wrong pieces from a member',
        );
      }
    }
    return false;
  }

  /**
   * True when every piece has been read again by another than its reader. Where two reads differ, one of the two readers is
   * wrong; who stands in most of the differences is, and his reads are the ones that go.
   */
  async #readAll(round: number): Promise<boolean> {
    const { stored } = this.#init;
    const slots = new Slots(PARALLEL);
    const found = await Promise.all(
      everyPiece(stored).map(async (piece) => {
        const release = await slots.acquire();
        try {
          return await this.#secondRead(piece, round);
        } finally {
          release();
        }
      }),
    );
    const reads = found.filter((read) => read !== undefined);
    if (reads.length < found.length || reads.length === 0) return false;
    const differing = reads.filter((read) => read.differs);
    const culprit = mostNamed(differing.flatMap(({ first, second }) => [first, second]));
    for (const { piece, first, second } of differing) {
      // This node's own second read is in place already; a culprit's second read is no reason to drop the first.
      if (second === this.#c.members.self || (second === culprit && first !== culprit)) continue;
      if (!(await this.#take(second, piece, round)) && !(await this.#readHere(piece, round))) return false;
    }
    return true;
  }

  /** Has the next in a piece's rank read it again; undefined when nobody could. */
  async #secondRead(piece: number, round: number): Promise<SecondRead | undefined> {
    const { stored, view } = this.#init;
    const held = stored.claim(piece);
    if (held === undefined) return undefined;
    for (const node of view.ranking(piece)) {
      if (node === held.reader) continue;
      const claim = await this.#readBy(node, piece, round);
      if (claim === undefined) continue;
      const differs = !sameHash(claim.sha256, held.sha256);
      return { piece, first: held.reader, second: node, differs };
    }
    return undefined;
  }

  async #readBy(node: NodeName, piece: number, round: number): Promise<PieceClaim | undefined> {
    try {
      if (node === this.#c.members.self) return await this.#once(piece, round);
      const member = this.#c.members.get(node);
      if (member === undefined) return undefined;
      const answer = await this.#c.client.piece(
        member,
        { ...this.#ask(piece, round), compare: true },
        this.#init.signal,
      );
      return answer.kind === 'confirmed' ? answer.claim : undefined;
    } catch (error) {
      this.#init.signal.throwIfAborted();
      this.#c.log.info({ node, piece, why: describeError(error) }, 'cannot read a piece again');
      return undefined;
    }
  }

  /** True when the piece is now as that member has it. */
  async #fetch(member: Member, piece: number, round: number): Promise<boolean> {
    const answer = await this.#c.client.piece(member, this.#ask(piece, round), this.#init.signal);
    if (answer.kind === 'bytes') {
      await this.#replace(piece, answer.buffer, answer.claim, member.node);
      return true;
    }
    return answer.kind === 'confirmed';
  }

  /** The same, where there are others to turn to: what a member fails with is its own affair. */
  async #take(node: NodeName, piece: number, round: number): Promise<boolean> {
    const member = this.#c.members.get(node);
    if (member === undefined) return false;
    try {
      return await this.#fetch(member, piece, round);
    } catch (error) {
      this.#init.signal.throwIfAborted();
      if (isTidepoolError(error, 'PIECE_CORRUPT')) this.#c.members.setAside(node, describeError(error));
      this.#c.log.info({ node, piece, why: describeError(error) }, 'cannot take a piece that was read again');
      return false;
    }
  }

  /** True when this node has read the piece again itself, so that its own reading stands. */
  async #readHere(piece: number, round: number): Promise<boolean> {
    return (await this.#readBy(this.#c.members.self, piece, round)) !== undefined;
  }

  #ask(piece: number, round: number): PieceAsk {
    const { stored, target } = this.#init;
    const held = stored.claim(piece);
    return {
      key: stored.key,
      layout: stored.layout,
      piece,
      registry: target.registry,
      repository: target.repository,
      excluding: [],
      round,
      ...(held === undefined || round === 0 ? {} : { holding: Buffer.from(held.sha256).toString('hex') }),
      priority: 0,
    };
  }

  #once(piece: number, round: number): Promise<PieceClaim> {
    const id = `${round}:${piece}`;
    const found = this.#found.get(id);
    if (found !== undefined) return Promise.resolve(found);
    return this.#reading.run(id, async () => {
      const held = this.#init.stored.claim(piece);
      if (held?.reader === this.#c.members.self) {
        throw new TidepoolError(
          'PIECE_REFUSED',
          `${held.reader} has read piece ${piece} before: another must`,
        );
      }
      const { buffer, claim } = await this.#init.readAgain(piece);
      if (sameHash(held?.sha256, claim.sha256)) buffer.release();
      else await this.#replace(piece, buffer, claim, this.#c.members.self);
      this.#found.set(id, claim);
      return claim;
    });
  }

  async #replace(piece: number, buffer: PieceBuffer, claim: PieceClaim, giver: NodeName): Promise<void> {
    const { stored, senderOf } = this.#init;
    const held = stored.claim(piece);
    if (held !== undefined)
      this.#replaced.push({ piece, claim: held, sender: this.#givers.get(piece) ?? senderOf(piece) });
    this.#givers.set(piece, giver);
    if (stored.have.has(piece)) {
      this.#firstReplaced = Math.min(this.#firstReplaced, piece);
      await stored.drop([piece]);
    }
    await stored.write(piece, buffer, claim);
  }
}

function sameHash(one: Uint8Array | undefined, other: Uint8Array): boolean {
  return one !== undefined && Buffer.compare(one, other) === 0;
}

function everyPiece(stored: StoredBlob): number[] {
  return Array.from({ length: stored.layout.pieceCount }, (_, piece) => piece);
}

/** The name that stands most often; undefined for none. */
function mostNamed(names: readonly NodeName[]): NodeName | undefined {
  const counts = new Map<NodeName, number>();
  let most: NodeName | undefined;
  for (const name of names) {
    const count = (counts.get(name) ?? 0) + 1;
    counts.set(name, count);
    if (most === undefined || count > (counts.get(most) ?? 0)) most = name;
  }
  return most;
}
