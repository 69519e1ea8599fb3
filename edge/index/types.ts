import type { BlobKey, Digest } from '../../shared/ids.ts';

/** A manifest, image index or other document that a registry serves under `manifests/`. Bytes are exact. */
export interface ManifestRecord {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

/** What a tag pointed to when the origin was last asked. */
export interface TagRecord {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string;
  readonly digest: Digest;
  /** The origin's time of answer (its Date header), ms since 1970. */
  readonly originAt: number;
}

export interface ManifestTable {
  get(digest: Digest): ManifestRecord | undefined;
  put(record: ManifestRecord): void;
}

/** Sizes of blobs, as the manifests that name them say: what a blob's piece layout is made from. */
export interface SizeTable {
  get(digest: Digest): number | undefined;
  put(sizes: Iterable<readonly [Digest, number]>): void;
}

export interface TagTable {
  /** The last two records of a tag, newest first. */
  list(registry: string, repository: string, tag: string): readonly TagRecord[];
  put(record: TagRecord): void;
}

/** Small JSON documents that must survive a restart: roster, tuning, jobs, members. Names are like `roster` or `job/<id>`. */
export interface DocumentTable {
  get(name: string): unknown;
  put(name: string, value: unknown): void;
  delete(name: string): void;
  list(prefix: string): readonly { readonly name: string; readonly value: unknown }[];
}

export interface RepositoryName {
  /** As runtimes name it. */
  readonly registry: string;
  readonly repository: string;
}

/** Something that a repository has, by the word of its registry. */
export interface ScopeEntry {
  readonly digest: BlobKey;
  readonly kind: 'manifest' | 'blob';
  /** Of a blob, as the manifest says that names it, or as the registry does. */
  readonly size?: number;
  /** The manifest of the repository that names it; absent when the registry was asked for it alone. */
  readonly via?: Digest;
}

/** When a registry last said, ms since 1970, that anybody may pull from a repository, or that not everybody may. */
export interface RepositoryAccess {
  readonly openAt?: number;
  readonly closedAt?: number;
}

/** What repositories have, and whether they are open to all. */
export interface ScopeTable {
  get(name: RepositoryName, digest: BlobKey): ScopeEntry | undefined;
  /** All or none. */
  put(name: RepositoryName, entries: readonly ScopeEntry[]): void;
  /** True when some repository of the registry has this manifest. */
  manifestIn(registry: string, digest: BlobKey): boolean;
  /** True when a repository open to all has it, of a registry that has shown every byte. */
  isOpen(digest: BlobKey): boolean;
  access(name: RepositoryName): RepositoryAccess;
  setAccess(name: RepositoryName, access: RepositoryAccess): void;
}

/** Which registries the bytes that are here came from. */
export interface ProvenanceTable {
  list(digest: BlobKey): readonly { readonly registry: string; readonly proven: boolean }[];
  /** From now on they come from this registry; another one's beginning is forgotten. */
  begin(digest: BlobKey, registry: string): void;
  /** Nothing of what is here counts as coming from anywhere, but what was proven. */
  forgetBegun(digest: BlobKey): void;
  /** Every byte came from it, and was checked. */
  prove(digest: BlobKey, registry: string): void;
}

/** That somebody's credentials were good for a repository: `id` tells neither whose nor which. */
export interface GrantRecord {
  readonly id: string;
  /** ms since 1970. */
  readonly grantedAt: number;
}

export interface GrantTable {
  get(id: string): GrantRecord | undefined;
  /** `toldBy`: the node that found it out. Of each node only the newest are kept. */
  put(record: GrantRecord & { readonly toldBy: string }): void;
  delete(id: string): void;
  /** Forgets what was granted before `time`. */
  expire(time: number): void;
}

/** Something that happened, on its way into the outbox. Texts are empty where there is nothing to say. */
export interface OutboxEvent {
  /** Of the agent's start that it happened in. */
  readonly boot: string;
  readonly kind: string;
  readonly key: string;
  readonly detail: string;
  readonly count: number;
  /** Wall clock, ms. */
  readonly at: number;
}

/** As it is told: `boot` and `seq` name it, and it does not change any more. */
export interface OutboxRow extends Omit<OutboxEvent, 'at'> {
  readonly seq: number;
  readonly firstAt: number;
  readonly lastAt: number;
}

export interface OutboxUsage {
  readonly rows: number;
  readonly bytes: number;
  /** Events that there was no room for, and that the hub does not know of yet. */
  readonly lost: number;
}

/** What happened and the hub has not acknowledged. */
export interface OutboxTable {
  /** @throws TidepoolError STORE_FULL */
  add(event: OutboxEvent): void;
  /** The oldest, in order of their numbers within each boot; at least one when there is any. They count as told. */
  tell(limit: number, maxBytes: number): readonly OutboxRow[];
  /** The hub has what was told of this boot up to this number. */
  acknowledge(boot: string, seq: number): void;
  usage(): OutboxUsage;
}

/** The tables other rooms use; blob rows are the store's own business. */
export interface Index {
  readonly manifests: ManifestTable;
  readonly sizes: SizeTable;
  readonly tags: TagTable;
  readonly documents: DocumentTable;
}
