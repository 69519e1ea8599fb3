/** Objects of the API server double: versions, history, pages. */
import { randomUUID } from 'node:crypto';

export type Json = Record<string, unknown>;

export interface StoredObject extends Json {
  metadata: Json & {
    name: string;
    namespace?: string;
    uid: string;
    resourceVersion: string;
    generation?: number;
  };
}

export interface Change {
  readonly version: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly collection: string;
  readonly object: StoredObject;
}

/** An answer that is a refusal, as the API server words it. */
export class Refusal extends Error {
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

export class ObjectStore {
  readonly #objects = new Map<string, Map<string, StoredObject>>();
  readonly #pages = new Map<string, { readonly version: number; readonly rest: readonly StoredObject[] }>();
  readonly #listeners = new Set<(change: Change) => void>();
  #history: Change[] = [];
  #version = 1;
  /** Watches from before this version are refused. */
  #oldest = 0;

  get version(): number {
    return this.#version;
  }

  onChange(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** As etcd after a compaction and an API server with an empty cache: no history, no half-read lists. */
  compact(): void {
    this.#version++;
    this.#oldest = this.#version;
    this.#history = [];
    this.#pages.clear();
  }

  /** Changes after `version`. @throws Refusal 410 */
  since(collection: string, version: number): readonly Change[] {
    if (version < this.#oldest) {
      throw new Refusal(410, 'Expired', `too old resource version: ${version} (${this.#oldest})`);
    }
    return this.#history.filter((change) => change.collection === collection && change.version > version);
  }

  list(
    collection: string,
    keep: (object: StoredObject) => boolean,
    limit: number,
    token: string | undefined,
  ): { readonly items: readonly StoredObject[]; readonly version: number; readonly token: string } {
    let page = token === undefined ? undefined : this.#pages.get(token);
    if (token !== undefined && page === undefined) {
      throw new Refusal(410, 'Expired', 'The provided continue parameter is too old');
    }
    page ??= {
      version: this.#version,
      rest: [...this.#all(collection)]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([, object]) => object)
        .filter(keep),
    };
    const items = limit > 0 ? page.rest.slice(0, limit) : page.rest;
    const rest = page.rest.slice(items.length);
    const next = rest.length === 0 ? '' : randomUUID();
    // The rest is as it was when the list began.
    if (next !== '') this.#pages.set(next, { version: page.version, rest });
    return { items, version: page.version, token: next };
  }

  get(collection: string, key: string): StoredObject {
    const object = this.#all(collection).get(key);
    if (object === undefined) throw new Refusal(404, 'NotFound', `${collection} "${key}" not found`);
    return object;
  }

  create(collection: string, key: string, body: Json, hasStatus: boolean): StoredObject {
    if (this.#all(collection).has(key)) {
      throw new Refusal(409, 'AlreadyExists', `${collection} "${key}" already exists`);
    }
    const { status, ...rest } = body;
    const metadata = body.metadata as StoredObject['metadata'];
    return this.#store('ADDED', collection, key, {
      ...(hasStatus ? rest : { ...rest, ...(status === undefined ? {} : { status }) }),
      metadata: {
        ...metadata,
        uid: randomUUID(),
        generation: 1,
        creationTimestamp: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
      },
    });
  }

  /** @param part the subresource that is written; what belongs to the other part stays */
  replace(
    collection: string,
    key: string,
    body: Json,
    hasStatus: boolean,
    part: 'status' | '',
  ): StoredObject {
    const before = this.get(collection, key);
    const given = body.metadata as Partial<StoredObject['metadata']> | undefined;
    if (given?.resourceVersion !== undefined && given.resourceVersion !== before.metadata.resourceVersion) {
      throw new Refusal(409, 'Conflict', `Operation cannot be fulfilled on ${collection} "${key}": modified`);
    }
    if (given?.uid !== undefined && given.uid !== before.metadata.uid) {
      throw new Refusal(409, 'Conflict', `Precondition failed: UID in precondition: ${given.uid}`);
    }
    const { uid, creationTimestamp, generation = 1 } = before.metadata;
    let after: Json;
    if (part === 'status') {
      after = { ...before, status: body.status };
    } else {
      const status = hasStatus ? before.status : body.status;
      const grown = JSON.stringify(before.spec) === JSON.stringify(body.spec) ? generation : generation + 1;
      const { namespace } = before.metadata;
      const place = namespace === undefined ? {} : { namespace };
      const metadata = { ...(body.metadata as Json), ...place, uid, creationTimestamp, generation: grown };
      after = { ...body, status, metadata };
      if (status === undefined) delete after.status;
    }
    const same = (object: Json): string =>
      JSON.stringify({ ...object, metadata: { ...(object.metadata as Json), resourceVersion: '' } });
    if (same(after) === same(before)) return before;
    return this.#store('MODIFIED', collection, key, after as StoredObject);
  }

  remove(collection: string, key: string, uid: string | undefined): StoredObject {
    const object = this.get(collection, key);
    if (uid !== undefined && uid !== object.metadata.uid) {
      throw new Refusal(409, 'Conflict', `Precondition failed: UID in precondition: ${uid}`);
    }
    this.#all(collection).delete(key);
    this.#version++;
    const metadata = { ...object.metadata, resourceVersion: String(this.#version) };
    return this.#record('DELETED', collection, { ...object, metadata });
  }

  /** All objects of a kind that is no more. */
  removeAll(collection: string): void {
    for (const key of [...this.#all(collection).keys()]) this.remove(collection, key, undefined);
  }

  #store(type: 'ADDED' | 'MODIFIED', collection: string, key: string, object: Json): StoredObject {
    this.#version++;
    const metadata = {
      ...(object.metadata as StoredObject['metadata']),
      resourceVersion: String(this.#version),
    };
    const stored: StoredObject = { ...object, metadata };
    this.#all(collection).set(key, stored);
    return this.#record(type, collection, stored);
  }

  #record(type: Change['type'], collection: string, object: StoredObject): StoredObject {
    const change = { version: this.#version, type, collection, object };
    this.#history.push(change);
    for (const listener of this.#listeners) listener(change);
    return object;
  }

  #all(collection: string): Map<string, StoredObject> {
    const found = this.#objects.get(collection) ?? new Map<string, StoredObject>();
    this.#objects.set(collection, found);
    return found;
  }
}

/** RFC 7386: null takes out, maps are merged, everything else replaces. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const isMap = typeof target === 'object' && target !== null && !Array.isArray(target);
  const merged: Json = isMap ? { ...(target as Json) } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(merged[key], value);
  }
  return merged;
}
