import { statfs } from 'node:fs/promises';

/** Of the file system that a path is on, bytes; what is reserved for root counts as used. */
export async function diskOf(
  path: string,
): Promise<{ readonly totalBytes: number; readonly freeBytes: number }> {
  const { bsize, blocks, bfree, bavail } = await statfs(path);
  return { totalBytes: (blocks - bfree + bavail) * bsize, freeBytes: bavail * bsize };
}
