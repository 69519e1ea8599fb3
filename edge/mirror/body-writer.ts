import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { raceAbort } from '../../shared/flow/single-flight.ts';
import type { Lease } from '../store/types.ts';
import type { BlobView } from '../transfer/types.ts';
import { CROWDED_CLIENT_MS, MAX_LENT_LEASES } from './constants.ts';
import type { Exchange } from './exchange.ts';
import type { BodyPart, BodyPlan } from './multipart.ts';

export interface BodyWriterInit {
  readonly stallMs: number;
  readonly slowClientMs: number;
}

export interface BodyHead {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number>>;
}

/**
 * Writes ranges of one blob as the body of one response. The bytes are never copied: a lease goes to the socket as it is
 * and goes back when the socket has taken it, or has died. The header waits for the first lease, so that what fails
 * before it is still told in words.
 */
export class BodyWriter {
  readonly #clock: Clock;
  readonly #exchange: Exchange;
  readonly #view: BlobView;
  readonly #init: BodyWriterInit;
  readonly #isCrowded: () => boolean;
  readonly #lent = new Set<Lease>();
  #awaitingContent = false;
  #cancelTimer: (() => void) | undefined;
  /** When the timer is due, and when something was done last, monotonic ms. */
  #dueAt = 0;
  #steppedAt = 0;
  #wake: (() => void) | undefined;
  #closed = false;

  /** @param isCrowded others wait for what this one holds */
  constructor(
    components: { clock: Clock; exchange: Exchange; view: BlobView },
    init: BodyWriterInit,
    isCrowded: () => boolean,
  ) {
    this.#isCrowded = isCrowded;
    this.#clock = components.clock;
    this.#exchange = components.exchange;
    this.#view = components.view;
    this.#init = init;
    // A write that node drops on a dead socket gets no callback; its lease comes back here.
    void this.#exchange.over.then(() => {
      for (const lease of this.#lent) this.#giveBack(lease, false);
    });
  }

  /**
   * Resolves when all bytes are with the system.
   * @throws TidepoolError what the content says, TIMEOUT after a stall, the signal's reason; the response may have begun
   */
  async send(head: BodyHead, plan: BodyPlan, mode: 'whole' | 'range'): Promise<void> {
    const { response } = this.#exchange;
    try {
      for (const part of plan.parts) await this.#sendPart(head, part, mode);
      if (!response.headersSent) response.writeHead(head.status, head.headers);
      response.end(plan.suffix);
      while (this.#lent.size > 0) await this.#someReturned();
      await this.#exchange.ended();
    } finally {
      this.#closed = true;
      this.#cancelTimer?.();
    }
  }

  async #sendPart(head: BodyHead, part: BodyPart, mode: 'whole' | 'range'): Promise<void> {
    const { response, signal } = this.#exchange;
    const { start, end } = part;
    const leases = this.#view.read({ start, end, mode, signal })[Symbol.asyncIterator]();
    let left = end - start;
    let { prefix } = part;
    try {
      // An empty blob is read too: the content may have something to say against it.
      while (left > 0 || start === end) {
        const next = await this.#next(leases);
        if (next.done === true) break;
        const lease = next.value;
        if (lease.bytes.length > left) {
          lease.release();
          throw new TidepoolError('INTERNAL', `more bytes than asked for from ${start} to ${end}`);
        }
        left -= lease.bytes.length;
        if (!response.headersSent) response.writeHead(head.status, head.headers);
        if (prefix !== undefined) response.write(prefix);
        prefix = undefined;
        this.#lend(lease);
        if (this.#lent.size >= MAX_LENT_LEASES) await this.#someReturned();
      }
    } finally {
      // Not awaited: a reader that hangs must not keep the exchange. What it fails with now concerns nobody any more.
      leases.return?.().catch(() => undefined);
    }
    if (left > 0) throw new TidepoolError('INTERNAL', `the content ended ${left} bytes before ${end}`);
  }

  async #next(leases: AsyncIterator<Lease>): Promise<IteratorResult<Lease>> {
    const pending = leases.next();
    this.#awaitingContent = true;
    this.#watch();
    try {
      return await raceAbort(pending, this.#exchange.signal);
    } catch (error) {
      // Left before it came: a lease that still arrives goes straight back; a failure was or is told by `error`.
      pending.then(
        (late) => {
          if (late.done !== true) late.value.release();
        },
        () => undefined,
      );
      throw error;
    } finally {
      this.#awaitingContent = false;
      this.#watch();
    }
  }

  #lend(lease: Lease): void {
    this.#lent.add(lease);
    this.#exchange.response.write(lease.bytes, (error) => {
      this.#giveBack(lease, error === undefined || error === null);
    });
    this.#watch();
  }

  #giveBack(lease: Lease, taken: boolean): void {
    if (!this.#lent.delete(lease)) return;
    if (taken) this.#exchange.sent(lease.bytes.length);
    lease.release();
    this.#wake?.();
    this.#watch();
  }

  /** Resolves when one of the leases lent out is back. @throws the signal's reason */
  #someReturned(): Promise<void> {
    return raceAbort(
      new Promise<void>((resolve) => {
        this.#wake = resolve;
      }),
      this.#exchange.signal,
    );
  }

  /**
   * Starts the watch anew after each step. While bytes lie with the socket the client is the slow one, and may be for
   * long; when it has taken all and waits, the content has to bring some, or show that it gets on. A timer that is due
   * early enough is left as it is, and looks again when it has fired: there are several steps a piece.
   */
  #watch(): void {
    if (this.#closed || this.#exchange.signal.aborted) {
      this.#cancelTimer?.();
      this.#cancelTimer = undefined;
      return;
    }
    const { slowClientMs, stallMs } = this.#init;
    this.#steppedAt = this.#clock.mono();
    if (this.#lent.size > 0) this.#look(Math.min(CROWDED_CLIENT_MS, slowClientMs));
    else if (this.#awaitingContent) this.#look(stallMs);
  }

  /** Looks after `ms`, or before. */
  #look(ms: number): void {
    const dueAt = this.#clock.mono() + ms;
    if (this.#cancelTimer !== undefined && this.#dueAt <= dueAt) return;
    this.#cancelTimer?.();
    this.#dueAt = dueAt;
    this.#cancelTimer = this.#clock.after(ms, () => {
      this.#cancelTimer = undefined;
      if (this.#closed || this.#exchange.signal.aborted) return;
      if (this.#lent.size > 0) this.#watchClient();
      else if (this.#awaitingContent) this.#watchContent();
    });
  }

  #watchClient(): void {
    const { slowClientMs } = this.#init;
    const idleMs = this.#clock.mono() - this.#steppedAt;
    if (idleMs >= slowClientMs || (idleMs >= CROWDED_CLIENT_MS && this.#isCrowded())) {
      this.#giveUp('client', idleMs);
      return;
    }
    this.#look(Math.min(CROWDED_CLIENT_MS - (idleMs % CROWDED_CLIENT_MS), slowClientMs - idleMs));
  }

  #watchContent(): void {
    const { stallMs } = this.#init;
    const movedAt = this.#view.progressAt?.() ?? this.#steppedAt;
    const idleMs = this.#clock.mono() - Math.max(this.#steppedAt, movedAt);
    if (idleMs >= stallMs) this.#giveUp('content', stallMs);
    else this.#look(stallMs - idleMs);
  }

  #giveUp(who: 'client' | 'content', idleMs: number): void {
    const seconds = Math.round(idleMs / 1000);
    const message =
      who === 'client'
        ? `the client has taken no byte for ${seconds} s`
        : `no byte has come for ${seconds} s, neither from a member nor from the origin`;
    this.#exchange.abort(new TidepoolError('TIMEOUT', message, { details: { waitingFor: who } }));
  }
}
