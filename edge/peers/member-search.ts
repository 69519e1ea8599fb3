import { setMaxListeners } from 'node:events';
import { type Clock, every } from '../../shared/clock.ts';
import { Backoff } from '../../shared/flow/backoff.ts';
import {
  FIRST_PROBE,
  FIRST_PROBES,
  MAX_CANDIDATES,
  PROBE_INTERVAL_MS,
  QUESTION_TIMEOUT_MS,
} from './constants.ts';
import type { HelloAnswer, PeerClient } from './types.ts';

interface SearchComponents {
  readonly client: Pick<PeerClient, 'hello'>;
  readonly clock: Clock;
}

interface SearchInit {
  /** `host:port` that are greeted until somebody is known to be there. */
  readonly unnamed: readonly string[];
  /** Further addresses to greet each time: members that do not answer, or that are known by name only. */
  readonly due: () => Iterable<string>;
  readonly onAnswer: (address: string, answer: HelloAnswer) => void;
  readonly onSilence: (address: string, why: unknown) => void;
}

/** Greetings of addresses that an answer has named, one after another, before the next interval. */
const GREETING_ROUNDS = 3;

/** Greets addresses at which a neighbour may be, now and again. */
export class MemberSearch {
  readonly #client: SearchComponents['client'];
  readonly #clock: Clock;
  readonly #init: SearchInit;
  /** Addresses given by hand that no answer has named yet. */
  readonly #unnamed: Set<string>;
  /** Addresses that were named and have not been greeted yet. */
  readonly #candidates = new Set<string>();
  #cancel: (() => void) | undefined;
  #cancelAgain: (() => void) | undefined;
  #stopping = new AbortController();
  #greeting: Promise<void> | undefined;

  constructor(components: SearchComponents, init: SearchInit) {
    this.#client = components.client;
    this.#clock = components.clock;
    this.#init = init;
    this.#unnamed = new Set(init.unnamed);
  }

  start(): void {
    this.#stopping = new AbortController();
    // Each greeting listens.
    setMaxListeners(0, this.#stopping.signal);
    this.#cancel = every(this.#clock, PROBE_INTERVAL_MS, () => this.soon());
    this.soon();
    this.#again(new Backoff(FIRST_PROBE));
  }

  async stop(): Promise<void> {
    this.#cancel?.();
    this.#cancelAgain?.();
    this.#stopping.abort();
    await this.#greeting;
  }

  /** As many candidates as may wait are waiting. */
  get full(): boolean {
    return this.#candidates.size >= MAX_CANDIDATES;
  }

  /** Somebody may be there. */
  add(addresses: Iterable<string>): void {
    for (const address of addresses) this.#candidates.add(address);
    if (this.#candidates.size > 0) this.soon();
  }

  /** It is known who is there. */
  named(address: string): void {
    this.#unnamed.delete(address);
  }

  soon(): void {
    this.#greeting ??= this.#greetAll().finally(() => {
      this.#greeting = undefined;
    });
  }

  /** Two nodes that do not know of each other yet would both read the same pieces from the origin. */
  #again(backoff: Backoff): void {
    if (this.#unnamed.size === 0 || backoff.attempts >= FIRST_PROBES) return;
    this.#cancelAgain = this.#clock.after(backoff.next(), () => {
      this.soon();
      this.#again(backoff);
    });
  }

  async #greetAll(): Promise<void> {
    const addresses = new Set([...this.#unnamed, ...this.#init.due()]);
    for (let round = 0; round < GREETING_ROUNDS; round++) {
      for (const address of this.#candidates) addresses.add(address);
      this.#candidates.clear();
      if (addresses.size === 0 || this.#stopping.signal.aborted) return;
      await Promise.all([...addresses].map((address) => this.#greet(address)));
      addresses.clear();
    }
  }

  async #greet(address: string): Promise<void> {
    const controller = new AbortController();
    const cancel = this.#clock.after(QUESTION_TIMEOUT_MS, () =>
      controller.abort(new Error('no answer in time')),
    );
    const onStop = (): void => controller.abort(new Error('stopping'));
    this.#stopping.signal.addEventListener('abort', onStop, { once: true });
    try {
      this.#init.onAnswer(address, await this.#client.hello(address, controller.signal));
    } catch (error) {
      this.#init.onSilence(address, error);
    } finally {
      cancel();
      this.#stopping.signal.removeEventListener('abort', onStop);
    }
  }
}
