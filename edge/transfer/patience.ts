import { type Clock, delay } from '../../shared/clock.ts';
import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import type { RepositoryName } from '../index/types.ts';
import type { RegistryOrigin } from '../origin/types.ts';
import type { Members } from '../peers/members.ts';
import type { PeerClient } from '../peers/types.ts';
import { askAll, within } from './ask-all.ts';
import {
  HEARSAY_AFTER_MS,
  HEARSAY_WAIT_MS,
  PATIENCE_MIN_MS,
  QUESTION_MS,
  TAG_WAIT_MS,
  WARM_SHARE,
} from './constants.ts';
import { withResolvers } from './flight.ts';
import type { RegistryPace } from './registry-pace.ts';

interface PatienceComponents {
  readonly origin: Pick<RegistryOrigin, 'downSince'>;
  readonly client: Pick<PeerClient, 'access'>;
  readonly members: Pick<Members, 'live' | 'suspect'>;
  readonly pace: Pick<RegistryPace, 'answered' | 'patienceMs' | 'heardAt'>;
  readonly clock: Clock;
}

/** Why a registry need not be waited for. */
export class Silence {
  readonly why: unknown;

  constructor(why: unknown) {
    this.why = why;
  }
}

export interface Question<T> {
  /** The registry's own word, however late within the bound. @throws what it says; what it is silent with */
  readonly answer: Promise<T>;
  /** The answer, or why it is not worth waiting for. @throws what the registry says, the signal's reason */
  readonly patient: Promise<T | Silence>;
  /** Resolves when the registry is slower than usual, with false when the answer is there first. Never rejects. */
  readonly quiet: Promise<boolean>;
}

export interface QuestionInit {
  /** Members that must say the same to be believed. */
  readonly quorum: number;
  /** Its caller's. Once the registry has been found silent the question goes on without: what comes of it is for those that follow. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Small questions to registries, and how long their silence is borne: no longer than some multiple of what the registry
 * took lately, as long as nothing at all comes over the WAN, here or at a neighbour. An uplink that is slow, or full, is
 * no silence. Neighbours' word ends the wait only, and only that of as many as may move a tag.
 */
export class Patience {
  readonly #c: PatienceComponents;

  constructor(components: PatienceComponents) {
    this.#c = components;
  }

  put<T>(name: RepositoryName, init: QuestionInit, ask: (signal: AbortSignal) => Promise<T>): Question<T> {
    const { clock } = this.#c;
    const caller = new AbortController();
    const over = new AbortController();
    const startedAt = clock.mono();
    const onAbort = (): void => caller.abort(init.signal?.reason);
    const release = (): void => init.signal?.removeEventListener('abort', onAbort);
    if (init.signal?.aborted === true) onAbort();
    else init.signal?.addEventListener('abort', onAbort, { once: true });
    const heard = (): void => this.#c.pace.answered(name.registry, clock.mono() - startedAt);
    const answer = within(clock, QUESTION_MS, caller.signal, ask)
      .then(
        (value) => {
          heard();
          return value;
        },
        (error: unknown) => {
          if (isWord(error)) heard();
          throw error;
        },
      )
      .finally(() => {
        release();
        over.abort(OVER);
      });
    const quiet = withResolvers<boolean>();
    over.signal.addEventListener('abort', () => quiet.resolve(false), { once: true });
    const silence = this.#silence(name, init.quorum, startedAt, quiet.resolve, over.signal);
    const silent = silence.then(
      (why) => {
        // From here on it is nobody's: its caller goes on without.
        release();
        return new Silence(why);
      },
      () => answer,
    );
    const patient = Promise.race([answer, silent]).catch((error: unknown) => {
      init.signal?.throwIfAborted();
      if (isSilence(error)) return new Silence(error);
      throw error;
    });
    answer.catch(() => undefined);
    patient.catch(() => undefined);
    return { answer, patient, quiet: quiet.promise };
  }

  /** Resolves with why the registry need not be waited for. @throws the signal's reason */
  async #silence(
    name: RepositoryName,
    quorum: number,
    startedAt: number,
    onQuiet: (quiet: boolean) => void,
    over: AbortSignal,
  ): Promise<TidepoolError> {
    const { clock, pace } = this.#c;
    const { registry } = name;
    const downSince = this.#c.origin.downSince(registry);
    if (downSince !== undefined) {
      const why = `it has not answered since ${new Date(downSince).toISOString()}`;
      return new TidepoolError('ORIGIN_UNREACHABLE', why);
    }
    let quietSince = startedAt;
    let shown = false;
    const own = pace.patienceMs(registry);
    let patience = own;
    for (let dueAt = startedAt + HEARSAY_AFTER_MS; ; ) {
      await delay(clock, Math.max(0, dueAt - clock.mono()), over);
      const told = await this.#hearsay(name, quorum, over);
      if (told.down !== undefined) return told.down;
      patience = own ?? told.patienceMs ?? patience ?? TAG_WAIT_MS;
      quietSince = Math.max(quietSince, pace.heardAt ?? 0, told.heardAt ?? 0);
      const now = clock.mono();
      const giveUpAt = Math.min(quietSince + patience, startedAt + TAG_WAIT_MS);
      if (now >= giveUpAt) {
        const seconds = ((now - quietSince) / 1000).toFixed(1);
        return new TidepoolError('ORIGIN_UNREACHABLE', `${registry} has not answered for ${seconds} s`);
      }
      const quietAt = quietSince + patience * WARM_SHARE;
      if (!shown && now >= quietAt) {
        shown = true;
        onQuiet(true);
      }
      dueAt = shown ? giveUpAt : Math.min(quietAt, giveUpAt);
    }
  }

  /** What neighbours say of the registry, and of their uplink. */
  async #hearsay(
    { registry, repository }: RepositoryName,
    quorum: number,
    signal: AbortSignal,
  ): Promise<{
    readonly down: TidepoolError | undefined;
    readonly patienceMs: number | undefined;
    readonly heardAt: number | undefined;
  }> {
    let lost = 0;
    const answers = await askAll(this.#c, this.#c.members.live(), HEARSAY_WAIT_MS, signal, {
      ask: (member, inner) => this.#c.client.access(member, { registry, repository }, inner),
      enough: ({ downSince }) => downSince !== undefined && ++lost >= quorum,
    });
    const now = this.#c.clock.mono();
    const down = answers
      .filter(({ value }) => value.downSince !== undefined)
      .map(({ member }) => member.node);
    const known = answers.flatMap(({ value }) => value.patienceMs ?? []).sort((a, b) => a - b);
    const agreed = known[quorum - 1];
    const heard = answers.flatMap(({ value }) => (value.heardMs === undefined ? [] : [now - value.heardMs]));
    return {
      down:
        down.length < quorum
          ? undefined
          : new TidepoolError(
              'ORIGIN_UNREACHABLE',
              `${registry} has not answered here, and ${down.join(', ')} cannot reach it either`,
            ),
      // So many say that it takes no longer.
      patienceMs: agreed === undefined ? undefined : Math.max(PATIENCE_MIN_MS, agreed),
      heardAt: heard.length === 0 ? undefined : Math.max(...heard),
    };
  }
}

const OVER = new Error('the question is over');

/** What the origin says is an answer; only its silence is an outage. */
export function isSilence(error: unknown): boolean {
  return (
    isTidepoolError(error, 'ORIGIN_UNREACHABLE') ||
    isTidepoolError(error, 'ORIGIN_ERROR') ||
    isTidepoolError(error, 'TIMEOUT')
  );
}

/** Refusals are answers too, and take as long. */
function isWord(error: unknown): boolean {
  return (
    isTidepoolError(error, 'UNAUTHORIZED') ||
    isTidepoolError(error, 'DENIED') ||
    isTidepoolError(error, 'MANIFEST_UNKNOWN') ||
    isTidepoolError(error, 'BLOB_UNKNOWN') ||
    isTidepoolError(error, 'NAME_UNKNOWN')
  );
}
