import type { Clock } from '../../shared/clock.ts';
import { delay } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import { Backoff } from '../../shared/flow/backoff.ts';
import type { Logger } from '../../shared/log.ts';
import type { Problem } from '../desired/types.ts';
import {
  ABSENT_CONFIRM_MS,
  ABSENT_MS,
  DENIED_RETRY,
  PAGE_LIMIT,
  RELIST_MS,
  RETRY,
  STABLE_MS,
  WATCH_MAX_MS,
  WATCH_MIN_MS,
} from './constants.ts';
import type { KubeApi, Query } from './kube-client.ts';
import { isKubeError, KubeError } from './kube-error.ts';
import { numberAt, stringAt } from './objects.ts';
import { type About, type Endpoint, type Entry, keyOf, type Resource } from './resources.ts';

export interface ReflectorComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly client: KubeApi;
  /** After each change of the items, the problem or `decided`. */
  readonly onChange: () => void;
  /** In [0, 1). */
  readonly random: () => number;
}

/** Times in ms; tests shorten them. */
export interface ReflectorTimes {
  readonly relistMs?: number;
  readonly absentMs?: number;
  readonly absentConfirmMs?: number;
  readonly deniedRetry?: { readonly baseMs: number; readonly maxMs: number };
  readonly retry?: { readonly baseMs: number; readonly maxMs: number };
}

interface Held<T> {
  readonly entry: Entry<T>;
  /** Of what counts, to tell a change: status and the like do not. */
  readonly text: string;
}

/**
 * A copy of one resource's objects, projected as they arrive and kept equal for as long as it runs: list in pages, watch,
 * list again when the watch has lost its place, and now and then anyhow. Whatever goes wrong, what was held stays.
 */
export class Reflector<T> {
  readonly resource: Resource<T>;
  readonly #c: ReflectorComponents;
  readonly #times: Required<ReflectorTimes>;
  readonly #retry: Backoff;
  readonly #denied: Backoff;
  #items = new Map<string, Held<T>>();
  #problem: Problem | undefined;
  #decided = false;
  #absences = 0;
  #version = '';
  #controller: AbortController | undefined;
  #run: Promise<void> = Promise.resolve();

  constructor(components: ReflectorComponents, resource: Resource<T>, times: ReflectorTimes = {}) {
    this.#c = components;
    this.resource = resource;
    this.#times = {
      relistMs: RELIST_MS,
      absentMs: ABSENT_MS,
      absentConfirmMs: ABSENT_CONFIRM_MS,
      deniedRetry: DENIED_RETRY,
      retry: RETRY,
      ...times,
    };
    const { random } = components;
    this.#retry = new Backoff({ ...this.#times.retry, random });
    this.#denied = new Backoff({ ...this.#times.deniedRetry, random });
  }

  /** True once it is known what there is: the first list is through, or the server has said that there will be none. */
  get decided(): boolean {
    return this.#decided;
  }

  get problem(): Problem | undefined {
    return this.#problem;
  }

  *values(): IterableIterator<T> {
    for (const { entry } of this.#items.values()) if (entry.value !== undefined) yield entry.value;
  }

  /** What is wrong with single objects. */
  *flaws(): IterableIterator<Problem> {
    for (const { entry } of this.#items.values()) yield* entry.problems;
  }

  /** By the object's name, `namespace/name` where it has a namespace. */
  about(key: string): About | undefined {
    return this.#items.get(key)?.entry.about;
  }

  start(): void {
    if (this.#controller !== undefined) return;
    const controller = new AbortController();
    this.#controller = controller;
    this.#run = this.#loop(controller.signal);
  }

  async stop(): Promise<void> {
    this.#controller?.abort(new Error('stopped'));
    this.#controller = undefined;
    await this.#run;
  }

  async #loop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let waitMs = 0;
      try {
        waitMs = await this.#round(signal);
      } catch (error) {
        if (signal.aborted) return;
        waitMs = this.#failed(error);
      }
      await delay(this.#c.clock, waitMs, signal).catch(() => undefined);
    }
  }

  /** From one list to the next; the answer is how long to wait before that. */
  async #round(signal: AbortSignal): Promise<number> {
    const { clock } = this.#c;
    const endpoint = await this.resource.locate(this.#c.client, signal);
    if (endpoint === undefined) return this.#absent();
    const relistAt = clock.mono() + this.#times.relistMs * (0.9 + 0.2 * this.#c.random());
    await this.#list(endpoint, signal);
    while (clock.mono() < relistAt) {
      const startedAt = clock.mono();
      try {
        const gone = await this.#watch(endpoint, relistAt - startedAt, signal);
        const lived = clock.mono() - startedAt >= STABLE_MS;
        if (lived) this.#retry.reset();
        if (gone) return this.#retry.next();
        if (!lived) await delay(clock, this.#retry.next(), signal);
      } catch (error) {
        if (signal.aborted || isKubeError(error, 401, 403, 404)) throw error;
        if (clock.mono() - startedAt >= STABLE_MS) this.#retry.reset();
        // The place in the history is still good, so nothing has to be listed again.
        await delay(clock, this.#failed(error), signal);
      }
    }
    return 0;
  }

  async #list(endpoint: Endpoint, signal: AbortSignal): Promise<void> {
    const { client } = this.#c;
    const items = new Map<string, Held<T>>();
    let token: string | undefined;
    let version = '';
    do {
      const query: Query = { ...endpoint.query, limit: PAGE_LIMIT, continue: token };
      const { path } = endpoint;
      const accept = endpoint.listAccept;
      const request = { path, query, signal, ...(accept === undefined ? {} : { accept }) };
      const page = await client.list(request, (object) => this.#put(items, object, endpoint));
      version = stringAt(page, 'metadata', 'resourceVersion') ?? version;
      token = stringAt(page, 'metadata', 'continue') || undefined;
    } while (token !== undefined);
    this.#version = version;
    const before = this.#items;
    this.#items = items;
    const same =
      items.size === before.size && [...items].every(([key, { text }]) => before.get(key)?.text === text);
    const first = !this.#decided;
    this.#decided = true;
    this.#absences = 0;
    if (first) this.#c.log.info({ resource: this.resource.plural, objects: items.size }, 'listed');
    if (first || !same) this.#c.onChange();
  }

  /** True when the server no longer knows our place in the history. */
  async #watch(endpoint: Endpoint, leftMs: number, signal: AbortSignal): Promise<boolean> {
    const spread = WATCH_MIN_MS + (WATCH_MAX_MS - WATCH_MIN_MS) * this.#c.random();
    const timeoutSeconds = Math.max(1, Math.ceil(Math.min(spread, leftMs) / 1000));
    const { path, query, watchAccept } = endpoint;
    try {
      await this.#c.client.watch({
        path,
        query: { ...query, resourceVersion: this.#version, timeoutSeconds },
        ...(watchAccept === undefined ? {} : { accept: watchAccept }),
        signal,
        onOpen: () => this.#well(),
        onEvent: (event) => this.#take(event, endpoint),
      });
      return false;
    } catch (error) {
      if (isKubeError(error, 410)) return true;
      throw error;
    }
  }

  #take(event: unknown, endpoint: Endpoint): void {
    const type = stringAt(event, 'type');
    const object =
      typeof event === 'object' && event !== null && 'object' in event ? event.object : undefined;
    if (type === 'ERROR') {
      const seconds = numberAt(object, 'details', 'retryAfterSeconds');
      throw new KubeError(
        `watch ${endpoint.path}: ${stringAt(object, 'message') ?? 'an error without words'}`,
        {
          httpStatus: numberAt(object, 'code') ?? 500,
          reason: stringAt(object, 'reason') ?? '',
          retryAfterMs: seconds === undefined ? undefined : seconds * 1000,
        },
      );
    }
    const key = keyOf(object);
    const before = this.#items.get(key)?.text;
    if (type === 'ADDED' || type === 'MODIFIED') this.#put(this.#items, object, endpoint);
    else if (type === 'DELETED') this.#items.delete(key);
    this.#version = stringAt(object, 'metadata', 'resourceVersion') ?? this.#version;
    if (type !== 'BOOKMARK' && this.#items.get(key)?.text !== before) this.#c.onChange();
  }

  #put(items: Map<string, Held<T>>, object: unknown, endpoint: Endpoint): void {
    const key = keyOf(object);
    const entry = this.resource.project(object, endpoint, this.#items.get(key)?.entry.value);
    if (entry === undefined) items.delete(key);
    else items.set(key, { entry, text: JSON.stringify([entry.value, entry.problems]) });
  }

  #absent(): number {
    this.#absences++;
    // An API server that starts may not know its own kinds for a moment.
    if (this.#items.size > 0 && this.#absences < 2) return this.#times.absentConfirmMs;
    const changed = !this.#decided || this.#items.size > 0 || this.#problem !== undefined;
    if (!this.#decided)
      this.#c.log.info({ resource: this.resource.plural }, 'this cluster has none of these');
    this.#items = new Map();
    this.#decided = true;
    this.#problem = undefined;
    if (changed) this.#c.onChange();
    return this.#times.absentMs * (0.75 + 0.5 * this.#c.random());
  }

  #well(): void {
    this.#denied.reset();
    if (this.#problem === undefined) return;
    this.#problem = undefined;
    this.#c.log.info({ resource: this.resource.plural }, 'reachable again');
    this.#c.onChange();
  }

  /** Remembers what is wrong; the answer is how long to wait. */
  #failed(error: unknown): number {
    const { log } = this.#c;
    const denied = isKubeError(error, 401, 403);
    const backoff = denied ? this.#denied : this.#retry;
    const problem = this.#problemOf(error);
    log.debug({ resource: this.resource.plural, reason: describeError(error) }, 'not followed for now');
    const first = denied && !this.#decided;
    // Denied is a decision too: the rest of the hub must not wait for a permission that may never come.
    if (denied) this.#decided = true;
    const changed = this.#problem?.message !== problem.message;
    this.#problem = problem;
    if (changed) log.warn({ resource: this.resource.plural, reason: problem.message }, 'cannot be followed');
    if (changed || first) this.#c.onChange();
    const asked = isKubeError(error) ? (error.retryAfterMs ?? 0) : 0;
    return asked * (1 + 0.5 * this.#c.random()) + backoff.next();
  }

  #problemOf(error: unknown): Problem {
    const { plural, group } = this.resource;
    const kept = 'what was last seen stays in force';
    if (isKubeError(error, 403)) {
      const named = group === '' ? plural : `${plural}.${group}`;
      const message = `the hub may not list and watch ${named}: give its service account verbs get, list, watch on it (${error.message}); ${kept}`;
      return { source: `kubernetes ${plural}`, message };
    }
    if (isKubeError(error, 401)) {
      const message = `the API server does not accept the hub's credentials (${error.message}); ${kept}`;
      return { source: 'kubernetes', message };
    }
    if (isKubeError(error, 0, 429) || (isKubeError(error) && error.httpStatus >= 500)) {
      // Without the path: one problem for all resources, however many are out of reach.
      const message = `the Kubernetes API at ${this.#c.client.server} cannot be reached, or is not ready; ${kept}`;
      return { source: 'kubernetes', message };
    }
    return { source: `kubernetes ${plural}`, message: `${describeError(error)}; ${kept}` };
  }
}
