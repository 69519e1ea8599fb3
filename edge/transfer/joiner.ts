import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { BlobKey, NodeName } from '../../shared/ids.ts';
import type { JoinRequest, OriginWord } from '../peers/types.ts';
import type { StoredBlob } from '../store/types.ts';
import { JOIN_WAIT_MS, REJOIN_MS, STARVED_MS, STARVED_TURNS } from './constants.ts';
import type { DownloadComponents } from './download-components.ts';
import { withResolvers } from './flight.ts';
import type { OriginTarget } from './origin-reader.ts';
import type { SwarmView } from './swarm-view.ts';

interface JoinerInit {
  readonly key: BlobKey;
  readonly stored: StoredBlob;
  readonly view: SwarmView;
  readonly target: OriginTarget;
  readonly weight: number;
  readonly closing: AbortSignal;
  readonly ranked: () => boolean;
  /** Packed: the pieces that others may ask this node for. */
  readonly have: () => Uint8Array;
  readonly claimed: () => number[];
  readonly origin: () => OriginWord | undefined;
}

/** Makes this node known to the members of a blob's swarm, and them to it. */
export class Joiner {
  readonly #c: DownloadComponents;
  readonly #i: JoinerInit;
  readonly #tried = new Map<NodeName, number>();

  constructor(components: DownloadComponents, init: JoinerInit) {
    this.#c = components;
    this.#i = init;
  }

  /**
   * Announces this node to every live member, and waits for their answers for a bounded time. When some do not answer, one of
   * the two is short of processor time: what those say of themselves, and what was announced here, lies unread. So the members
   * that did answer are asked once more, for themselves and for whom they have heard of.
   */
  async first(): Promise<void> {
    const live = this.#c.members.live().map((member) => member.node);
    if (await this.#inTime(this.announce(live))) return;
    await this.#inTime(
      this.announce(
        live.filter((node) => this.#i.view.knows(node)),
        true,
      ),
    );
  }

  async #inTime(work: Promise<void>): Promise<boolean> {
    const timeout = this.#deadline(JOIN_WAIT_MS);
    const inTime = await Promise.race([work.then(() => true), timeout.promise.then(() => false)]);
    timeout.clear();
    return inTime;
  }

  /** Live members that are not in the view yet, and have not been asked lately. */
  strangers(): NodeName[] {
    const now = this.#c.clock.mono();
    return this.#c.members
      .live()
      .map((member) => member.node)
      .filter(
        (node) =>
          !this.#i.view.knows(node) && now - (this.#tried.get(node) ?? Number.NEGATIVE_INFINITY) >= REJOIN_MS,
      );
  }

  /** A member announced itself: it need not be asked. */
  heard(node: NodeName): void {
    this.#tried.set(node, this.#c.clock.mono());
  }

  /** Takes this node out of the others' rankings. They would find out at their next ask; this spares them that ask. */
  async leave(): Promise<void> {
    const timeout = this.#deadline(JOIN_WAIT_MS);
    const leaves = this.#i.view.rankedNodes().map(async (node) => {
      const member = this.#c.members.get(node);
      if (member !== undefined)
        await this.#c.client.leave(member, this.#i.key, timeout.signal).catch(() => undefined);
    });
    await Promise.all(leaves);
    timeout.clear();
  }

  /** Says to every live member what this node does at the origin; those on the blob are waited for, as long as an answer may take. */
  async tell(): Promise<void> {
    const onBlob = this.#i.view.rankedNodes();
    const others = this.#c.members
      .live()
      .map((member) => member.node)
      .filter((node) => !onBlob.includes(node));
    void this.announce(others);
    await this.announce(onBlob);
  }

  async announce(nodes: readonly NodeName[], others = false): Promise<void> {
    this.#c.stats.joins++;
    const { layout } = this.#i.stored;
    const origin = this.#i.origin();
    const request: JoinRequest = {
      key: this.#i.key,
      size: layout.size,
      pieceSize: layout.pieceSize,
      registry: this.#i.target.registry,
      repository: this.#i.target.repository,
      ranked: this.#i.ranked(),
      weight: this.#i.weight,
      have: this.#i.have(),
      claimed: this.#i.claimed(),
      ...(others ? { others } : {}),
      ...(origin === undefined ? {} : { origin }),
    };
    await Promise.all(
      nodes.map(async (node) => {
        const member = this.#c.members.get(node);
        if (member === undefined) return;
        const sentAt = this.#c.clock.mono();
        this.#tried.set(node, sentAt);
        const timeout = this.#deadline(4 * JOIN_WAIT_MS);
        try {
          const answer = await this.#c.client.join(member, request, timeout.signal);
          this.#i.view.learn(node, { ...answer, ranked: answer.onBlob }, 'answer', sentAt);
          for (const other of answer.others ?? []) this.#i.view.hearOf(other);
        } catch (error) {
          // Only a failed connection says that it is gone; one that is late is asked again soon.
          if (isTidepoolError(error, 'PEER_UNREACHABLE')) this.#c.members.suspect(node, error);
        } finally {
          timeout.clear();
        }
      }),
    );
  }

  #deadline(ms: number): { signal: AbortSignal; promise: Promise<void>; clear: () => void } {
    const controller = new AbortController();
    const onClose = (): void => controller.abort(this.#i.closing.reason);
    this.#i.closing.addEventListener('abort', onClose, { once: true });
    const done = withResolvers<void>();
    let turns = 0;
    let cancel: () => void = () => undefined;
    const arm = (waitMs: number): void => {
      const dueAt = this.#c.clock.mono() + waitMs;
      cancel = this.#c.clock.after(waitMs, () => {
        if (this.#c.clock.mono() - dueAt > STARVED_MS && turns++ < STARVED_TURNS) {
          arm(JOIN_WAIT_MS);
          return;
        }
        controller.abort(new TidepoolError('TIMEOUT', `no answer in ${ms} ms`));
        done.resolve();
      });
    };
    arm(ms);
    return {
      signal: controller.signal,
      promise: done.promise,
      clear: () => {
        cancel();
        this.#i.closing.removeEventListener('abort', onClose);
      },
    };
  }
}
