import fs from 'node:fs';
import { join, relative } from 'node:path';
import type { StoreIo } from '../../../edge/store/io.ts';
import type { Fact, Step } from './steps.ts';
import { NO_WAL, readWal, type WalImage } from './wal.ts';

const COPY = 'index-copy.db';

/**
 * A disk that writes down every change in its order. Each is done at once, so that a run with the same input makes the same
 * steps. What SQLite has written between two looks is found by reading its files: frames that it appended, pages that a
 * checkpoint moved.
 */
export class Recorder {
  readonly steps: Step[] = [];
  readonly io: StoreIo;
  readonly #directory: string;
  readonly #paths = new Map<number, string>();
  #main = Buffer.alloc(0);
  #wal: WalImage = NO_WAL;

  constructor(directory: string) {
    this.#directory = directory;
    const name = (path: string): string => relative(directory, path);
    this.io = {
      open: async (path, flags, mode) => {
        this.look();
        const isNew = (flags & fs.constants.O_CREAT) !== 0 && !fs.existsSync(path);
        const fd = fs.openSync(path, flags, mode);
        this.#paths.set(fd, name(path));
        if (isNew) this.steps.push({ do: 'create', path: name(path) });
        return fd;
      },
      close: async (fd) => {
        this.#paths.delete(fd);
        fs.closeSync(fd);
      },
      write: async (fd, bytes, offset) => {
        this.look();
        fs.writeSync(fd, bytes, 0, bytes.length, offset);
        this.steps.push({ do: 'write', path: this.#path(fd), offset, bytes: Buffer.from(bytes) });
      },
      read: async (fd, bytes, position) => fs.readSync(fd, bytes, 0, bytes.length, position),
      syncData: async (fd) => {
        this.look();
        this.steps.push({ do: 'sync', path: this.#path(fd) });
      },
      syncDirectory: async (path) => {
        this.look();
        this.steps.push({ do: 'sync-directory', path: name(path) });
      },
      unlink: async (path) => {
        this.look();
        fs.unlinkSync(path);
        this.steps.push({ do: 'unlink', path: name(path) });
      },
      makeDirectory: (path) => {
        this.look();
        fs.mkdirSync(path, { recursive: true });
        this.steps.push({ do: 'directory', path: name(path) });
      },
    };
  }

  /** Takes what lies in the directory as having been there for ever. */
  begin(): void {
    const blobs = join(this.#directory, 'blobs');
    this.steps.push({ do: 'directory', path: 'blobs' });
    for (const shard of fs.readdirSync(blobs)) {
      const path = join('blobs', shard);
      this.steps.push({ do: 'directory', path });
      for (const name of fs.readdirSync(join(blobs, shard))) this.#there(join(path, name));
      this.steps.push({ do: 'sync-directory', path });
    }
    this.#there(COPY);
    this.steps.push({ do: 'sync-directory', path: '.' });
    this.steps.push({ do: 'began' });
  }

  #there(path: string): void {
    const bytes = this.#read(path);
    this.steps.push({ do: 'create', path }, { do: 'write', path, offset: 0, bytes }, { do: 'sync', path });
  }

  fact(fact: Fact): void {
    this.look();
    this.steps.push({ do: 'fact', fact });
  }

  /** A commit with synchronous=FULL has returned. */
  databaseSynced(): void {
    this.look();
    this.steps.push({ do: 'database-synced' });
  }

  /** Writes down what the database has become since the last look. */
  look(): void {
    const main = this.#read('index.db');
    const wal = readWal(this.#read('index.db-wal'));
    if (main.equals(this.#main) && wal.salt === this.#wal.salt && wal.frames === this.#wal.frames) return;
    this.#main = main;
    this.#wal = wal;
    this.steps.push({ do: 'database', main, wal });
  }

  #read(name: string): Buffer<ArrayBuffer> {
    const path = join(this.#directory, name);
    return fs.existsSync(path) ? fs.readFileSync(path) : Buffer.alloc(0);
  }

  #path(fd: number): string {
    const path = this.#paths.get(fd);
    if (path === undefined) throw new Error(`file ${fd} was never opened`);
    return path;
  }
}
