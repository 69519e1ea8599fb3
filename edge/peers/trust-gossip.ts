import { type Clock, every } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { QUESTION_TIMEOUT_MS } from './constants.ts';
import type { Members } from './members.ts';
import type { Member } from './types.ts';

/** How often a node asks one neighbour, drawn by lot, whether the hub has said something that it has missed. */
const INTERVAL_MS = 5 * 60_000;
/** After the start neighbours are yet to be met. */
const FIRST_MS = 15_000;

interface TrustGossipComponents {
  readonly members: Pick<Members, 'live'>;
  readonly client: { trust(member: Member, signal: AbortSignal): Promise<Uint8Array | undefined> };
  /** Takes what the hub has signed, and nothing else. True when it was news. @throws TidepoolError for anything else */
  readonly take: (signed: Uint8Array) => boolean;
  readonly clock: Clock;
  readonly log: Logger;
  /** In [0, 1). */
  readonly random: () => number;
}

/**
 * A member that was away, or that the hub does not reach, learns from a neighbour which keys have been revoked. The
 * neighbour carries the hub's own signed message: it can keep it back, and cannot change it.
 */
export class TrustGossip implements Startable {
  readonly name = 'trust gossip';
  readonly #c: TrustGossipComponents;
  #cancels: (() => void)[] = [];
  #stopping = new AbortController();
  #asking: Promise<void> | undefined;

  constructor(components: TrustGossipComponents) {
    this.#c = components;
  }

  start(): Promise<void> {
    this.#stopping = new AbortController();
    const { clock, random } = this.#c;
    const soon = (): void => {
      this.#asking ??= this.ask().finally(() => {
        this.#asking = undefined;
      });
    };
    this.#cancels = [
      clock.after(FIRST_MS * (0.5 + random()), soon),
      every(clock, INTERVAL_MS * (0.75 + random() / 2), soon),
    ];
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    for (const cancel of this.#cancels.splice(0)) cancel();
    this.#stopping.abort(new Error('the agent is stopping'));
    await this.#asking;
  }

  /** Asks one neighbour. Never rejects. */
  async ask(): Promise<void> {
    const { clock, client, log, members, random, take } = this.#c;
    const live = members.live();
    const member = live[Math.floor(random() * live.length)];
    if (member === undefined) return;
    const late = new AbortController();
    const cancel = clock.after(QUESTION_TIMEOUT_MS, () => late.abort(new Error('no answer in time')));
    try {
      const signed = await client.trust(member, AbortSignal.any([this.#stopping.signal, late.signal]));
      if (signed !== undefined && take(signed))
        log.info({ node: member.node }, 'a neighbour has told news of whom to trust');
    } catch (error) {
      log.debug({ node: member.node, reason: describeError(error) }, 'no news of whom to trust');
    } finally {
      cancel();
    }
  }
}
