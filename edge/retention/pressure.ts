import { HIGH_SHARE, LOW_SHARE, QUOTA_LOW_SHARE } from './constants.ts';

/** All bytes. */
export interface DiskUse {
  /** Of pieces in the store. */
  readonly storeBytes: number;
  /** Of the file system that the store is on, whoever uses it. */
  readonly totalBytes: number;
  /** What an ordinary process may still write there. */
  readonly freeBytes: number;
}

export interface Pressure {
  /** Bytes of the store that have to go; 0 when all is well. */
  readonly toFree: number;
  readonly why: 'quota' | 'disk' | undefined;
}

/**
 * How much of the store has to go: because it is over its quota, or because the file system fills up, by others too.
 * Never more than there is.
 */
export function pressureOf(use: DiskUse, quotaBytes: number | undefined): Pressure {
  const overQuota =
    quotaBytes !== undefined && use.storeBytes > quotaBytes
      ? use.storeBytes - quotaBytes * QUOTA_LOW_SHARE
      : 0;
  const used = use.totalBytes - use.freeBytes;
  const overDisk = used > use.totalBytes * HIGH_SHARE ? used - use.totalBytes * LOW_SHARE : 0;
  const toFree = Math.min(use.storeBytes, Math.ceil(Math.max(overQuota, overDisk)));
  if (toFree <= 0) return { toFree: 0, why: undefined };
  return { toFree, why: overQuota >= overDisk ? 'quota' : 'disk' };
}
