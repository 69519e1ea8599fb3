import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { TidepoolError } from '../../../shared/errors.ts';
import { quote } from '../../../shared/ids.ts';

export interface FileState {
  readonly bytes: Buffer;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * A file's bytes and whose it is; undefined when there is none.
 * @throws TidepoolError CONFLICT for a link or anything else that is no plain file: replacing it would not be undone
 */
export function readState(path: string): FileState | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  if (!stat.isFile()) {
    throw new TidepoolError(
      'CONFLICT',
      `${quote(path)} is ${stat.isSymbolicLink() ? 'a symbolic link' : 'no plain file'}; it is left as it is: put a plain file there, or configure it by hand`,
    );
  }
  return { bytes: readFileSync(path), mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid };
}

/** The file is the old one or the new one, whole, also after a power cut. */
export function writeAtomically(
  path: string,
  bytes: Uint8Array,
  owner?: Omit<FileState, 'bytes'> | undefined,
): void {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  const file = openSync(temporary, 'w', 0o644);
  try {
    try {
      for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    chmodSync(temporary, owner?.mode ?? 0o644);
    const self = lstatSync(temporary);
    if (owner !== undefined && (owner.uid !== self.uid || owner.gid !== self.gid)) {
      chownSync(temporary, owner.uid, owner.gid);
    }
    renameSync(temporary, path);
  } catch (error) {
    removeFile(temporary);
    throw error;
  }
  syncDirectory(dirname(path));
}

export function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}

export function syncDirectory(path: string): void {
  const directory = openSync(path, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
