import {
  HARD_FREE_BYTES,
  HARD_FREE_SHARE,
  HARD_REOPEN,
  HIGH_SHARE,
  LOW_SHARE,
  QUOTA_LOW_SHARE,
} from './constants.ts';

/** All bytes. */
export interface DiskUse {
  /** Of pieces in the store. */
  readonly storeBytes: number;
  /** Of the file system that the store is on, whoever uses it. */
  readonly totalBytes: number;
  /** What an ordinary process may still write there. */
  readonly freeBytes: number;
}

export type DiskFree = Pick<DiskUse, 'totalBytes' | 'freeBytes'>;

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

/** Bytes that have to stay free: a file system that is full to the last byte is of use to nobody on the node. */
export function hardMark(totalBytes: number): number {
  return Math.min(totalBytes * HARD_FREE_SHARE, HARD_FREE_BYTES);
}

/** Whether anything more may be kept. A node that has stopped goes on only with some room to spare. */
export function hasRoom({ totalBytes, freeBytes }: DiskFree, isOpen: boolean): boolean {
  return freeBytes >= hardMark(totalBytes) * (isOpen ? 1 : HARD_REOPEN);
}

/** Bytes that the store may still take before it keeps nothing more. */
export function spareBytes({ totalBytes, freeBytes }: DiskFree): number {
  return Math.max(0, freeBytes - hardMark(totalBytes));
}
