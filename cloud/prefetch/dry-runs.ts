import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { Backoff } from '../../shared/flow/backoff.ts';
import type { DryRunStatus } from '../desired/types.ts';

const RETRY = { baseMs: 5_000, maxMs: 5 * 60_000 };

interface Entry {
  readonly generation: number;
  readonly controller: AbortController;
  readonly backoff: Backoff;
  result: DryRunStatus | undefined;
  problem: string | undefined;
  asking: boolean;
  cancel: (() => void) | undefined;
}

/** Answers dry runs, once a generation; what cannot be answered now is tried again. */
export class DryRuns {
  readonly #clock: Clock;
  readonly #onChange: () => void;
  readonly #random: () => number;
  readonly #entries = new Map<string, Entry>();

  constructor(
    components: { readonly clock: Clock },
    init: { readonly onChange: () => void; readonly random?: () => number },
  ) {
    this.#clock = components.clock;
    this.#onChange = init.onChange;
    this.#random = init.random ?? Math.random;
  }

  /** The answer, or why there is none yet; the first call of a generation starts the work. */
  want(
    id: string,
    generation: number,
    work: (signal: AbortSignal) => Promise<DryRunStatus>,
  ): { readonly result: DryRunStatus | undefined; readonly problem: string | undefined } {
    let entry = this.#entries.get(id);
    if (entry === undefined || entry.generation !== generation) {
      this.forget(id);
      entry = {
        generation,
        controller: new AbortController(),
        backoff: new Backoff({ ...RETRY, random: this.#random }),
        result: undefined,
        problem: undefined,
        asking: false,
        cancel: undefined,
      };
      this.#entries.set(id, entry);
    }
    if (entry.result === undefined && !entry.asking && entry.cancel === undefined)
      void this.#work(entry, work);
    return { result: entry.result, problem: entry.problem };
  }

  forget(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    entry.cancel?.();
    entry.controller.abort(new TidepoolError('ABORTED', 'the dry run is not wanted any more'));
  }

  retain(ids: ReadonlySet<string>): void {
    for (const id of [...this.#entries.keys()]) if (!ids.has(id)) this.forget(id);
  }

  /** Never rejects. */
  async #work(entry: Entry, work: (signal: AbortSignal) => Promise<DryRunStatus>): Promise<void> {
    entry.asking = true;
    const { signal } = entry.controller;
    try {
      entry.result = await work(signal);
      entry.problem = undefined;
    } catch (error) {
      if (signal.aborted) return;
      entry.problem = describeError(error);
      entry.cancel = this.#clock.after(entry.backoff.next(), () => {
        entry.cancel = undefined;
        this.#onChange();
      });
    } finally {
      entry.asking = false;
    }
    if (!signal.aborted) this.#onChange();
  }
}
