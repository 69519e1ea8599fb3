/** Bundles as files, pipes and devices. */
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describeError, TidepoolError } from '../errors.ts';

const CHUNK_BYTES = 1024 * 1024;
/** Written so much, it is made durable: an end that waits for gigabytes of the page cache looks stuck. */
const SYNC_BYTES = 256 * 1024 * 1024;

/** A file or block device by its path, standard input as `-`; opened when it is first read. */
export async function* bundleSource(path: string): AsyncGenerator<Uint8Array> {
  yield* path === '-' ? process.stdin : createReadStream(path, { highWaterMark: CHUNK_BYTES });
}

/**
 * Writes beside the file and puts it in its place when all is durable; what was begun and not ended is taken away. A
 * device is written as it is.
 * @throws TidepoolError INVALID_ARGUMENT where it cannot be written, and what the chunks throw
 */
export async function writeBundleFile(
  file: string,
  chunks: AsyncIterable<Uint8Array>,
  onBytes: (bytes: number) => void = () => undefined,
): Promise<void> {
  const isDevice = (await stat(file).catch(() => undefined))?.isFile() === false;
  const beside = isDevice ? file : `${file}.partial`;
  const failed = (error: unknown): TidepoolError =>
    new TidepoolError('INVALID_ARGUMENT', `${file} cannot be written: ${describeError(error)}`, {
      cause: error,
    });
  const handle = await open(beside, 'w', 0o600).catch((error: unknown) => {
    throw failed(error);
  });
  try {
    let sinceSync = 0;
    for await (const chunk of chunks) {
      await handle.writeFile(chunk).catch((error: unknown) => {
        throw failed(error);
      });
      onBytes(chunk.length);
      sinceSync += chunk.length;
      if (sinceSync >= SYNC_BYTES) {
        await handle.datasync();
        sinceSync = 0;
      }
    }
    await handle.sync();
    await handle.close();
    if (isDevice) return;
    await rename(beside, file);
    await syncDirectory(dirname(file));
  } catch (error) {
    await handle.close().catch(() => undefined);
    if (!isDevice) await rm(beside, { force: true });
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
