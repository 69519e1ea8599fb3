import type { BigIntStats } from 'node:fs';

/** What tells a file from another of its name, or from itself with other bytes. */
export function validatorOf({ size, mtimeNs, ino, dev }: BigIntStats): string {
  return `${size}-${mtimeNs}-${dev}-${ino}`;
}
