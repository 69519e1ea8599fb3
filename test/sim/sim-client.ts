import type { RepositoryName } from '../../edge/index/types.ts';
import { PIECE_STALL_MS, QUESTION_TIMEOUT_MS } from '../../edge/peers/constants.ts';
import type { Member, PeerClient, PieceAnswer } from '../../edge/peers/types.ts';
import type { PoolService } from '../../edge/transfer/pool-service.ts';
import { TidepoolError } from '../../shared/errors.ts';
import type { BlobKey, Digest } from '../../shared/ids.ts';
import { pieceLength } from '../../shared/pieces.ts';
import { sha256Of } from './byte-store.ts';
import { abortable, unreachable } from './wires.ts';
import type { SimNode, World } from './world.ts';

/** As the client over HTTP has it. */
const QUESTION_MS = 4 * QUESTION_TIMEOUT_MS;
const STALL_LOOK_MS = 500;

/** Calls the other node's service after a delay; bytes pass through both ports. */
export class SimClient implements PeerClient {
  readonly #world: World;
  readonly #node: SimNode;

  constructor(world: World, node: SimNode) {
    this.#world = world;
    this.#node = node;
  }

  async hello(address: string, signal: AbortSignal) {
    // A member that is gone is greeted for ever: that is no question left behind.
    const answer = this.#call(address, signal, (service) => service.hello());
    this.#world.questions--;
    return answer.finally(() => this.#world.questions++);
  }

  join(member: Member, request: Parameters<PeerClient['join']>[1], signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.join(this.#node.name, request));
  }

  async leave(member: Member, key: BlobKey, signal: AbortSignal): Promise<void> {
    await this.#call(member.address, signal, (service) => service.leave(this.#node.name, key));
  }

  progress(member: Member, key: BlobKey, name: RepositoryName, signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.progress(key, name));
  }

  claims(member: Member, key: BlobKey, name: RepositoryName, signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.claims(key, name));
  }

  async upstream(): Promise<never> {
    throw new TidepoolError('NOT_FOUND', 'no upstream pool here');
  }

  manifest(member: Member, digest: Digest, name: RepositoryName, signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.manifest(digest, name));
  }

  tags(member: Member, name: Parameters<PeerClient['tags']>[1], signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.tags(name));
  }

  holdings(member: Member, digests: readonly Digest[], name: RepositoryName, signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.holdings(digests, name));
  }

  size(member: Member, digest: Digest, name: RepositoryName, signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.size(digest, name));
  }

  async access(): Promise<never> {
    throw new TidepoolError('NOT_FOUND', 'everything is allowed here');
  }

  async grants(): Promise<never> {
    throw new TidepoolError('NOT_FOUND', 'everything is allowed here');
  }

  lease(member: Member, request: Parameters<PeerClient['lease']>[1], signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.lease(this.#node.name, request));
  }

  async piece(
    member: Member,
    ask: Parameters<PeerClient['piece']>[1],
    signal: AbortSignal,
    onBytes?: (count: number) => void,
  ): Promise<PieceAnswer> {
    const world = this.#world;
    const { value: served, target: sender } = await this.#reach(
      member.address,
      signal,
      (service) => service.piece(this.#node.name, ask, signal),
      true,
    );
    if (served.kind !== 'held') return served;
    const { stored, claim } = served;
    const bytes = pieceLength(ask.layout, ask.piece);
    const from = world.clock.mono();
    const through = Math.max(sender.up.reserve(bytes, from), this.#node.down.reserve(bytes, from));
    await abortable(world.clock.sleep(through - from), signal);
    if (sender.stalled) await abortable(world.clock.sleep(PIECE_STALL_MS), signal);
    if (sender.stalled) throw new TidepoolError('PEER_STALLED', 'no bytes of a begun piece');
    if (!world.reaches(sender, this.#node)) throw unreachable(member.address);
    onBytes?.(bytes);
    if (sender.sends === 'garbage')
      throw new TidepoolError('PIECE_CORRUPT', `piece ${ask.piece} differs from its sender's claim`);
    const buffer = await this.#node.store.receive(stored, ask.piece, sender.sends === 'lies');
    if (sender.sends !== 'lies') return { kind: 'bytes', buffer, claim };
    return { kind: 'bytes', buffer, claim: { ...claim, sha256: sha256Of(buffer.bytes) } };
  }

  async #call<T>(
    address: string,
    signal: AbortSignal,
    answer: (service: PoolService) => T | Promise<T>,
  ): Promise<T> {
    return (await this.#reach(address, signal, answer)).value;
  }

  /** Small messages may be late or lost; a dead node answers nothing, and its silence is noticed after a second. */
  async #reach<T>(
    address: string,
    signal: AbortSignal,
    answer: (service: PoolService) => T | Promise<T>,
    held = false,
  ): Promise<{ value: T; target: SimNode }> {
    const world = this.#world;
    world.questions++;
    try {
      const target = world.at(address);
      const delay = (): Promise<void> => world.clock.sleep(0.2 + world.random() * (world.init.jitterMs ?? 1));
      await abortable(delay(), signal);
      const lost = !held && world.random() < (world.init.loss ?? 0);
      if (target === undefined || !world.reaches(this.#node, target) || lost) {
        await abortable(world.clock.sleep(1_000), signal);
        throw unreachable(address);
      }
      // Pieces wait as long as their asker does; questions only so long.
      const patience = held ? Number.POSITIVE_INFINITY : world.clock.mono() + QUESTION_MS;
      while (target.stalled) {
        await abortable(world.clock.sleep(STALL_LOOK_MS), signal);
        if (!world.reaches(this.#node, target) || world.clock.mono() > patience) throw unreachable(address);
      }
      target.service.heard(this.#node.name, this.#node.address);
      const value = await abortable(Promise.resolve(answer(target.service)), signal, world.clock, () =>
        world.reaches(this.#node, target),
      );
      await abortable(delay(), signal);
      if (!world.reaches(this.#node, target)) throw unreachable(address);
      return { value, target };
    } finally {
      world.questions--;
    }
  }
}
