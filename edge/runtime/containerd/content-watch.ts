import { type FSWatcher, watch } from 'node:fs';
import { opendir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../../shared/clock.ts';
import { describeError } from '../../../shared/errors.ts';
import { type BlobKey, isDigest } from '../../../shared/ids.ts';
import type { Startable } from '../../../shared/lifecycle.ts';
import type { Logger } from '../../../shared/log.ts';
import { LIST_BATCH, LOOK_FOR_MS, RELIST_BLIND_MS, RELIST_MS, SETTLE_MS } from './content-constants.ts';

/** Who is told of the files. */
export interface ContentListener {
  /** There is a file of this name, or was a moment ago. True when that is news. */
  look(key: BlobKey): Promise<boolean>;
  /** True when that is news. */
  vanished(key: BlobKey): boolean;
  /** All names that count as there. */
  keys(): Iterable<BlobKey>;
}

interface ContentWatchComponents {
  readonly listener: ContentListener;
  readonly clock: Clock;
  readonly log: Logger;
  /** Something came or went. */
  readonly onChange?: () => void;
}

export interface ContentWatchState {
  readonly directory: string;
  /** `absent`: there is no such directory. `listing`: it is read for the first time. */
  readonly state: 'absent' | 'listing' | 'watching';
  readonly problem: string | null;
}

/**
 * Watches containerd's content store. A blob is written under ingest/ and renamed to blobs/sha256/<hex> when it is whole and
 * its digest was checked, so a file there is complete.
 */
export class ContentWatch implements Startable {
  readonly name = 'content-watch';
  readonly #c: ContentWatchComponents;
  readonly #root: string;
  readonly #blobs: string;
  readonly #changed = new Set<string>();
  #watcher: FSWatcher | undefined;
  /** Of the directory that is watched. */
  #inode = 0;
  #cancelList: () => void = () => undefined;
  #cancelSettle: (() => void) | undefined;
  #running = false;
  #work: Promise<void> = Promise.resolve();
  #state: ContentWatchState['state'] = 'absent';
  #problem: string | null = null;

  /** `directory` is the content store's root: what holds `blobs` and `ingest`. */
  constructor(components: ContentWatchComponents, init: { readonly directory: string }) {
    this.#c = components;
    this.#root = init.directory;
    this.#blobs = join(init.directory, 'blobs', 'sha256');
  }

  get state(): ContentWatchState {
    return { directory: this.#root, state: this.#state, problem: this.#problem };
  }

  /** Where the file of a blob is. */
  pathOf(key: BlobKey): string {
    return join(this.#blobs, key.slice(key.indexOf(':') + 1));
  }

  /** The first listing goes on in the background. */
  async start(): Promise<void> {
    this.#running = true;
    this.relist();
  }

  async stop(): Promise<void> {
    this.#running = false;
    this.#cancelList();
    this.#cancelSettle?.();
    this.#unwatch();
    await this.#work;
  }

  /** Lists all there is, now. Resolves when that is done. */
  relist(): Promise<void> {
    this.#cancelList();
    this.#work = this.#work.then(() => this.#list());
    return this.#work;
  }

  async #list(): Promise<void> {
    if (!this.#running) return;
    let next = LOOK_FOR_MS;
    try {
      // Watched first: what comes while it is listed is seen by one or the other.
      await this.#watch();
      if (this.#state === 'absent') this.#state = 'listing';
      const found = await this.#listAll();
      if (found === undefined) return;
      for (const key of [...this.#c.listener.keys()]) if (!found.has(key)) this.#gone(key);
      if (this.#state === 'listing') {
        this.#c.log.info({ directory: this.#root, blobs: found.size }, "containerd's content is shared");
      }
      this.#state = 'watching';
      next = this.#watcher === undefined ? RELIST_BLIND_MS : RELIST_MS;
    } catch (error) {
      this.#unwatch();
      for (const key of [...this.#c.listener.keys()]) this.#gone(key);
      this.#note(describeError(error));
      this.#state = 'absent';
    } finally {
      if (this.#running) this.#cancelList = this.#c.clock.after(next, () => void this.relist());
    }
  }

  /** Undefined when it was stopped on the way. */
  async #listAll(): Promise<Set<BlobKey> | undefined> {
    const found = new Set<BlobKey>();
    // A blob of one name has one content: those that are known are looked at when they are read.
    const known = new Set(this.#c.listener.keys());
    let batch: BlobKey[] = [];
    for await (const entry of await opendir(this.#blobs, { bufferSize: LIST_BATCH })) {
      const key = `sha256:${entry.name}`;
      if (!entry.isFile() || !isDigest(key)) continue;
      found.add(key);
      if (known.has(key) || batch.push(key) < LIST_BATCH) continue;
      await this.#look(batch);
      if (!this.#running) return undefined;
      batch = [];
    }
    await this.#look(batch);
    return this.#running ? found : undefined;
  }

  async #look(keys: readonly BlobKey[]): Promise<void> {
    for (const key of keys) if (await this.#c.listener.look(key)) this.#c.onChange?.();
  }

  async #watch(): Promise<void> {
    const { ino } = await stat(this.#blobs);
    if (this.#watcher !== undefined && ino === this.#inode) return;
    // A directory that was made anew has the name of the one that is watched.
    this.#unwatch();
    try {
      const watcher = watch(this.#blobs, { persistent: false }, (_event, name) => this.#saw(name));
      watcher.on('error', (error) => {
        this.#note(`changes are not seen at once (${describeError(error)})`);
        this.#unwatch();
      });
      this.#watcher = watcher;
      this.#inode = ino;
      this.#note(null);
    } catch (error) {
      this.#note(`changes are not seen at once (${describeError(error)})`);
    }
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #note(problem: string | null): void {
    if (problem !== null && problem !== this.#problem) {
      this.#c.log.warn({ directory: this.#root, why: problem }, "containerd's content cannot be watched");
    }
    this.#problem = problem;
  }

  #saw(name: string | null): void {
    // The directory itself has gone, or nobody knows what has.
    if (name === null || name === 'sha256') {
      void this.relist();
      return;
    }
    this.#changed.add(name);
    this.#cancelSettle ??= this.#c.clock.after(SETTLE_MS, () => {
      this.#cancelSettle = undefined;
      this.#work = this.#work.then(() => this.#lookAtChanged());
    });
  }

  async #lookAtChanged(): Promise<void> {
    const names = [...this.#changed];
    this.#changed.clear();
    for (const name of names) {
      if (!this.#running) return;
      const key = `sha256:${name}`;
      if (isDigest(key)) await this.#look([key]);
    }
  }

  #gone(key: BlobKey): void {
    if (this.#c.listener.vanished(key)) this.#c.onChange?.();
  }
}
