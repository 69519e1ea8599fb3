import type { Clock } from '../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { decodeState, emptyState, encodeState, type TrustState } from './trust-state.ts';
import type { Vault } from './types.ts';

/** What nobody waits for is written with the next change, or after this. */
const LAZY_MS = 5_000;

/**
 * The state of trust and its one copy outside of this process. A change is made at once and in one piece, so that two of
 * them never see the same use of a token; who waits for it knows then that it outlives a crash. Changes that come while
 * one is being written are written together.
 */
export class Ledger implements Startable {
  readonly name = 'trust ledger';
  readonly #c: { readonly clock: Clock; readonly log: Logger; readonly vault: Vault<string> };
  readonly #listeners = new Set<() => void>();
  #state: TrustState;
  #version: string | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #next: Promise<void> | undefined;
  #cancelLazy: (() => void) | undefined;

  constructor(components: { readonly clock: Clock; readonly log: Logger; readonly vault: Vault<string> }) {
    this.#c = components;
    this.#state = emptyState(components.clock.now());
  }

  /** To be read; changes go through {@link change}. */
  get state(): TrustState {
    return this.#state;
  }

  /** @throws TidepoolError STORE_CORRUPT, and what the vault throws */
  async start(): Promise<void> {
    await this.reload();
  }

  async stop(): Promise<void> {
    if (this.#cancelLazy !== undefined) await this.#flush().catch(() => undefined);
    await this.#last;
  }

  /** What another hub has written meanwhile counts. */
  async reload(): Promise<void> {
    const { clock, vault } = this.#c;
    const found = await vault.read();
    this.#version = found?.version;
    if (found === undefined) this.#state = emptyState(clock.now());
    else {
      try {
        this.#state = decodeState(found.content);
      } catch (error) {
        const message = `what is known of nodes' certificates, in ${vault.place}, cannot be read: ${describeError(error)}; restore it from a backup, because it says which keys are revoked`;
        throw new TidepoolError('STORE_CORRUPT', message, { cause: error });
      }
    }
    for (const listener of this.#listeners) listener();
  }

  /** Told when everything may be different. */
  onReload(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Makes a change now; resolves when it is durable.
   * @param mutate throws before it has changed anything, or not at all
   * @throws what `mutate` throws, HUB_UNREACHABLE when another hub has written meanwhile, what the vault throws
   */
  async change<R>(mutate: (state: TrustState) => R): Promise<R> {
    const result = mutate(this.#state);
    await this.#flush();
    return result;
  }

  /** A change that may be lost in a crash. */
  lazily(mutate: (state: TrustState) => void): void {
    mutate(this.#state);
    const { clock, log } = this.#c;
    this.#cancelLazy ??= clock.after(LAZY_MS, () => {
      this.#flush().catch((error: unknown) => {
        log.warn({ reason: describeError(error) }, 'which certificates are in use could not be saved');
      });
    });
  }

  #flush(): Promise<void> {
    this.#cancelLazy?.();
    this.#cancelLazy = undefined;
    this.#next ??= this.#last.then(() => {
      this.#next = undefined;
      return this.#write();
    });
    this.#last = this.#next.catch(() => undefined);
    return this.#next;
  }

  async #write(): Promise<void> {
    try {
      this.#version = await this.#c.vault.write(encodeState(this.#state), this.#version);
    } catch (error) {
      if (!isTidepoolError(error, 'CONFLICT')) throw error;
      await this.reload();
      const message = `another hub has changed ${this.#c.vault.place} meanwhile; try again`;
      throw new TidepoolError('HUB_UNREACHABLE', message, { cause: error });
    }
  }
}
