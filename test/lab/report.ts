import { type Check, type Figures, round } from './checks.ts';

export interface Outcome {
  readonly scenario: string;
  readonly status: 'passed' | 'failed' | 'skipped';
  /** Seconds. */
  readonly took: number;
  /** The machine's load average over the last minute when it began: figures of time from a busy machine say little. */
  readonly load: number;
  readonly figures?: Figures;
  readonly checks?: readonly Check[];
  /** Why it was skipped, or the error that ended it. */
  readonly reason?: string;
}

/** One JSON line to standard output; verdicts of the checks to a person. */
export function printOutcome(outcome: Outcome, progress: (text: string) => void): void {
  console.log(
    JSON.stringify(outcome, (_key, value: unknown) => (typeof value === 'number' ? round(value) : value)),
  );
  for (const check of outcome.checks ?? []) {
    progress(`   ${check.ok ? 'ok  ' : 'FAIL'} ${check.name}: ${check.found} (wanted ${check.wanted})`);
  }
  if (outcome.status === 'skipped') progress(`   skipped: ${outcome.reason}`);
  else
    progress(
      `   ${outcome.status} in ${Math.round(outcome.took)} s${outcome.reason === undefined ? '' : `: ${outcome.reason}`}`,
    );
}
