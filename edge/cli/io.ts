/** What a command sees of its surroundings; tests give their own. */
import type { Clock } from '../../shared/clock.ts';
import type { Machine } from '../config/load-settings.ts';

export interface Output {
  write(text: string | Uint8Array): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export interface CliIo {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly machine: Machine;
  readonly clock: Clock;
  /** Aborts when the person, or the system, wants the command to end. */
  readonly signal: AbortSignal;
}

export const EXIT = { ok: 0, failed: 1, usage: 2, unknown: 3 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];
