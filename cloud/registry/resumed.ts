import { type Clock, delay } from '../../shared/clock.ts';
import { isTidepoolError, type TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { Backoff } from '../../shared/flow/backoff.ts';

/** A body from some byte on; one that ignores where it was asked to begin begins at 0. */
export interface OpenedBody {
  readonly from: number;
  readonly bytes: AsyncIterable<Uint8Array>;
}

interface ResumedComponents {
  readonly clock: Clock;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  /** @throws TidepoolError ORIGIN_UNREACHABLE where it may go well another time */
  readonly open: (from: number) => Promise<OpenedBody>;
  /** What an error of a body means. */
  readonly toError: (error: unknown) => TidepoolError;
}

/** Between two attempts; full jitter within. */
const RETRY = { baseMs: 1_000, maxMs: 30_000 } as const;
/** Attempts in a row that bring nothing, and all attempts of one body. */
const MAX_FRUITLESS = 5;
const MAX_ATTEMPTS = 100;

/**
 * The bytes of a body whose connection breaks: it is read on from where it stopped. That the first attempt fails before its
 * first byte is told at once, for it is more often a wrong name than a bad line.
 * @throws TidepoolError of the last attempt, or the signal's reason
 */
export async function* resumed(
  { clock, random, open, toError }: ResumedComponents,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const backoff = new Backoff({ ...RETRY, random });
  let got = 0;
  for (let attempt = 1, fruitless = 0; ; attempt++) {
    const before = got;
    try {
      const body = await open(got);
      let skip = got - body.from;
      for await (const chunk of body.bytes) {
        const part = skip === 0 ? chunk : chunk.subarray(Math.min(skip, chunk.length));
        skip -= chunk.length - part.length;
        if (part.length === 0) continue;
        got += part.length;
        yield part;
      }
      return;
    } catch (error) {
      signal.throwIfAborted();
      const failure = toTidepoolError(toError(error));
      fruitless = got > before ? 0 : fruitless + 1;
      const isOver = got === 0 || fruitless >= MAX_FRUITLESS || attempt >= MAX_ATTEMPTS;
      if (isOver || !isTidepoolError(failure, 'ORIGIN_UNREACHABLE')) throw failure;
      if (got > before) backoff.reset();
    }
    await delay(clock, backoff.next(), signal);
  }
}
