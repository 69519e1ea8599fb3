import { constants, type Dirent, existsSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TidepoolError } from '../../shared/errors.ts';
import { type BlobKey, parseBlobKey } from '../../shared/ids.ts';
import { type StoreIo, toStoreError } from './io.ts';

interface Entry {
  readonly opening: Promise<number>;
  users: number;
  /** Set when the entry is out of the table: called when the last user has left. */
  onIdle: (() => void) | undefined;
}

/** An open file; given back by `release`, once. */
export interface OpenFile {
  /** Writes all of `bytes` at `position`. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** Reads until `bytes` is full or the file ends; how many bytes there were. */
  read(bytes: Uint8Array, position: number): Promise<number>;
  /** What was written is on the disk when it resolves. */
  sync(): Promise<void>;
  release(): void;
}

const KEY_FILE = /^(sha256|file)-([0-9a-f]{64})$/;

/** One sparse file a blob, in 256 directories; kept open while in use and for a while after. */
export class BlobFiles {
  readonly #io: StoreIo;
  readonly #directory: string;
  readonly #maxOpen: number;
  /** The one longest unused first. */
  readonly #open = new Map<BlobKey, Entry>();
  readonly #removing = new Map<BlobKey, Promise<void>>();
  readonly #closing = new Set<Promise<void>>();
  #closed = false;

  constructor(components: { io: StoreIo }, init: { directory: string; maxOpen: number }) {
    this.#io = components.io;
    this.#directory = join(init.directory, 'blobs');
    this.#maxOpen = init.maxOpen;
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** Makes all directories, durably, so that later only a file's own name is left to be made so. */
  async prepare(): Promise<void> {
    let made = !existsSync(this.#directory);
    if (made) this.#io.makeDirectory(this.#directory);
    const present = new Set(await readdir(this.#directory));
    for (const shard of shards()) {
      if (present.has(shard)) continue;
      this.#io.makeDirectory(join(this.#directory, shard));
      made = true;
    }
    if (made) {
      await this.#io.syncDirectory(this.#directory);
      await this.#io.syncDirectory(join(this.#directory, '..'));
    }
  }

  path(key: BlobKey): string {
    const [kind = '', hex = ''] = key.split(':');
    return join(this.#directory, hex.slice(0, 2), `${kind}-${hex}`);
  }

  /** Size of the file now, 0 when there is none. Called once when a blob is first looked at. */
  sizeOf(key: BlobKey): number {
    return statSync(this.path(key), { throwIfNoEntry: false })?.size ?? 0;
  }

  /** When the file was last written to, ms since 1970. */
  changedAt(key: BlobKey): number {
    return Math.floor(statSync(this.path(key), { throwIfNoEntry: false })?.mtimeMs ?? 0);
  }

  /** The blob's file, made when there is none. @throws TidepoolError STORE_FULL, STORE_CORRUPT */
  async acquire(key: BlobKey): Promise<OpenFile> {
    for (let removing = this.#removing.get(key); removing !== undefined; removing = this.#removing.get(key)) {
      // A file that could not be deleted is simply used again.
      await removing.catch(() => undefined);
    }
    if (this.#closed) throw new TidepoolError('ABORTED', 'the store is closed');
    const entry = this.#entry(key);
    entry.users++;
    let fd: number;
    try {
      fd = await entry.opening;
    } catch (error) {
      if (this.#open.get(key) === entry) this.#open.delete(key);
      this.#leave(entry);
      throw toStoreError(error, this.path(key), 'open');
    }
    let released = false;
    return {
      write: (bytes, position) => this.#io.write(fd, bytes, position),
      read: (bytes, position) => this.#io.read(fd, bytes, position),
      sync: () => this.#io.syncData(fd),
      release: () => {
        if (released) return;
        released = true;
        this.#leave(entry);
        this.#shrink();
      },
    };
  }

  /** Makes what was written to the blob durable. */
  async sync(key: BlobKey): Promise<void> {
    const file = await this.acquire(key);
    try {
      await file.sync();
    } catch (error) {
      throw toStoreError(error, this.path(key), 'make durable');
    } finally {
      file.release();
    }
  }

  /** Makes the file's name durable. */
  async syncName(key: BlobKey): Promise<void> {
    const path = this.path(key);
    try {
      await this.#io.syncDirectory(join(path, '..'));
    } catch (error) {
      throw toStoreError(error, path, 'make durable');
    }
  }

  /** Deletes the file once nobody uses it; whoever asks for it meanwhile waits, and gets a new one. */
  remove(key: BlobKey): Promise<void> {
    const before = this.#removing.get(key);
    if (before !== undefined) return before;
    const removing = this.#remove(key).finally(() => this.#removing.delete(key));
    this.#removing.set(key, removing);
    return removing;
  }

  /** Keys of the files of one directory after the other. */
  async *list(): AsyncGenerator<BlobKey[]> {
    for (const shard of shards()) {
      const entries: Dirent[] = await readdir(join(this.#directory, shard), { withFileTypes: true });
      yield entries.flatMap((entry) => {
        const match = entry.isFile() ? KEY_FILE.exec(entry.name) : null;
        return match === null ? [] : [parseBlobKey(`${match[1]}:${match[2]}`)];
      });
    }
  }

  /** Closes every file when its users have left; nothing can be opened afterwards. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const [key, entry] of this.#open) this.#retire(key, entry);
    await Promise.allSettled([...this.#closing, ...this.#removing.values()]);
  }

  #entry(key: BlobKey): Entry {
    const known = this.#open.get(key);
    if (known !== undefined) {
      this.#open.delete(key);
      this.#open.set(key, known);
      return known;
    }
    const opening = this.#io.open(this.path(key), constants.O_RDWR | constants.O_CREAT, 0o600);
    const entry: Entry = { opening, users: 0, onIdle: undefined };
    this.#open.set(key, entry);
    return entry;
  }

  #leave(entry: Entry): void {
    entry.users--;
    if (entry.users === 0) entry.onIdle?.();
  }

  #shrink(): void {
    if (this.#open.size <= this.#maxOpen) return;
    for (const [key, entry] of this.#open) {
      if (entry.users > 0) continue;
      this.#retire(key, entry);
      if (this.#open.size <= this.#maxOpen) return;
    }
  }

  /** Takes an entry out of the table and closes it when its users have left. */
  #retire(key: BlobKey, entry: Entry): Promise<void> {
    this.#open.delete(key);
    const idle = new Promise<void>((resolve) => {
      if (entry.users === 0) resolve();
      else entry.onIdle = resolve;
    });
    const closing = idle
      .then(() => entry.opening)
      .then((fd) => this.#io.close(fd))
      // A file that could not be opened needs no closing, and all that was written has been synced on its own account.
      .catch(() => undefined)
      .finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
    return closing;
  }

  async #remove(key: BlobKey): Promise<void> {
    const entry = this.#open.get(key);
    if (entry !== undefined) await this.#retire(key, entry);
    try {
      await this.#io.unlink(this.path(key));
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
      throw toStoreError(error, this.path(key), 'delete');
    }
  }
}

function shards(): string[] {
  return Array.from({ length: 256 }, (_, n) => n.toString(16).padStart(2, '0'));
}
