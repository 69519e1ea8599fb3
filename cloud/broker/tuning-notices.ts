import type { Clock } from '../../shared/clock.ts';
import { TUNING_CONFIG_MAP } from '../desired/documents.ts';
import type { Feedback, Problem } from '../desired/types.ts';

/** A problem that stays is said again: the first time this hub may not have been the one that leads. */
const REPEAT_MS = 5 * 60_000;
/** Problems that are said; the API has all. */
const MAX_SAID = 20;

const SUBJECT = { kind: 'ConfigMap', name: TUNING_CONFIG_MAP } as const;

/** Tells whoever wrote the tuning what is wrong with it, where they wrote it, and when it is in force again. */
export class TuningNotices {
  readonly #c: { readonly clock: Clock; readonly feedback: Pick<Feedback, 'notice'> | undefined };
  #said = new Map<string, number>();

  constructor(components: {
    readonly clock: Clock;
    readonly feedback: Pick<Feedback, 'notice'> | undefined;
  }) {
    this.#c = components;
  }

  /** @param problems all that there are now */
  tell(problems: readonly Problem[]): void {
    const { clock, feedback } = this.#c;
    if (feedback === undefined) return;
    const now = clock.mono();
    const before = this.#said;
    this.#said = new Map();
    for (const { message } of problems.slice(0, MAX_SAID)) {
      const at = before.get(message);
      const again = at === undefined || now - at >= REPEAT_MS;
      if (again) feedback.notice(SUBJECT, 'Warning', 'TuningProblem', message);
      this.#said.set(message, again ? now : at);
    }
    if (problems.length === 0 && before.size > 0) {
      feedback.notice(SUBJECT, 'Normal', 'TuningSound', 'every entry is in force again');
    }
  }
}
