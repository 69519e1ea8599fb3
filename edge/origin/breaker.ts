import type { Clock } from '../../shared/clock.ts';
import { Backoff } from '../../shared/flow/backoff.ts';

/**
 * What went wrong: 'connect' (refused, no route, no name, connect timed out) says that the host is not there; 'answer' (no answer in
 * time, cut before one, stalled, a gateway's 502, 503 or 504) may be one request's bad luck.
 */
export type FailureKind = 'connect' | 'answer';

export type Admission =
  | { readonly kind: 'pass' }
  /** One request goes ahead to see whether the origin is back; it must end in exactly one of succeeded, failed or abandoned. */
  | { readonly kind: 'probe' }
  | { readonly kind: 'refused'; readonly since: number; readonly why: string; readonly retryInMs: number };

/** What keeps requests from an origin now. */
export interface OpenState {
  /** Ms since 1970. */
  readonly since: number;
  readonly why: string;
  /** Until the next request may try; 0 while one does, or may. */
  readonly retryInMs: number;
  readonly probing: boolean;
}

export interface BreakerInit {
  readonly baseMs?: number;
  readonly maxMs?: number;
  /** 'answer' failures in a row that open it. */
  readonly tolerated?: number;
  readonly random?: () => number;
}

type State =
  | { readonly kind: 'closed'; failures: number }
  | { readonly kind: 'open'; readonly since: number; why: string; probeAt: number; probing: boolean };

const MIN_PROBE_MS = 100;

/**
 * Circuit breaker of one origin, without I/O. Closed: all pass. Open: requests are refused at once, but one probe passes after each
 * back-off (1 s growing to 60 s, full jitter, so that a pool whose uplink returns does not knock as one). Any answer closes it.
 */
export class Breaker {
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  readonly #tolerated: number;
  #state: State = { kind: 'closed', failures: 0 };

  constructor(clock: Clock, init: BreakerInit = {}) {
    this.#clock = clock;
    this.#tolerated = init.tolerated ?? 3;
    this.#backoff = new Backoff({
      baseMs: init.baseMs ?? 1_000,
      maxMs: init.maxMs ?? 60_000,
      ...(init.random === undefined ? {} : { random: init.random }),
    });
  }

  /** Since when (ms since 1970) the origin has not answered; undefined while it does. */
  get since(): number | undefined {
    return this.#state.kind === 'open' ? this.#state.since : undefined;
  }

  /** Undefined while requests pass. */
  get open(): OpenState | undefined {
    const state = this.#state;
    if (state.kind === 'closed') return undefined;
    const { since, why, probing, probeAt } = state;
    return { since, why, probing, retryInMs: probing ? 0 : Math.max(0, probeAt - this.#clock.mono()) };
  }

  admit(): Admission {
    const state = this.#state;
    if (state.kind === 'closed') return { kind: 'pass' };
    const retryInMs = state.probeAt - this.#clock.mono();
    if (!state.probing && retryInMs <= 0) {
      state.probing = true;
      return { kind: 'probe' };
    }
    return { kind: 'refused', since: state.since, why: state.why, retryInMs: Math.max(0, retryInMs) };
  }

  succeeded(): void {
    this.#state = { kind: 'closed', failures: 0 };
    this.#backoff.reset();
  }

  /** @param admission what {@link admit} said for the request that failed */
  failed(admission: Admission, kind: FailureKind, why: string): void {
    const state = this.#state;
    if (state.kind === 'open') {
      // Requests that were under way when it opened say nothing new; only the probe moves the next try.
      if (admission.kind !== 'probe') return;
      state.why = why;
      state.probing = false;
      state.probeAt = this.#nextProbe();
      return;
    }
    state.failures++;
    if (kind === 'answer' && state.failures < this.#tolerated) return;
    this.#state = { kind: 'open', since: this.#clock.now(), why, probeAt: this.#nextProbe(), probing: false };
  }

  /** The request was called off by its caller and says nothing of the origin. */
  abandoned(admission: Admission): void {
    if (admission.kind === 'probe' && this.#state.kind === 'open') this.#state.probing = false;
  }

  #nextProbe(): number {
    return this.#clock.mono() + Math.max(MIN_PROBE_MS, this.#backoff.next());
  }
}
