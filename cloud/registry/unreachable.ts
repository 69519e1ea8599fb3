import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { ImageRef } from '../../shared/image-ref.ts';
import type { Target } from './registry-map.ts';

/** Whatever stopped a question, with a code. @throws the signal's reason */
export function asUnreachable(
  error: unknown,
  signal: AbortSignal,
  { image, target }: { readonly image: ImageRef; readonly target: Target },
): TidepoolError {
  signal.throwIfAborted();
  if (error instanceof TidepoolError) return error;
  return new TidepoolError(
    'ORIGIN_UNREACHABLE',
    `registry ${image.registry} cannot be reached at ${target.base.origin}: ${reasonOf(error)}`,
    { cause: error },
  );
}

function reasonOf(error: unknown): string {
  // Node tries every address of a name and says nothing of its own.
  if (error instanceof AggregateError && error.errors.length > 0) return describeError(error.errors[0]);
  return describeError(error);
}
