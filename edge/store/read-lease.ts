import { TidepoolError } from '../../shared/errors.ts';
import type { BlobKey } from '../../shared/ids.ts';
import type { BlobFiles } from './blob-files.ts';
import type { BufferPool } from './buffer-pool.ts';
import { OnceLease } from './piece-memory.ts';
import type { Lease } from './types.ts';

/**
 * Bytes of a blob's file in a pooled buffer. Waits while all are lent out.
 * @throws TidepoolError STORE_CORRUPT when the file ends before them, or the system's error
 */
export async function readLease(
  components: { readonly files: BlobFiles; readonly readPool: BufferPool },
  key: BlobKey,
  start: number,
  length: number,
): Promise<Lease> {
  const { files, readPool } = components;
  const memory = await readPool.take(length);
  const lease = new OnceLease(memory.length === length ? memory : memory.subarray(0, length), () =>
    readPool.give(memory),
  );
  try {
    const file = await files.acquire(key);
    try {
      const count = await file.read(lease.bytes, start);
      if (count === length) return lease;
      throw new TidepoolError(
        'STORE_CORRUPT',
        `${files.path(key)} ends at ${start + count}, bytes up to ${start + length} should be in it`,
      );
    } finally {
      file.release();
    }
  } catch (error) {
    lease.release();
    throw error;
  }
}
