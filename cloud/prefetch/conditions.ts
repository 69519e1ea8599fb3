import type { StatusCondition } from '../desired/types.ts';
import { toleranceOf } from './stage.ts';

/** Where a job stands before its nodes are counted. */
export type Phase =
  /** Something has to come first: a tag's digest, an hour, a node. */
  | { readonly kind: 'waiting'; readonly reason: string; readonly message: string }
  /** It cannot go on as it is written; mended, it goes on by itself. */
  | { readonly kind: 'failed'; readonly reason: string; readonly message: string }
  | { readonly kind: 'running'; readonly halted: boolean }
  /** A dry run that has its answer, or what it waits for. */
  | { readonly kind: 'answered'; readonly message: string };

export interface Counts {
  readonly desired: number;
  readonly active: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly skipped: number;
  readonly waiting: number;
  readonly offline: number;
}

export interface ConditionInput {
  readonly phase: Phase;
  readonly counts: Counts;
  readonly suspend: boolean;
  readonly failureTolerance: number | string | undefined;
  readonly completed: boolean;
  /** In words, what stands in the way of some of it. */
  readonly problems: readonly string[];
  /** Words to add where the job goes on. */
  readonly remark: string | undefined;
}

const TYPES = ['Complete', 'Failed', 'Suspended', 'Waiting', 'Progressing'] as const;
type Type = (typeof TYPES)[number];
type Word = Pick<StatusCondition, 'reason' | 'message'>;

const MAX_MESSAGE_CHARS = 1_000;
const FALSE_REASONS: Readonly<Record<Type, string>> = {
  Complete: 'NotComplete',
  Failed: 'NotFailed',
  Suspended: 'NotSuspended',
  Waiting: 'NotWaiting',
  Progressing: 'NotProgressing',
};

/** All five conditions; `lastTransitionTime` moves only where `status` does. */
export function conditionsOf(
  input: ConditionInput,
  before: readonly StatusCondition[],
  now: number,
): readonly StatusCondition[] {
  const words = trueOnes(input);
  return TYPES.map((type) => {
    const word = words[type];
    const status = word === undefined ? 'False' : 'True';
    const known = before.find((each) => each.type === type);
    return {
      type,
      status,
      reason: word?.reason ?? FALSE_REASONS[type],
      message: (word?.message ?? '').slice(0, MAX_MESSAGE_CHARS),
      lastTransitionTime: known?.status === status ? known.lastTransitionTime : new Date(now).toISOString(),
    };
  });
}

function trueOnes(input: ConditionInput): Partial<Record<Type, Word>> {
  const { phase, counts, suspend, completed } = input;
  const suspended = suspend
    ? { Suspended: { reason: 'Suspended', message: 'nothing is fetched until spec.suspend is taken back' } }
    : {};
  switch (phase.kind) {
    case 'failed':
      return { ...suspended, Failed: { reason: phase.reason, message: phase.message } };
    case 'waiting':
      return { ...suspended, Waiting: { reason: phase.reason, message: phase.message } };
    case 'answered':
      return { Complete: { reason: 'DryRun', message: phase.message } };
    case 'running':
      break;
  }
  const failure = failureOf(input, phase.halted);
  if (completed) {
    if (failure !== undefined) return { Failed: failure };
    const some = counts.failed > 0 ? `, ${counts.failed} failed, which failureTolerance allows` : '';
    const message = `${counts.succeeded + counts.skipped} of ${counts.desired} nodes are through${some}`;
    return { Complete: { reason: 'Complete', message } };
  }
  const failed = phase.halted && failure !== undefined ? { Failed: failure } : {};
  if (counts.desired === 0) {
    const message = input.problems.join('; ') || 'no node is selected yet';
    return { ...suspended, ...failed, Waiting: { reason: 'NoNodes', message } };
  }
  if (suspend) return { ...suspended, ...failed };
  const open = counts.active + counts.waiting;
  if (open === 0 && counts.offline > 0) {
    const message = `${counts.offline} of ${counts.desired} nodes are out of reach; they start when they are back`;
    return { ...failed, Waiting: { reason: 'NodesOffline', message } };
  }
  if (phase.halted) return failed;
  return { ...failed, Progressing: progressing(input, open) };
}

function progressing({ counts, remark, problems }: ConditionInput, open: number): Word {
  const through = counts.succeeded + counts.skipped;
  const parts = [
    `${through} of ${counts.desired} nodes are through`,
    ...(counts.failed > 0 ? [`${counts.failed} failed`] : []),
    ...(counts.offline > 0 ? [`${counts.offline} out of reach`] : []),
  ];
  const words = [parts.join(', '), ...problems, ...(remark === undefined ? [] : [remark])];
  return { reason: open > 0 ? 'Running' : 'UpToDate', message: words.join('; ') };
}

function failureOf({ counts, failureTolerance }: ConditionInput, halted: boolean): Word | undefined {
  const bearable = failureTolerance === undefined ? 0 : toleranceOf(failureTolerance, counts.desired);
  if (counts.failed <= bearable && !halted) return undefined;
  const many = `${counts.failed} of ${counts.desired} nodes failed`;
  if (failureTolerance === undefined) return { reason: 'NodesFailed', message: `${many}; see failedNodes` };
  return {
    reason: 'FailureToleranceExceeded',
    message: `${many}, failureTolerance is ${failureTolerance}: no further nodes are started; see failedNodes`,
  };
}
