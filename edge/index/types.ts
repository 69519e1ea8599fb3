import type { Digest } from '../../shared/ids.ts';

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

/** The tables other rooms use; blob rows are the store's own business. */
export interface Index {
  readonly manifests: ManifestTable;
  readonly sizes: SizeTable;
  readonly tags: TagTable;
  readonly documents: DocumentTable;
}
