import { type Clock, every } from '../../shared/clock.ts';
import type { BlobKey } from '../../shared/ids.ts';
import type { RepositoryName } from '../index/types.ts';
import type { Member, PeerClient } from '../peers/types.ts';
import { DRIP_RATIO, HEDGE_FIRST_MS, HEDGE_POLL_MS, HEDGE_STILL_MS, HOLDER_STILL_MS } from './constants.ts';

interface HedgeWatchInit {
  readonly member: Member;
  readonly key: BlobKey;
  readonly target: RepositoryName;
  readonly piece: number;
  /** False for an ask to one that has the piece: it is queued behind others at worst. */
  readonly hedged: boolean;
  /** Bytes of the piece that have come in. */
  readonly received: () => number;
  /** When bytes of this blob last moved at all, as far as this node saw, monotonic ms. */
  readonly lastMovedElsewhere: () => number | undefined;
  /** How long pieces of the blob took that began after this moment, ms; undefined while too few did. */
  readonly medianSince: (begunAt: number) => number | undefined;
  /** The neighbour's count has moved. */
  readonly onMoved: () => void;
  readonly onStill: () => void;
  readonly onGone: (error: unknown) => void;
}

/** Made once: an error an ask, with its stack, costs more than the watching. */
const OVER = new Error('the watch is over');
/** Questions in a row that a neighbour may leave unanswered while it holds an ask. */
const MAX_SILENT = 2;

/**
 * Watches a held ask. It goes by the owner's progress, not by time: a queue on a thin uplink looks like a dead owner to a
 * clock. Only when the owner's count stands still while others' bytes move, or it answers no question, is it passed over.
 */
export class HedgeWatch {
  readonly #client: Pick<PeerClient, 'progress'>;
  readonly #clock: Clock;
  readonly #init: HedgeWatchInit;
  #cancel: () => void;
  /** Ends the question that is out. */
  #question: AbortController | undefined;
  #mark = '';
  #markedAt: number;
  readonly #startedAt: number;
  /** When bytes of the piece were first seen to come. */
  #begunAt: number | undefined;
  #silent = 0;
  #stopped = false;

  constructor(components: { client: Pick<PeerClient, 'progress'>; clock: Clock }, init: HedgeWatchInit) {
    this.#client = components.client;
    this.#clock = components.clock;
    this.#init = init;
    this.#markedAt = components.clock.mono();
    this.#startedAt = this.#markedAt;
    this.#cancel = this.#clock.after(HEDGE_FIRST_MS, () => {
      this.#cancel = every(this.#clock, HEDGE_POLL_MS, () => void this.#look());
      void this.#look();
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
    this.#question?.abort(OVER);
  }

  async #look(): Promise<void> {
    if (this.#init.received() > 0) {
      this.#judgeBegun();
      return;
    }
    if (this.#question !== undefined) return;
    if (!this.#init.hedged && this.#clock.mono() - this.#startedAt >= HOLDER_STILL_MS) {
      this.#init.onStill();
      return;
    }
    const question = new AbortController();
    this.#question = question;
    const cancel = this.#clock.after(HEDGE_STILL_MS, () => question.abort(OVER));
    try {
      const { pieces, originBytes } = await this.#client.progress(
        this.#init.member,
        this.#init.key,
        this.#init.target,
        question.signal,
      );
      this.#silent = 0;
      this.#judge(`${pieces.get(this.#init.piece) ?? `queued ${originBytes}`}`);
    } catch (error) {
      if (!this.#stopped && ++this.#silent >= MAX_SILENT) this.#init.onGone(error);
    } finally {
      cancel();
      this.#question = undefined;
    }
  }

  /** One that drips never stands still; but what began after it and is here tells how fast the wire is. */
  #judgeBegun(): void {
    const now = this.#clock.mono();
    this.#begunAt ??= now;
    const taken = now - this.#begunAt;
    if (taken < HOLDER_STILL_MS || this.#stopped) return;
    const median = this.#init.medianSince(this.#begunAt);
    if (median !== undefined && taken > DRIP_RATIO * median) this.#init.onStill();
  }

  #judge(mark: string): void {
    const now = this.#clock.mono();
    if (mark !== this.#mark) {
      this.#mark = mark;
      this.#markedAt = now;
      this.#init.onMoved();
      return;
    }
    const moved = this.#init.lastMovedElsewhere();
    const othersMove = moved !== undefined && now - moved < HEDGE_STILL_MS;
    if (this.#init.hedged && now - this.#markedAt >= HEDGE_STILL_MS && othersMove && !this.#stopped) {
      this.#init.onStill();
    }
  }
}
