import { READ_BYTES, REST_GRID_MS, REST_MAX_MS, REST_MIN_BYTES, REST_MIN_MS } from './constants.ts';

/**
 * How long a socket is best left alone, in ms, so that the next read brings a good deal at once; 0 to read on.
 * @param read bytes of the last read
 * @param rate what comes, bytes a ms
 * @param now monotonic ms
 */
export function restMs(read: number, rate: number, now: number): number {
  if (read >= READ_BYTES / 2 || rate * REST_MAX_MS < REST_MIN_BYTES) return 0;
  const wanted = Math.min(REST_MAX_MS, READ_BYTES / rate);
  if (wanted < REST_MIN_MS) return 0;
  if (wanted < REST_GRID_MS) return wanted;
  return Math.floor((now + wanted) / REST_GRID_MS) * REST_GRID_MS - now;
}
