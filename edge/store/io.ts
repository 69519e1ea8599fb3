import fs from 'node:fs';
import { describeError, TidepoolError } from '../../shared/errors.ts';

/** Writes all of `bytes` at `position`; the system may take them in several goes. */
export function writeFully(fd: number, bytes: Uint8Array, position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const step = (): void => {
      fs.write(fd, bytes, done, bytes.length - done, position + done, (error, written) => {
        if (error) {
          reject(error);
          return;
        }
        done += written;
        if (done === bytes.length) resolve();
        else step();
      });
    };
    step();
  });
}

/** Reads until `bytes` is full or the file ends; how many bytes there were. */
export function readFully(fd: number, bytes: Uint8Array, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const step = (): void => {
      fs.read(fd, bytes, done, bytes.length - done, position + done, (error, count) => {
        if (error) {
          reject(error);
          return;
        }
        done += count;
        if (count === 0 || done === bytes.length) resolve(done);
        else step();
      });
    };
    step();
  });
}

export function openFile(path: string, flags: number, mode?: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(path, flags, mode, (error, fd) => (error ? reject(error) : resolve(fd)));
  });
}

export function closeFile(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.close(fd, (error) => (error ? reject(error) : resolve()));
  });
}

export function syncData(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.fdatasync(fd, (error) => (error ? reject(error) : resolve()));
  });
}

/** Makes the names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const fd = await openFile(path, fs.constants.O_RDONLY);
  try {
    await new Promise<void>((resolve, reject) => {
      fs.fsync(fd, (error) => (error ? reject(error) : resolve()));
    });
  } finally {
    await closeFile(fd);
  }
}

const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** A failure of the file system under our codes: STORE_FULL when there is no room, else STORE_CORRUPT. */
export function toStoreError(error: unknown, path: string, what: string): TidepoolError {
  if (error instanceof TidepoolError) return error;
  const full =
    error instanceof Error && 'code' in error && typeof error.code === 'string' && FULL.has(error.code);
  return full
    ? new TidepoolError('STORE_FULL', `no room to ${what} ${path}: free some space, or give the cache less`, {
        cause: error,
      })
    : new TidepoolError('STORE_CORRUPT', `cannot ${what} ${path}: ${describeError(error)}`, { cause: error });
}
