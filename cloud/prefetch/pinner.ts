import type { Clock } from '../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { Backoff } from '../../shared/flow/backoff.ts';
import type { Digest } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import type { Logger } from '../../shared/log.ts';
import type { DesiredPrefetch, PullSecrets } from '../desired/types.ts';
import type { Account, RegistryReader } from '../registry/types.ts';

/** A registry that is out of reach is asked again, with full jitter within these. */
const UNREACHABLE = { baseMs: 2_000, maxMs: 5 * 60_000 };
/** An image that is not there, or not to be read, changes when a person does something. */
const REFUSED = { baseMs: 20_000, maxMs: 10 * 60_000 };

export interface PinProblem {
  readonly reason: 'RegistryUnreachable' | 'NeedsPullSecret' | 'ImageNotFound' | 'BadImage';
  readonly message: string;
}

export interface Pinning {
  /** Digest by image as the job names it; of those known so far. */
  readonly pins: ReadonlyMap<string, Digest>;
  /** True when every image has its digest. */
  readonly done: boolean;
  readonly problem: PinProblem | undefined;
}

export interface PinnerComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: RegistryReader;
  /** Absent where the hub reads no secrets. */
  readonly secrets?: PullSecrets | undefined;
}

interface Entry {
  readonly generation: number;
  readonly pins: Map<string, Digest>;
  readonly controller: AbortController;
  readonly unreachable: Backoff;
  readonly refused: Backoff;
  problem: PinProblem | undefined;
  asking: boolean;
  secretNames: string;
  cancel: (() => void) | undefined;
}

/** Finds out which digest each job's tags name, once a generation: asks, waits, asks again, and says what is in the way. */
export class Pinner {
  readonly #c: PinnerComponents;
  readonly #random: () => number;
  readonly #onChange: (id: string) => void;
  readonly #entries = new Map<string, Entry>();

  constructor(
    components: PinnerComponents,
    init: { readonly onChange: (id: string) => void; readonly random?: () => number },
  ) {
    this.#c = components;
    this.#random = init.random ?? Math.random;
    this.#onChange = init.onChange;
  }

  /**
   * Where the job stands; the first call of a generation starts asking.
   * @param known digests of an earlier life of the hub
   */
  want(job: DesiredPrefetch, generation: number, known: ReadonlyMap<string, Digest>): Pinning {
    const fixed = fixedPins(job, known);
    const missing = job.images.some(({ image }) => !fixed.has(image));
    if (!missing) {
      this.forget(job.id);
      return { pins: fixed, done: true, problem: undefined };
    }
    const entry = this.#entryOf(job, generation, fixed);
    const secretNames = (job.pullSecrets ?? []).join();
    if (entry.secretNames !== secretNames) {
      // What was refused may be readable now.
      entry.secretNames = secretNames;
      entry.cancel?.();
      entry.cancel = undefined;
    }
    if (!entry.asking && entry.cancel === undefined) void this.#ask(job, entry);
    return { pins: entry.pins, done: false, problem: entry.problem };
  }

  forget(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    entry.cancel?.();
    entry.controller.abort(new TidepoolError('ABORTED', 'the job is no more'));
  }

  /** Jobs that are no more are not asked for any longer. */
  retain(ids: ReadonlySet<string>): void {
    for (const id of [...this.#entries.keys()]) if (!ids.has(id)) this.forget(id);
  }

  stop(): void {
    this.retain(new Set());
  }

  /** The account that the job's secrets hold for a registry; undefined without one. Throws as {@link PullSecrets} does. */
  async account(
    names: readonly string[],
    registry: string,
    signal: AbortSignal,
  ): Promise<Account | undefined> {
    if (names.length === 0) return undefined;
    if (this.#c.secrets === undefined) {
      throw new TidepoolError(
        'NOT_FOUND',
        'this hub reads no pull secrets: they are there on Kubernetes only',
      );
    }
    return await this.#c.secrets.account(names, registry, signal);
  }

  #entryOf(job: DesiredPrefetch, generation: number, fixed: ReadonlyMap<string, Digest>): Entry {
    const known = this.#entries.get(job.id);
    if (known?.generation === generation) return known;
    this.forget(job.id);
    const entry: Entry = {
      generation,
      pins: new Map(fixed),
      controller: new AbortController(),
      unreachable: new Backoff({ ...UNREACHABLE, random: this.#random }),
      refused: new Backoff({ ...REFUSED, random: this.#random }),
      problem: undefined,
      asking: false,
      secretNames: (job.pullSecrets ?? []).join(),
      cancel: undefined,
    };
    this.#entries.set(job.id, entry);
    return entry;
  }

  /** Never rejects. One image after the other: the first that fails says what is in the way. */
  async #ask(job: DesiredPrefetch, entry: Entry): Promise<void> {
    entry.asking = true;
    const { signal } = entry.controller;
    let failure: TidepoolError | undefined;
    for (const { image } of job.images) {
      if (entry.pins.has(image)) continue;
      try {
        entry.pins.set(image, await this.#digest(job, image, signal));
      } catch (error) {
        if (signal.aborted) return;
        failure ??= toTidepoolError(error);
      }
    }
    entry.asking = false;
    if (this.#entries.get(job.id) !== entry) return;
    entry.problem = failure === undefined ? undefined : problemOf(failure, job);
    if (failure !== undefined) {
      const backoff = entry.problem?.reason === 'RegistryUnreachable' ? entry.unreachable : entry.refused;
      const waitMs = backoff.next();
      this.#c.log.warn({ prefetch: job.id, code: failure.code, waitMs }, describeError(failure));
      entry.cancel = this.#c.clock.after(waitMs, () => {
        entry.cancel = undefined;
        this.#onChange(job.id);
      });
    }
    this.#onChange(job.id);
  }

  async #digest(job: DesiredPrefetch, image: string, signal: AbortSignal): Promise<Digest> {
    const ref = parseImageRef(image);
    const account = await this.account(job.pullSecrets ?? [], ref.registry, signal);
    return await this.#c.registry.digest(ref, account, signal);
  }
}

/** Digests that need no question: written in the job, or known already. */
export function fixedPins(
  job: Pick<DesiredPrefetch, 'images'>,
  known: ReadonlyMap<string, Digest>,
): Map<string, Digest> {
  const pins = new Map<string, Digest>();
  for (const { image, digest } of job.images) {
    const pinned = digest ?? parseImageRef(image).digest ?? known.get(image);
    if (pinned !== undefined) pins.set(image, pinned);
  }
  return pins;
}

function problemOf(error: TidepoolError, job: DesiredPrefetch): PinProblem {
  const { code, message } = error;
  if (code === 'NAME_UNKNOWN' || code === 'MANIFEST_UNKNOWN') {
    const hint = 'check name and tag, or push it; the hub asks again by itself';
    return { reason: 'ImageNotFound', message: `${message}; ${hint}` };
  }
  if (code === 'INVALID_REFERENCE') return { reason: 'BadImage', message };
  if (code === 'UNAUTHORIZED' || code === 'DENIED' || code === 'NOT_FOUND') {
    const names = job.pullSecrets ?? [];
    const hint =
      names.length === 0
        ? "name a secret of type dockerconfigjson in the hub's namespace in spec.pullSecrets"
        : `see to the secrets that spec.pullSecrets names (${names.join(', ')})`;
    return {
      reason: 'NeedsPullSecret',
      message: `${message}; ${hint}. Nodes get no account from it: a private image comes only to nodes that can read it themselves`,
    };
  }
  const stuck = isTidepoolError(error, 'ORIGIN_LIED')
    ? 'the registry contradicts itself'
    : 'the job waits for it';
  return { reason: 'RegistryUnreachable', message: `${message}; ${stuck}, the hub asks again by itself` };
}
