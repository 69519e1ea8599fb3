import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Step } from './steps.ts';
import { cutWal, NO_WAL, type WalImage } from './wal.ts';

const PAGE = 4096;

/** What is in one file, on the disk for good and since. */
class FileContent {
  #durable = Buffer.alloc(0);
  #now = this.#durable;
  #volatile: { readonly offset: number; readonly bytes: Buffer }[] = [];

  write(offset: number, bytes: Buffer): void {
    this.#volatile.push({ offset, bytes });
    this.#now = put(this.#now, offset, bytes);
  }

  sync(): void {
    this.#durable = this.#now;
    this.#volatile = [];
  }

  now(): Buffer<ArrayBuffer> {
    return this.#now;
  }

  /** What a power cut leaves: each write since the last sync is there, not there, or there page by page. */
  cut(random: () => number): Buffer<ArrayBuffer> {
    let content = this.#durable;
    for (const { offset, bytes } of this.#volatile) {
      const fate = random();
      if (fate < 1 / 3) continue;
      if (fate < 2 / 3) {
        content = put(content, offset, bytes);
        continue;
      }
      // The file may be as long as it was to be, and be empty there.
      content = put(content, offset + bytes.length, Buffer.alloc(0));
      for (let at = 0; at < bytes.length; at += PAGE) {
        if (random() < 0.5) content = put(content, offset + at, bytes.subarray(at, at + PAGE));
      }
    }
    return content;
  }

  /** Without any of what was written since the last sync. */
  get durable(): Buffer<ArrayBuffer> {
    return this.#durable;
  }
}

function put(content: Buffer, offset: number, bytes: Buffer): Buffer<ArrayBuffer> {
  const grown = Buffer.alloc(Math.max(content.length, offset + bytes.length));
  content.copy(grown);
  bytes.copy(grown, offset);
  return grown;
}

type NameChange = { readonly name: string; readonly file: FileContent | undefined };

/** The names in one directory: those on the disk for good, and the changes since, of which a power cut keeps the first few. */
class Directory {
  readonly #durable = new Map<string, FileContent>();
  #changes: NameChange[] = [];

  change(name: string, file: FileContent | undefined): void {
    this.#changes.push({ name, file });
  }

  sync(): void {
    for (const change of this.#changes) apply(this.#durable, change);
    this.#changes = [];
  }

  names(kept = this.#changes.length): Map<string, FileContent> {
    const names = new Map(this.#durable);
    for (const change of this.#changes.slice(0, kept)) apply(names, change);
    return names;
  }

  get unsynced(): number {
    return this.#changes.length;
  }
}

function apply(names: Map<string, FileContent>, { name, file }: NameChange): void {
  if (file === undefined) names.delete(name);
  else names.set(name, file);
}

/** How an agent ends at some step. */
export type End =
  /** Killed: all that it has written is there, `half` of the last write only. */
  | { readonly kind: 'killed'; readonly half: boolean }
  /**
   * The power is cut: the log of the database ends after `frames`, or within the next; files are as of their last sync, and
   * of what came after some of it is there, as `random` has it; none of it without.
   */
  | {
      readonly kind: 'power';
      readonly frames: number;
      readonly torn: boolean;
      readonly random: (() => number) | undefined;
    };

/** What an agent finds when it starts again. */
export interface LeftBehind {
  readonly directories: readonly string[];
  readonly files: ReadonlyMap<string, Buffer>;
  /** Same for the same bytes under the same names. */
  readonly id: string;
}

/** The disk after some steps. */
export class Disk {
  readonly #directories = new Set<string>();
  readonly #names = new Map<string, Directory>();
  #last: Step | undefined;
  #main = Buffer.alloc(0);
  #mainBefore: Buffer | undefined;
  #wal: WalImage = NO_WAL;
  /** Frames of the log that no power cut takes. */
  #synced = 0;

  get frames(): { readonly synced: number; readonly written: number } {
    return { synced: this.#synced, written: this.#wal.frames };
  }

  take(step: Step): void {
    this.#last = step;
    switch (step.do) {
      case 'directory':
        this.#directories.add(step.path);
        return;
      case 'create':
        this.#directory(step.path).change(step.path, new FileContent());
        return;
      case 'unlink':
        this.#directory(step.path).change(step.path, undefined);
        return;
      case 'write':
        this.#file(step.path).write(step.offset, step.bytes);
        return;
      case 'sync':
        this.#file(step.path).sync();
        return;
      case 'sync-directory':
        this.#names.get(step.path)?.sync();
        return;
      case 'database': {
        const { main, wal } = step;
        const sameLog = wal.salt === this.#wal.salt;
        // A log is begun anew only when all that was in it is in the file, and on the disk.
        if (!sameLog) this.#synced = 0;
        // And pages are moved to the file only when the log is on the disk.
        this.#mainBefore = sameLog && !main.equals(this.#main) ? this.#main : undefined;
        if (this.#mainBefore !== undefined) this.#synced = wal.frames;
        this.#main = Buffer.from(main);
        this.#wal = wal;
        return;
      }
      case 'database-synced':
        this.#synced = this.#wal.frames;
        return;
      case 'began':
      case 'fact':
        return;
    }
  }

  leave(end: End): LeftBehind {
    const files = new Map<string, Buffer>();
    const random = end.kind === 'power' ? end.random : undefined;
    for (const directory of this.#names.values()) {
      const kept =
        end.kind === 'killed' ? undefined : Math.floor((random?.() ?? 0) * (directory.unsynced + 1));
      for (const [name, file] of directory.names(kept)) {
        if (end.kind === 'killed') files.set(name, this.#killed(file, end.half && name === this.#written()));
        else files.set(name, random === undefined ? file.durable : file.cut(random));
      }
    }
    files.set('index.db', this.#database(random));
    const wal =
      end.kind === 'killed'
        ? cutWal(this.#wal, this.#wal.frames, false)
        : cutWal(this.#wal, end.frames, end.torn);
    if (wal.length > 0) files.set('index.db-wal', wal);
    const directories = [...this.#directories];
    return { directories, files, id: idOf(directories, files) };
  }

  #killed(file: FileContent, half: boolean): Buffer {
    const content = file.now();
    if (!half || this.#last?.do !== 'write') return content;
    const { offset, bytes } = this.#last;
    const whole = content.length === offset + bytes.length;
    const missing = bytes.length - Math.floor(bytes.length / 2);
    return whole ? content.subarray(0, content.length - missing) : content;
  }

  #written(): string | undefined {
    return this.#last?.do === 'write' ? this.#last.path : undefined;
  }

  /** In the middle of a checkpoint some pages are the new ones already. */
  #database(random: (() => number) | undefined): Buffer {
    const before = this.#mainBefore;
    if (this.#last?.do !== 'database' || before === undefined || random === undefined) return this.#main;
    if (this.#wal.frames === 0) return this.#main;
    let mixed: Buffer = Buffer.from(before);
    for (let at = 0; at < this.#main.length; at += PAGE) {
      if (random() < 0.5) mixed = put(mixed, at, this.#main.subarray(at, at + PAGE));
    }
    return mixed;
  }

  #directory(path: string): Directory {
    const parent = dirname(path);
    const known = this.#names.get(parent) ?? new Directory();
    this.#names.set(parent, known);
    return known;
  }

  #file(path: string): FileContent {
    const file = this.#directory(path).names().get(path);
    if (file === undefined) throw new Error(`${path} is written to and has no name`);
    return file;
  }
}

/** Lays out what an agent left behind as a data directory, over what another had left there. */
export function layOut(left: LeftBehind, directory: string): void {
  const wanted = new Set(left.directories);
  const blobs = join(directory, 'blobs');
  const shards = existsSync(blobs) ? readdirSync(blobs) : [];
  if (shards.some((shard) => !wanted.has(join('blobs', shard)))) rmSync(directory, { recursive: true });
  for (const shard of existsSync(blobs) ? shards : []) {
    for (const name of readdirSync(join(blobs, shard))) rmSync(join(blobs, shard, name));
  }
  for (const end of ['.db', '.db-wal', '.db-shm', '-copy.db'])
    rmSync(join(directory, `index${end}`), { force: true });
  for (const path of wanted) mkdirSync(join(directory, path), { recursive: true });
  for (const [path, bytes] of left.files) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), bytes);
  }
}

function idOf(directories: readonly string[], files: ReadonlyMap<string, Buffer>): string {
  const hash = createHash('sha256').update(directories.join('\n'));
  for (const [path, bytes] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`\n${path} ${bytes.length}\n`).update(hashOf(bytes));
  }
  return hash.digest('hex');
}

/** Most files are the same ones from point to point, and nobody writes into them. */
const hashes = new WeakMap<Buffer, Buffer>();

function hashOf(bytes: Buffer): Buffer {
  let hash = hashes.get(bytes);
  if (hash === undefined) {
    hash = createHash('sha256').update(bytes).digest();
    hashes.set(bytes, hash);
  }
  return hash;
}
