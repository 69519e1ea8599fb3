import { type FSWatcher, watch } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { type Clock, every } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/log.ts';
import { type DesiredSource, type DesiredState, EMPTY_STATE, type Problem } from '../desired/types.ts';
import { assemble, type FileState, readDocuments } from './assemble.ts';

/** Editors write a file in several steps; wait until they are through. */
const DEBOUNCE_MS = 150;
/** File notices get lost (network file systems, replaced directories), so everything is read again this often. */
const RESCAN_MS = 15_000;
const MAX_FILES = 1_000;
/** 10,000 Node documents are about 3 MB. */
const MAX_FILE_BYTES = 16 * 1024 * 1024;

export interface DocumentDirectoryInit {
  readonly path: string;
  readonly debounceMs?: number;
  readonly rescanMs?: number;
}

interface Entry {
  readonly text: string;
  readonly state: FileState;
}

/** Desired state from the `*.yaml`, `*.yml` and `*.json` files of one directory, followed while they change. */
export class DocumentDirectory implements DesiredSource {
  readonly name = 'documents';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #init: Required<DocumentDirectoryInit>;
  readonly #listeners = new Set<() => void>();
  #entries = new Map<string, Entry>();
  #state: DesiredState = EMPTY_STATE;
  #fingerprint = '';
  #watcher: FSWatcher | undefined;
  #cancelNotice: (() => void) | undefined;
  #cancelRescan: (() => void) | undefined;
  #scan: Promise<void> = Promise.resolve();
  #stopped = true;

  constructor(components: { readonly clock: Clock; readonly log: Logger }, init: DocumentDirectoryInit) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#init = { debounceMs: DEBOUNCE_MS, rescanMs: RESCAN_MS, ...init };
  }

  /**
   * @throws TidepoolError INVALID_CONFIG when the directory cannot be read: a hub that starts without what it shall say
   * would tell every pool that nothing is wanted
   */
  async start(): Promise<void> {
    try {
      await readdir(this.#init.path);
    } catch (error) {
      const message = `the documents directory ${this.#init.path} cannot be read: ${describeError(error)}`;
      throw new TidepoolError('INVALID_CONFIG', message, { cause: error });
    }
    this.#stopped = false;
    this.#watch();
    await this.#queueScan();
    this.#cancelRescan = every(this.#clock, this.#init.rescanMs, () => {
      if (this.#watcher === undefined) this.#watch();
      void this.#queueScan();
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelNotice?.();
    this.#cancelRescan?.();
    this.#watcher?.close();
    this.#watcher = undefined;
    await this.#scan;
  }

  current(): DesiredState {
    return this.#state;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #watch(): void {
    try {
      this.#watcher = watch(this.#init.path, () => this.#onNotice());
      this.#watcher.on('error', (error) => this.#unwatch(error));
    } catch (error) {
      this.#unwatch(error);
    }
  }

  #unwatch(error: unknown): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#log.warn(
      { directory: this.#init.path, err: error },
      'no notices of changes from this directory; reading it again by the clock',
    );
  }

  #onNotice(): void {
    if (this.#stopped) return;
    this.#cancelNotice?.();
    this.#cancelNotice = this.#clock.after(this.#init.debounceMs, () => void this.#queueScan());
  }

  /** One scan after the other: two that overlap could leave the older state as the last word. */
  #queueScan(): Promise<void> {
    this.#scan = this.#scan.then(() => this.#rescan());
    return this.#scan;
  }

  async #rescan(): Promise<void> {
    const problems: Problem[] = [];
    const entries = new Map<string, Entry>();
    try {
      for (const file of await this.#files(problems)) {
        const entry = await this.#read(file, problems);
        if (entry !== undefined) entries.set(file, entry);
      }
    } catch (error) {
      problems.push({
        source: this.#init.path,
        message: `the directory cannot be read, its last good documents stay in force: ${describeError(error)}`,
      });
      for (const [file, entry] of this.#entries) entries.set(file, entry);
    }
    this.#entries = entries;
    this.#publish(assemble(new Map([...entries].map(([file, { state }]) => [file, state])), problems));
  }

  async #files(problems: Problem[]): Promise<readonly string[]> {
    const names = (await readdir(this.#init.path))
      .filter((name) => !name.startsWith('.') && /\.(ya?ml|json)$/.test(name))
      .sort();
    if (names.length > MAX_FILES) {
      problems.push({
        source: this.#init.path,
        message: `${names.length} files; only the first ${MAX_FILES} are read`,
      });
    }
    return names.slice(0, MAX_FILES);
  }

  /** A file that cannot be read now keeps what it last gave. */
  async #read(file: string, problems: Problem[]): Promise<Entry | undefined> {
    const before = this.#entries.get(file);
    const full = path.join(this.#init.path, file);
    try {
      const { size } = await stat(full);
      if (size > MAX_FILE_BYTES) {
        problems.push({ source: file, message: `${size} bytes; at most ${MAX_FILE_BYTES} are read` });
        return before;
      }
      const text = await readFile(full, 'utf8');
      if (text === before?.text) return before;
      return { text, state: readDocuments(file, text, before?.state) };
    } catch (error) {
      // Gone between listing and reading: gone.
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      problems.push({ source: file, message: `cannot be read: ${describeError(error)}` });
      return before;
    }
  }

  #publish(state: DesiredState): void {
    const fingerprint = JSON.stringify(state);
    if (fingerprint === this.#fingerprint) return;
    this.#fingerprint = fingerprint;
    this.#state = state;
    this.#log.info(
      {
        nodes: state.nodes.length,
        pools: state.pools.length,
        prefetches: state.prefetches.length,
        problems: state.problems.length,
      },
      'documents read',
    );
    for (const listener of this.#listeners) listener();
  }
}
