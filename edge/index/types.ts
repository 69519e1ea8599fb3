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

/** The tables other rooms use; blob rows are the store's own business. */
export interface Index {
  readonly manifests: ManifestTable;
  readonly sizes: SizeTable;
  readonly tags: TagTable;
  readonly documents: DocumentTable;
}
