import type { Clock } from '../../shared/clock.ts';
import { describeError, type ErrorCode, isTidepoolError, type TidepoolError } from '../../shared/errors.ts';
import { Backoff } from '../../shared/flow/backoff.ts';
import type { Logger } from '../../shared/log.ts';
import type { EnrolmentCredential } from '../settings.ts';
import {
  COMPLAIN_MS,
  ENROL_BACKOFF,
  LOOK_MS,
  RENEW_AFTER,
  RENEW_BACKOFF,
  RENEW_JITTER,
} from './constants.ts';
import type { Enrolment } from './enrolment.ts';
import { isAnswer } from './hub-client.ts';
import type { IdentityBook, Own } from './identity-book.ts';

interface KeeperComponents {
  readonly book: IdentityBook;
  /** Undefined where no hub is known. */
  readonly enrolment: Pick<Enrolment, 'enrol' | 'renew'> | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly random: () => number;
  /** The hub does not want this node, and asking again would not change that. */
  readonly onRefused: (error: TidepoolError) => void;
}

interface KeeperInit {
  /** What there is to be enrolled with. */
  readonly credential: EnrolmentCredential['kind'] | undefined;
}

/** Answers that asking again does not change. Who poses as the hub is not among them: he may go away. */
const FINAL: readonly ErrorCode[] = [
  'TOKEN_REFUSED',
  'CONFLICT',
  'INVALID_ARGUMENT',
  'INVALID_CONFIG',
  'DENIED',
];

export function isFinal(error: unknown, credential: EnrolmentCredential['kind']): error is TidepoolError {
  // The cluster gives a new token, and a node its label, while the agent waits.
  if (credential === 'service-account') return false;
  return FINAL.some((code) => isTidepoolError(error, code));
}

function isShutOut(error: TidepoolError): boolean {
  return isTidepoolError(error, 'NOT_ENROLLED') || isTidepoolError(error, 'CERTIFICATE_REFUSED');
}

/** Sees to it that this node has a certificate, and has the next one in time. */
export class CertificateKeeper {
  readonly #c: KeeperComponents;
  readonly #credential: KeeperInit['credential'];
  #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  #asked: string | undefined;
  /** What was asked for and has not come to be. */
  #owed: string | undefined;
  #lastError: string | null = null;
  #complainedAt = Number.NEGATIVE_INFINITY;
  /** When the certificate at hand is due; with its own share of jitter. */
  #due: { readonly serial: string; readonly at: number } | undefined;

  constructor(components: KeeperComponents, init: KeeperInit) {
    this.#c = components;
    this.#credential = init.credential;
  }

  get lastError(): string | null {
    return this.#lastError;
  }

  /** Trusted time; undefined without a certificate. */
  get renewAt(): number | undefined {
    const { own } = this.#c.book;
    return own === undefined ? undefined : this.#dueOf(own);
  }

  start(): void {
    this.#stopping = new AbortController();
    this.#running = this.#run(this.#stopping.signal);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the agent is stopping'));
    await this.#running;
  }

  /** The hub, or a listener of this node, wants the next certificate now. */
  renewSoon(why: string): void {
    this.#asked = why;
    this.#wake?.();
  }

  /** Never rejects. */
  async #run(signal: AbortSignal): Promise<void> {
    const { book, enrolment, log } = this.#c;
    const credential = this.#credential;
    if (enrolment === undefined || (book.own === undefined && credential === undefined)) return;
    const enrolling = new Backoff({ ...ENROL_BACKOFF, random: this.#c.random });
    const renewing = new Backoff({ ...RENEW_BACKOFF, random: this.#c.random });
    while (!signal.aborted) {
      const { own } = book;
      if (own === undefined) {
        const error = await this.#attempt(() => enrolment.enrol(signal), signal);
        if (error === undefined || signal.aborted) continue;
        if (credential !== undefined && isFinal(error, credential)) {
          this.#c.onRefused(error);
          return;
        }
        const waitMs = enrolling.next();
        log.warn(
          { reason: this.#lastError, retryInMs: Math.round(waitMs) },
          'this node is not enrolled yet: its mirror works alone, without neighbours and hub',
        );
        await this.#wait(waitMs, signal);
        continue;
      }
      const leftMs = this.#dueOf(own) - book.time.now();
      book.keepTime();
      this.#owed = this.#asked ?? this.#owed;
      this.#asked = undefined;
      if (leftMs > 0 && this.#owed === undefined && book.isGood) {
        renewing.reset();
        await this.#wait(Math.min(leftMs, LOOK_MS), signal);
        continue;
      }
      const why = this.#owed ?? 'its time has come';
      let error = await this.#attempt(() => enrolment.renew(signal), signal);
      // A hub that has lost its book, or a node that was away for too long: whoever may come in may come in again.
      if (isAnswer(error) && isShutOut(error) && credential !== undefined) {
        error = await this.#attempt(() => enrolment.enrol(signal), signal);
      }
      if (error === undefined || signal.aborted) {
        this.#owed = undefined;
        if (error === undefined)
          log.info({ why, pool: book.own?.pool, keyId: book.own?.keyId }, 'certificate renewed');
        continue;
      }
      const waitMs = Math.max(1_000, renewing.next());
      this.#complain(own, waitMs);
      await this.#wait(waitMs, signal);
    }
  }

  async #attempt(act: () => Promise<void>, signal: AbortSignal): Promise<unknown> {
    try {
      await act();
      this.#lastError = null;
      return undefined;
    } catch (error) {
      if (!signal.aborted) this.#lastError = describeError(error);
      return error ?? new Error('unknown');
    }
  }

  /** A hub out of reach is nothing to worry about until the end comes near. */
  #complain(own: Own, waitMs: number): void {
    const { book, clock, log } = this.#c;
    const facts = {
      reason: this.#lastError,
      notAfter: new Date(own.notAfter).toISOString(),
      retryInMs: Math.round(waitMs),
    };
    if (book.time.now() <= own.notAfter) {
      log.info(facts, 'the certificate could not be renewed yet');
      return;
    }
    const now = clock.mono();
    if (now - this.#complainedAt < COMPLAIN_MS) return;
    this.#complainedAt = now;
    log.warn(
      facts,
      book.isGood
        ? "this node's certificate has ended; neighbours take it within the grace (trust.grace), and it is renewed when the hub can be reached"
        : "this node's certificate has ended and so has the grace, or this node's clock is ahead: only the hub can let it in again",
    );
  }

  #dueOf(own: Own): number {
    if (this.#due?.serial !== own.serial) {
      const life = own.notAfter - own.notBefore;
      const part = RENEW_AFTER + RENEW_JITTER * this.#c.random();
      this.#due = { serial: own.serial, at: own.notBefore + life * part };
    }
    return this.#due.at;
  }

  #wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        cancel();
        signal.removeEventListener('abort', done);
        this.#wake = undefined;
        resolve();
      };
      const cancel = this.#c.clock.after(ms, done);
      this.#wake = done;
      if (signal.aborted || this.#asked !== undefined) done();
      else signal.addEventListener('abort', done, { once: true });
    });
  }
}
