/** The hub's data as one file: made while the hub runs, and put back into an empty directory. */
import { createHash } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { nextEpoch } from './epoch.ts';
import { replaceFile } from './json-file.ts';

const EPOCH_FILE = 'epoch.json';
const FORMAT = 'tidepool-hub-backup/2';
/** Of the authority and the book of nodes, where the hub keeps them in its own data. */
const TRUST = { key: 'trust/ca.key', roots: 'trust/ca.pem', book: 'trust/book.json' } as const;
const MAX_FILES = 50_000;
const MAX_TOTAL_BYTES = 256 * 1024 * 1024;
/** A file that is replaced while it is read is read again. */
const MAX_PASSES = 5;
/** What file systems put there themselves. */
const NOT_OURS: ReadonlySet<string> = new Set(['lost+found']);
/**
 * Epochs that the restored hub leaves free: since the backup was made the hub may have been started on a machine whose
 * clock is ahead of this one's, and agents believe the higher number only.
 */
const EPOCH_MARGIN = 86_400;

const savedFile = z.object({
  path: z.string().max(1_000),
  sha256: z.string(),
  data: z.base64(),
});
const saved = z.object({
  format: z.literal(FORMAT, `expected ${FORMAT}`),
  version: z.string(),
  createdAt: z.string(),
  /** Of all files' names and sums, so that one which was taken out is missed. */
  sum: z.string(),
  files: z.array(savedFile).max(MAX_FILES),
});
export type Backup = z.infer<typeof saved>;

/**
 * Everything that the hub remembers, its CA included. Each file is whole, because the hub replaces files as a whole; a
 * pass in which one changed is done again, so that they also fit together.
 * @throws TidepoolError NOT_FOUND without such a directory, INVALID_ARGUMENT for one that is no hub's, OVERLOADED
 */
export async function makeBackup(
  components: { readonly clock: Clock },
  init: { readonly directory: string; readonly version: string },
): Promise<Backup> {
  const { directory, version } = init;
  let files = await readAll(directory);
  for (let pass = 1; pass < MAX_PASSES; pass++) {
    const again = await readAll(directory);
    const same = JSON.stringify(again) === JSON.stringify(files);
    files = again;
    if (same) break;
  }
  if (!files.some((file) => file.path === EPOCH_FILE)) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `${directory} is not the data of a hub: it has no ${EPOCH_FILE}`,
    );
  }
  const lost = missingOf(files);
  if (lost !== undefined) {
    const message = `${directory} has ${TRUST.key} and no ${lost}: a hub is starting there, or something took it away; nothing was saved`;
    throw new TidepoolError('STORE_CORRUPT', message);
  }
  const createdAt = new Date(components.clock.now()).toISOString();
  return { format: FORMAT, version, createdAt, sum: sumOf(files), files };
}

/**
 * What a backup has of the hub's trust: the authority's key and the book of nodes; the book only, because somebody else
 * makes the authority; the roots only, because the rest is in Secrets of the cluster; or nothing, as of an insecure hub.
 */
export function trustIn({ files }: Pick<Backup, 'files'>): 'all' | 'book' | 'roots' | 'none' {
  const has = (name: string): boolean => files.some((file) => file.path === name);
  if (has(TRUST.key)) return 'all';
  if (has(TRUST.book)) return 'book';
  return has(TRUST.roots) ? 'roots' : 'none';
}

/** One line of JSON. */
export function formatBackup(backup: Backup): string {
  return `${JSON.stringify(backup)}\n`;
}

/**
 * @param source where the text comes from, for messages
 * @throws TidepoolError INVALID_ARGUMENT for a text that is no backup, or a damaged one
 */
export function parseBackup(text: string, source: string): Backup {
  const bad = (why: string, cause?: unknown): TidepoolError =>
    new TidepoolError('INVALID_ARGUMENT', `${source} is not a backup of a hub: ${why}`, { cause });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw bad('it is not JSON, or not all of it is there', error);
  }
  const result = saved.safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw bad(`${issue?.path.join('.') || 'root'}: ${issue?.message ?? 'invalid'}`);
  }
  const seen = new Set<string>();
  for (const file of result.data.files) {
    if (!isInside(file.path) || seen.has(file.path)) throw bad(`it names ${quote(file.path)}`);
    seen.add(file.path);
    if (sha256(Buffer.from(file.data, 'base64')) !== file.sha256) throw bad(`${file.path} in it is damaged`);
  }
  if (!seen.has(EPOCH_FILE)) throw bad(`it has no ${EPOCH_FILE}`);
  const lost = missingOf(result.data.files);
  if (lost !== undefined) throw bad(`it has the authority's key and no ${lost}`);
  if (sumOf(result.data.files) !== result.data.sum)
    throw bad('files are missing from it, or were added to it');
  return result.data;
}

/**
 * Puts a backup into a directory that is empty or not there. The epoch grows, so that agents which heard the hub after
 * the backup was made believe the restored one. When it fails, what was written is taken away again.
 * @throws TidepoolError CONFLICT for a directory that holds something, STORE_CORRUPT when it cannot be written
 */
export async function restoreBackup(
  components: { readonly clock: Clock },
  backup: Backup,
  directory: string,
): Promise<{ readonly files: number; readonly epoch: number }> {
  const found = await listed(directory);
  if (found !== undefined && found.length > 0) {
    throw new TidepoolError(
      'CONFLICT',
      `${directory} is not empty (${found
        .slice(0, 3)
        .map((name) => quote(name))
        .join(
          ', ',
        )}${found.length > 3 ? ', …' : ''}); nothing was written. Name an empty directory, or move away what is there`,
    );
  }
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    for (const file of backup.files) {
      // That one comes last and anew: without it the directory is no hub's data yet.
      if (file.path === EPOCH_FILE) continue;
      const target = path.join(directory, file.path);
      await mkdir(path.dirname(target), { recursive: true, mode: 0o700 });
      await replaceFile(target, Buffer.from(file.data, 'base64'));
    }
    // Those who hold the epoch of before, and one that is ahead by a clock of its own.
    const before = epochOf(backup);
    const nowSeconds = Math.floor(components.clock.now() / 1000);
    const madeSeconds = Math.floor((Date.parse(backup.createdAt) || 0) / 1000);
    const floor = Math.max(before, nowSeconds, madeSeconds) + EPOCH_MARGIN;
    const epoch = await nextEpoch(directory, components.clock, floor);
    return { files: backup.files.length, epoch };
  } catch (error) {
    for (const name of (await listed(directory)) ?? []) {
      await rm(path.join(directory, name), { recursive: true, force: true });
    }
    throw new TidepoolError(
      'STORE_CORRUPT',
      `the backup could not be restored, and ${directory} was emptied again: ${describeError(error)}`,
      { cause: error },
    );
  }
}

/** Text that only its owner may read, in place at once and as a whole. */
export async function writeSecretly(file: string, text: string): Promise<void> {
  // A left-over of before would keep its own mode.
  await rm(`${file}.new`, { force: true });
  await replaceFile(file, text);
}

async function readAll(directory: string): Promise<Backup['files']> {
  const files: Backup['files'] = [];
  let total = 0;
  const walk = async (inner: string): Promise<void> => {
    for (const name of (await readdir(path.join(directory, inner))).sort()) {
      const relative = inner === '' ? name : `${inner}/${name}`;
      // What is being written has not happened yet.
      if (NOT_OURS.has(relative) || name.endsWith('.new')) continue;
      const full = path.join(directory, relative);
      const about = await lstat(full).catch(ignoreGone);
      if (about === undefined) continue;
      if (about.isDirectory()) {
        await walk(relative);
        continue;
      }
      if (!about.isFile()) {
        throw new TidepoolError(
          'INVALID_ARGUMENT',
          `${full} is neither a file nor a directory; take it away`,
        );
      }
      const bytes = await read(full, about.size);
      if (bytes === undefined) continue;
      total += bytes.length;
      if (total > MAX_TOTAL_BYTES || files.length >= MAX_FILES) {
        throw new TidepoolError(
          'OVERLOADED',
          `${directory} holds more than ${MAX_TOTAL_BYTES} bytes or ${MAX_FILES} files; that is no data of a hub`,
        );
      }
      files.push({ path: relative, sha256: sha256(bytes), data: bytes.toString('base64') });
    }
  };
  try {
    await walk('');
  } catch (error) {
    if (error instanceof TidepoolError) throw error;
    throw new TidepoolError('NOT_FOUND', `the data of the hub cannot be read: ${describeError(error)}`, {
      cause: error,
    });
  }
  return files;
}

async function read(file: string, size: number): Promise<Buffer | undefined> {
  if (size > MAX_TOTAL_BYTES) throw new TidepoolError('OVERLOADED', `${file} has ${size} bytes`);
  return await readFile(file).catch(ignoreGone);
}

/** Jobs come and go while the hub runs. */
function ignoreGone(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
  throw error;
}

/** Undefined where there is no such directory. */
async function listed(directory: string): Promise<readonly string[] | undefined> {
  const names = await readdir(directory).catch(ignoreGone);
  return names?.filter((name) => !NOT_OURS.has(name)).sort();
}

function epochOf(backup: Backup): number {
  const file = backup.files.find((each) => each.path === EPOCH_FILE);
  const parsed = z
    .object({ epoch: z.number() })
    .safeParse(JSON.parse(Buffer.from(file?.data ?? 'bnVsbA==', 'base64').toString('utf8')));
  return parsed.success ? parsed.data.epoch : 0;
}

/** A path that stays below the directory it is joined to, in one spelling. */
function isInside(relative: string): boolean {
  return (
    relative !== '' &&
    !relative.includes('\0') &&
    !path.posix.isAbsolute(relative) &&
    relative.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

/** An authority whose book is lost would let in again whoever was revoked. */
function missingOf(files: Backup['files']): string | undefined {
  const names = new Set(files.map((file) => file.path));
  if (!names.has(TRUST.key)) return undefined;
  return [TRUST.roots, TRUST.book].find((name) => !names.has(name));
}

function sumOf(files: Backup['files']): string {
  return sha256(Buffer.from(JSON.stringify(files.map((file) => [file.path, file.sha256]))));
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
