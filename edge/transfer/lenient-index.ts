import { isTidepoolError } from '../../shared/errors.ts';
import type { BlobKey, Digest } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import type {
  GrantTable,
  Index,
  ManifestRecord,
  ManifestTable,
  ProvenanceTable,
  RepositoryName,
  ScopeEntry,
  ScopeTable,
  SizeTable,
  TagTable,
} from '../index/types.ts';
import type { StoreRoom } from '../store/types.ts';

interface LenientComponents {
  readonly index: Index & {
    readonly scope: ScopeTable;
    readonly provenance: ProvenanceTable;
    readonly grants: GrantTable;
  };
  readonly room: Pick<StoreRoom, 'make'>;
  readonly log: Logger;
}

/** What is remembered of what could not be written. */
const MAX_MANIFEST_BYTES = 8 * 1024 * 1024;
const MAX_ENTRIES = 4_096;

/**
 * The index, for a node that has to serve also when its disk takes no row more. What cannot be written down is remembered for
 * a while, so that the pull that it belongs to comes to its end; after a restart it is asked for again. Only that a repository
 * is not open to all is never forgotten like that: then the request fails.
 */
export class LenientIndex {
  readonly documents: Index['documents'];
  readonly manifests: ManifestTable;
  readonly sizes: SizeTable;
  readonly tags: TagTable;
  readonly scope: ScopeTable;
  readonly provenance: ProvenanceTable;
  readonly grants: GrantTable;
  readonly #c: LenientComponents;
  readonly #manifests = new Map<Digest, ManifestRecord>();
  #manifestBytes = 0;
  readonly #entries = new Map<string, ScopeEntry>();

  constructor(components: LenientComponents) {
    this.#c = components;
    const { index } = components;
    this.documents = index.documents;
    const { manifests, sizes, tags, scope, provenance, grants } = index;
    this.manifests = {
      get: (digest) => manifests.get(digest) ?? this.#manifests.get(digest),
      put: (record) => {
        if (!this.#wrote(() => manifests.put(record))) this.#rememberManifest(record);
      },
    };
    // The sizes of what a manifest names are with what its repository has.
    this.sizes = { get: (digest) => sizes.get(digest), put: (all) => void this.#wrote(() => sizes.put(all)) };
    this.tags = {
      list: (registry, repository, tag) => tags.list(registry, repository, tag),
      put: (record) => void this.#wrote(() => tags.put(record)),
    };
    this.scope = {
      get: (name, digest) => scope.get(name, digest) ?? this.#entries.get(keyOf(name, digest)),
      put: (name, entries) => {
        if (!this.#wrote(() => scope.put(name, entries))) this.#rememberEntries(name, entries);
      },
      manifestIn: (registry, digest) => scope.manifestIn(registry, digest),
      isOpen: (digest) => scope.isOpen(digest),
      access: (name) => scope.access(name),
      setAccess: (name, access) => {
        if (access.closedAt !== undefined) scope.setAccess(name, access);
        else this.#wrote(() => scope.setAccess(name, access));
      },
    };
    this.provenance = {
      list: (digest) => provenance.list(digest),
      begin: (digest, registry) => void this.#wrote(() => provenance.begin(digest, registry)),
      forgetBegun: (digest) => void this.#wrote(() => provenance.forgetBegun(digest)),
      prove: (digest, registry) => void this.#wrote(() => provenance.prove(digest, registry)),
    };
    this.grants = {
      get: (id) => grants.get(id),
      put: (record) => void this.#wrote(() => grants.put(record)),
      delete: (id) => grants.delete(id),
      expire: (time) => void this.#wrote(() => grants.expire(time)),
    };
  }

  /** False when there was no room for it; then some is made for the next. */
  #wrote(write: () => void): boolean {
    try {
      write();
      return true;
    } catch (error) {
      if (!isTidepoolError(error, 'STORE_FULL')) throw error;
      this.#c.log.debug({ why: error.message }, 'no room in the index: remembered, and not written down');
      void this.#c.room.make();
      return false;
    }
  }

  #rememberManifest(record: ManifestRecord): void {
    if (record.bytes.length > MAX_MANIFEST_BYTES || this.#manifests.has(record.digest)) return;
    this.#manifests.set(record.digest, record);
    this.#manifestBytes += record.bytes.length;
    for (const [digest, { bytes }] of this.#manifests) {
      if (this.#manifestBytes <= MAX_MANIFEST_BYTES) break;
      this.#manifests.delete(digest);
      this.#manifestBytes -= bytes.length;
    }
  }

  #rememberEntries(name: RepositoryName, entries: readonly ScopeEntry[]): void {
    for (const entry of entries) this.#entries.set(keyOf(name, entry.digest), entry);
    for (const key of this.#entries.keys()) {
      if (this.#entries.size <= MAX_ENTRIES) break;
      this.#entries.delete(key);
    }
  }
}

function keyOf({ registry, repository }: RepositoryName, digest: BlobKey): string {
  return `${registry}/${repository}@${digest}`;
}
