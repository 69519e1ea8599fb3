import fs from 'node:fs';
import { unlink } from 'node:fs/promises';
import { describeError, TidepoolError } from '../../shared/errors.ts';

/** What the store does to the disk. */
export interface StoreIo {
  open(path: string, flags: number, mode?: number): Promise<number>;
  close(fd: number): Promise<void>;
  /** Writes all of `bytes` at `position`. */
  write(fd: number, bytes: Uint8Array, position: number): Promise<void>;
  /** Reads until `bytes` is full or the file ends; how many bytes there were. */
  read(fd: number, bytes: Uint8Array, position: number): Promise<number>;
  /** What was written to the file is on the disk when it resolves. */
  syncData(fd: number): Promise<void>;
  /** The names in the directory are on the disk when it resolves. */
  syncDirectory(path: string): Promise<void>;
  unlink(path: string): Promise<void>;
  makeDirectory(path: string): void;
}

/** The system may take them in several goes. */
function writeFully(fd: number, bytes: Uint8Array, position: number): Promise<void> {
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

function readFully(fd: number, bytes: Uint8Array, position: number): Promise<number> {
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

function openFile(path: string, flags: number, mode?: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(path, flags, mode, (error, fd) => (error ? reject(error) : resolve(fd)));
  });
}

function closeFile(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.close(fd, (error) => (error ? reject(error) : resolve()));
  });
}

function syncData(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fs.fdatasync(fd, (error) => (error ? reject(error) : resolve()));
  });
}

async function syncDirectory(path: string): Promise<void> {
  const fd = await openFile(path, fs.constants.O_RDONLY);
  try {
    await new Promise<void>((resolve, reject) => {
      fs.fsync(fd, (error) => (error ? reject(error) : resolve()));
    });
  } finally {
    await closeFile(fd);
  }
}

export const systemIo: StoreIo = {
  open: openFile,
  close: closeFile,
  write: writeFully,
  read: readFully,
  syncData,
  syncDirectory,
  unlink,
  makeDirectory: (path) => {
    fs.mkdirSync(path, { recursive: true, mode: 0o700 });
  },
};

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
