import type { Clock } from '../../shared/clock.ts';
import { TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import type { PrefetchMessage } from '../../shared/wire/messages/prefetch.ts';
import type { Credentials } from '../origin/types.ts';

/** Where accounts for private images come from. */
export interface AccountSource {
  /** By the registry's host; they are good for this job alone. @throws TidepoolError HUB_UNREACHABLE … */
  of(
    job: Pick<PrefetchMessage, 'id' | 'generation'>,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, Credentials>>;
}

/** Registries that rotate their accounts do so within hours. */
const FRESH_MS = 10 * 60_000;

/** What there is for an image: an account, none because none is needed, or why there is none. */
export interface Found {
  readonly credentials: Credentials | undefined;
  readonly missing: TidepoolError | undefined;
}

/** The accounts of one job while it runs, in memory: asked for when the first image needs them, once for all. */
export class JobCredentials {
  readonly #c: { readonly clock: Clock; readonly accounts: AccountSource | undefined };
  #asked: { readonly at: number; readonly answer: Promise<ReadonlyMap<string, Credentials>> } | undefined;

  constructor(components: { readonly clock: Clock; readonly accounts: AccountSource | undefined }) {
    this.#c = components;
  }

  /**
   * Without an account the image is tried all the same: the pool may have it.
   * @throws the signal's reason
   */
  async find(job: PrefetchMessage, registry: string, signal: AbortSignal): Promise<Found> {
    const { accounts, clock } = this.#c;
    if (job.credentials !== true || accounts === undefined) {
      return { credentials: undefined, missing: undefined };
    }
    const now = clock.mono();
    if (this.#asked === undefined || now - this.#asked.at >= FRESH_MS) {
      this.#asked = { at: now, answer: accounts.of(job, signal) };
    }
    const asked = this.#asked;
    try {
      return { credentials: (await asked.answer).get(registry), missing: undefined };
    } catch (error) {
      if (this.#asked === asked) this.forget();
      signal.throwIfAborted();
      return { credentials: undefined, missing: toTidepoolError(error) };
    }
  }

  /** The next image asks anew: a registry has refused what there was. */
  forget(): void {
    this.#asked = undefined;
  }
}

/** Why an image that needs an account could not be had: the registry's refusal says less than what is missing. */
export function whyRefused(error: unknown, { missing }: Found): unknown {
  const isRefusal =
    error instanceof TidepoolError && (error.code === 'UNAUTHORIZED' || error.code === 'DENIED');
  return isRefusal && missing !== undefined ? missing : error;
}
