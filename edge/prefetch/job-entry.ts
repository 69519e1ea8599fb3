import type { PrefetchMessage, PrefetchProgress } from '../../shared/wire/messages/prefetch.ts';
import type { Before, JobRun } from './job-run.ts';
import type { RoomWait } from './room-wait.ts';

/** A job as the runner has it. */
export interface Entry {
  job: PrefetchMessage;
  /** As last told; of an earlier life while there is no run. */
  progress: PrefetchProgress;
  run: JobRun | undefined;
  /** Of the run that was called off, until the next one begins. */
  before: Before | undefined;
  reportedAt: number;
  savedAt: number;
  cancelReport: (() => void) | undefined;
  /** Where it found the disk full: the times that it was run again for that, and the next look for room. */
  roomTries: number;
  roomWait: RoomWait | undefined;
}

export function newEntry(job: PrefetchMessage, progress: PrefetchProgress, roomTries = 0): Entry {
  return {
    job,
    progress,
    run: undefined,
    before: undefined,
    reportedAt: 0,
    savedAt: 0,
    cancelReport: undefined,
    roomTries,
    roomWait: undefined,
  };
}

/** Nothing further happens by itself. */
export function isOver(state: PrefetchProgress['state']): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'skipped';
}

/** Whether there is nothing new to do: the same generation, or the same work under another. */
export function isSame(a: PrefetchMessage, b: PrefetchMessage): boolean {
  return a.generation === b.generation || (a.work !== undefined && a.work === b.work);
}
