import { setMaxListeners } from 'node:events';
import type { Clock } from '../../shared/clock.ts';
import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { raceAbort } from '../../shared/flow/single-flight.ts';
import type { Members } from '../peers/members.ts';
import type { Member } from '../peers/types.ts';

/** Runs `job` for at most `ms`. @throws TidepoolError TIMEOUT, or the outer signal's reason */
export async function within<T>(
  clock: Clock,
  ms: number,
  signal: AbortSignal | undefined,
  job: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  const cancel = clock.after(ms, () =>
    controller.abort(new TidepoolError('TIMEOUT', `no answer within ${ms} ms`)),
  );
  try {
    return await raceAbort(job(controller.signal), controller.signal);
  } finally {
    cancel();
    signal?.removeEventListener('abort', onAbort);
  }
}

/**
 * Puts one small question to members at the same time; ends when all have answered, one answer is enough, or the time is
 * up. Members that do not answer are left out; those whose connection failed are suspects from then on.
 */
export async function askAll<T>(
  components: { readonly clock: Clock; readonly members: Pick<Members, 'suspect'> },
  members: readonly Member[],
  ms: number,
  signal: AbortSignal | undefined,
  question: { ask: (member: Member, signal: AbortSignal) => Promise<T>; enough: (answer: T) => boolean },
): Promise<{ member: Member; value: T }[]> {
  const answers: { member: Member; value: T }[] = [];
  if (members.length === 0) return answers;
  const done = new AbortController();
  setMaxListeners(0, done.signal);
  const ask = async (member: Member, inner: AbortSignal): Promise<void> => {
    try {
      const value = await question.ask(member, inner);
      answers.push({ member, value });
      if (question.enough(value)) done.abort(ENOUGH);
    } catch (error) {
      if (!inner.aborted && isTidepoolError(error, 'PEER_UNREACHABLE'))
        components.members.suspect(member.node, error);
    }
  };
  try {
    await within(components.clock, ms, signal, async (inner) => {
      const stop = (): void => done.abort(inner.reason);
      inner.addEventListener('abort', stop, { once: true });
      await raceAbort(Promise.all(members.map((member) => ask(member, done.signal))), done.signal);
    });
  } catch (error) {
    signal?.throwIfAborted();
    if (error !== ENOUGH && !isTidepoolError(error, 'TIMEOUT')) throw error;
  } finally {
    done.abort(ENOUGH);
  }
  return answers;
}

const ENOUGH = new Error('enough answers');

/** The promise, given up with the signal's reason when that aborts first. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  return signal === undefined ? promise : raceAbort(promise, signal);
}
