import { chmodSync, mkdirSync } from 'node:fs';
import { describeError, TidepoolError } from '../../shared/errors.ts';

/**
 * Pieces and accounts of others are nobody's but the agent's.
 * @throws TidepoolError INVALID_CONFIG when the directory cannot be made, or cannot be closed to others
 */
export function makeDataDirectory(path: string): void {
  try {
    // One that was there before us, as Kubernetes makes a hostPath, is open to all.
    if (mkdirSync(path, { recursive: true, mode: 0o700 }) === undefined) chmodSync(path, 0o700);
  } catch (error) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      `cannot use the data directory ${path}: ${describeError(error)}; set another with --data`,
      { cause: error },
    );
  }
}
