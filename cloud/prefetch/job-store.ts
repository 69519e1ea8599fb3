import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseYaml } from '../../shared/config-file.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { PrefetchRequest } from '../../shared/wire/api.ts';
import { removeFile, replaceFile } from '../data/json-file.ts';
import { project } from '../desired/documents.ts';
import { checkedSpec, prefetchId, toPrefetch } from '../desired/prefetch-spec.ts';
import type { DesiredPrefetch, Problem } from '../desired/types.ts';

/** Jobs kept; each is a retained message a pool. */
const MAX_JOBS = 1_000;

/** The jobs that were asked for over the API: one ImagePrefetch document a file, as a directory source would read it. */
export class JobStore implements Startable {
  readonly name = 'prefetch jobs';
  readonly #directory: string;
  readonly #jobs = new Map<string, DesiredPrefetch>();
  /** As they were written, to write them again. */
  readonly #specs = new Map<string, unknown>();
  readonly #listeners = new Set<() => void>();
  readonly #problems: Problem[] = [];

  constructor(init: { readonly directory: string }) {
    this.#directory = init.directory;
  }

  /** A job that cannot be read is a problem to show; the others work. */
  async start(): Promise<void> {
    const names = await readdir(this.#directory).catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
      throw error;
    });
    for (const name of names.filter((each) => each.endsWith('.json')).sort()) {
      const file = path.join(this.#directory, name);
      try {
        this.#load(file, await readFile(file, 'utf8'));
      } catch (error) {
        this.#problems.push({ source: file, message: describeError(error) });
      }
    }
  }

  async stop(): Promise<void> {}

  list(): readonly DesiredPrefetch[] {
    return [...this.#jobs.values()];
  }

  problems(): readonly Problem[] {
    return this.#problems;
  }

  has(id: string): boolean {
    return this.#jobs.has(id);
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Keeps a job; the same job under the same id is no second one.
   * @throws TidepoolError INVALID_ARGUMENT, CONFLICT for another job under this id, OVERLOADED
   */
  async add(id: string, request: PrefetchRequest): Promise<DesiredPrefetch> {
    const written = writtenSpec(request);
    const job = parseJob(id, written);
    const before = this.#jobs.get(id);
    if (before !== undefined) {
      if (JSON.stringify(before) === JSON.stringify(job)) return before;
      throw new TidepoolError(
        'CONFLICT',
        `prefetch ${id} exists and fetches something else, or elsewhere; choose another id, or delete it first`,
      );
    }
    return await this.#keep(job, written);
  }

  /**
   * Keeps a job as its spec has it, in place of the one of the same id.
   * @param spec as people write it in an ImagePrefetch
   * @throws TidepoolError INVALID_ARGUMENT, OVERLOADED
   */
  async put(id: string, spec: unknown): Promise<DesiredPrefetch> {
    return await this.#keep(parseJob(id, spec), spec);
  }

  /** @throws TidepoolError NOT_FOUND */
  async suspend(id: string, suspend: boolean): Promise<void> {
    const spec = this.#specs.get(id);
    if (typeof spec !== 'object' || spec === null) {
      throw new TidepoolError('NOT_FOUND', `there is no prefetch ${quote(id)}`);
    }
    await this.put(id, { ...spec, suspend });
  }

  /** @throws TidepoolError NOT_FOUND */
  async remove(id: string): Promise<void> {
    if (!this.#jobs.has(id)) throw new TidepoolError('NOT_FOUND', `there is no prefetch ${quote(id)}`);
    await removeFile(this.#fileOf(id));
    this.#jobs.delete(id);
    this.#specs.delete(id);
    this.#changed();
  }

  async #keep(job: DesiredPrefetch, spec: unknown): Promise<DesiredPrefetch> {
    const { id } = job;
    if (!this.#jobs.has(id) && this.#jobs.size >= MAX_JOBS) {
      throw new TidepoolError(
        'OVERLOADED',
        `${MAX_JOBS} prefetches are kept already; delete those that are done`,
      );
    }
    // Told apart from a half-done one by its place in the map: nobody sees a job that a restart would forget.
    await replaceFile(this.#fileOf(id), `${JSON.stringify(documentOf(id, spec), null, 2)}\n`);
    this.#jobs.set(id, job);
    this.#specs.set(id, spec);
    this.#changed();
    return job;
  }

  #fileOf(id: string): string {
    return path.join(this.#directory, `${id}.json`);
  }

  #load(file: string, text: string): void {
    const [document] = parseYaml(text);
    if (document === undefined) throw new TidepoolError('STORE_CORRUPT', 'the file is empty');
    const result = project(document, file);
    if ('offences' in result) {
      throw new TidepoolError('STORE_CORRUPT', result.offences.map(({ message }) => message).join('; '));
    }
    if (result.projection?.kind !== 'ImagePrefetch') {
      throw new TidepoolError('STORE_CORRUPT', 'the file holds no ImagePrefetch');
    }
    const { prefetch } = result.projection;
    this.#jobs.set(prefetch.id, { ...prefetch, source: `prefetch ${prefetch.id}` });
    const { value } = document;
    this.#specs.set(
      prefetch.id,
      typeof value === 'object' && value !== null && 'spec' in value ? value.spec : {},
    );
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

function documentOf(id: string, spec: unknown): unknown {
  return { apiVersion: 'tidepool.dev/v1alpha1', kind: 'ImagePrefetch', metadata: { name: id }, spec };
}

function writtenSpec({ images, pools, nodes, retain }: PrefetchRequest): unknown {
  return {
    images,
    ...(retain === undefined ? {} : { retain }),
    selector: {
      ...(pools === undefined ? {} : { nodePools: pools }),
      ...(nodes === undefined ? {} : { names: nodes }),
    },
  };
}

/** @throws TidepoolError INVALID_ARGUMENT */
function parseJob(id: string, written: unknown): DesiredPrefetch {
  const checkedId = prefetchId.safeParse(id);
  if (!checkedId.success) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not an id: ${quote(id)}; ${checkedId.error.issues[0]?.message ?? ''}`,
    );
  }
  return toPrefetch(id, checkedSpec(written), `prefetch ${id}`);
}
