import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { JsonFile, removeFile } from '../data/json-file.ts';
import { prefetchId } from '../desired/prefetch-spec.ts';
import type { Problem } from '../desired/types.ts';
import { JobRecord, type SavedRecord, savedRecord } from './job-record.ts';

/** Outcomes come in bursts; a crash loses at most so much of what agents will say again. */
const SAVE_MS = 1_000;

/** The memories of all jobs, a file each. */
export class JobBook implements Startable {
  readonly name = 'prefetch records';
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #directory: string;
  readonly #records = new Map<string, JobRecord>();
  readonly #files = new Map<string, JsonFile<SavedRecord>>();
  readonly #dirty = new Set<string>();
  readonly #problems = new Map<string, Problem>();
  #cancelSave: (() => void) | undefined;
  #saving: Promise<void> = Promise.resolve();

  constructor(
    components: { readonly clock: Clock; readonly log: Logger },
    init: { readonly directory: string },
  ) {
    this.#clock = components.clock;
    this.#log = components.log;
    this.#directory = init.directory;
  }

  /** A record that cannot be read costs its job the memory, not the hub its start. */
  async start(): Promise<void> {
    const names = await readdir(this.#directory).catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
      throw error;
    });
    for (const name of names) {
      const id = name.replace(/\.json$/, '');
      if (id === name || !prefetchId.safeParse(id).success) continue;
      try {
        const saved = await this.#fileOf(id).read();
        if (saved !== undefined) this.#records.set(id, JobRecord.load(saved));
      } catch (error) {
        this.#log.error(
          { id, err: error },
          'what was remembered of a prefetch cannot be read; it starts anew',
        );
        this.#problems.set(id, { source: `prefetch ${id}`, message: describeError(error) });
      }
    }
  }

  async stop(): Promise<void> {
    this.#cancelSave?.();
    this.#cancelSave = undefined;
    await this.#flush();
  }

  problems(): readonly Problem[] {
    return [...this.#problems.values()];
  }

  get(id: string): JobRecord | undefined {
    return this.#records.get(id);
  }

  /** The job's record, made where there is none. */
  of(id: string): JobRecord {
    const known = this.#records.get(id);
    if (known !== undefined) return known;
    const record = new JobRecord(this.#clock.now());
    this.#records.set(id, record);
    return record;
  }

  all(): ReadonlyMap<string, JobRecord> {
    return this.#records;
  }

  /** The record has changed; it is saved shortly. */
  mark(id: string): void {
    this.#dirty.add(id);
    this.#cancelSave ??= this.#clock.after(SAVE_MS, () => {
      this.#cancelSave = undefined;
      void this.#flush();
    });
  }

  /** Saves at once; resolves when it is on disk, or a problem. */
  async saved(id: string): Promise<void> {
    this.#dirty.add(id);
    await this.#flush();
  }

  /** Forgets jobs that are no more. */
  retain(ids: ReadonlySet<string>): void {
    for (const id of [...this.#records.keys()]) {
      if (ids.has(id)) continue;
      this.#records.delete(id);
      this.#problems.delete(id);
      this.mark(id);
    }
  }

  #flush(): Promise<void> {
    this.#saving = this.#saving.then(async () => {
      const ids = [...this.#dirty];
      this.#dirty.clear();
      for (const id of ids) await this.#save(id);
    });
    return this.#saving;
  }

  /** Never rejects: the hub goes on, only a restart may not know it. */
  async #save(id: string): Promise<void> {
    const record = this.#records.get(id);
    try {
      if (record === undefined) {
        this.#files.delete(id);
        await removeFile(path.join(this.#directory, `${id}.json`));
      } else {
        await this.#fileOf(id).write(record.save());
      }
      this.#problems.delete(id);
    } catch (error) {
      if (record === undefined && error instanceof Error && 'code' in error && error.code === 'ENOENT')
        return;
      this.#log.error({ id, err: error }, 'could not save what is known of a prefetch');
      const message = `what is known of it could not be saved: ${describeError(error)}`;
      this.#problems.set(id, { source: `prefetch ${id}`, message });
    }
  }

  #fileOf(id: string): JsonFile<SavedRecord> {
    const known = this.#files.get(id);
    if (known !== undefined) return known;
    const file = new JsonFile(path.join(this.#directory, `${id}.json`), savedRecord);
    this.#files.set(id, file);
    return file;
  }
}
