import { isTidepoolError } from '../../shared/errors.ts';
import { Cleanup } from './cleanup.ts';

const INTERRUPTED = 130;

/**
 * Runs a command that makes processes and directories, and takes them away again however it ends. Ctrl-C ends it and
 * cleans up; a second one does not make that any faster, because what would be left is worse than the wait.
 * @returns the exit code: the command's own, 1 when it failed, 130 when it was interrupted
 */
export async function interruptible(
  command: (cleanup: Cleanup, signal: AbortSignal) => Promise<number>,
): Promise<number> {
  const cleanup = new Cleanup();
  const controller = new AbortController();
  const { signal } = controller;
  const interrupt = (): void => {
    if (!signal.aborted) process.stderr.write('\ninterrupted: cleaning up\n');
    controller.abort(new Error('interrupted'));
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.on(name, interrupt);
  let code: number;
  try {
    code = await command(cleanup, signal);
  } catch (error) {
    code = 1;
    if (!signal.aborted) process.stderr.write(`failed: ${textOf(error)}\n`);
  } finally {
    for (const failure of await cleanup.run()) process.stderr.write(`left behind: ${failure}\n`);
    for (const name of signals) process.off(name, interrupt);
  }
  return signal.aborted ? INTERRUPTED : code;
}

/** An error that says what to do needs no stack. */
function textOf(error: unknown): string {
  if (isTidepoolError(error)) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
