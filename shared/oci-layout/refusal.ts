import { TidepoolError } from '../errors.ts';

/** Nothing of such a bundle is kept. */
export function bundleRefused(why: string, cause?: unknown): TidepoolError {
  return new TidepoolError('BUNDLE_REFUSED', `the bundle is refused: ${why}`, { cause });
}
