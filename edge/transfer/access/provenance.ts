import type { BlobKey } from '../../../shared/ids.ts';
import type { ProvenanceTable, ScopeTable } from '../../index/types.ts';
import type { BlobStore, StoredBlob } from '../../store/types.ts';
import type { Swarms } from '../swarms.ts';
import { PROVENANCE_ENTRIES } from './constants.ts';

interface ProvenanceComponents {
  readonly table: ProvenanceTable;
  readonly scope: Pick<ScopeTable, 'isOpen'>;
  readonly store: Pick<BlobStore, 'get'>;
  /** What this node has fetched itself. Absent: all that is in the store. */
  readonly own?: Pick<BlobStore, 'get'>;
  readonly swarms: Pick<Swarms, 'get'>;
}

interface Sources {
  /** The registry that the bytes here are coming from. */
  begun: string | undefined;
  readonly proven: Set<string>;
}

/**
 * Whose bytes a blob's are. A registry may say that its repository has any digest, so its word opens nothing that another
 * registry gave: bytes that are here are served under a registry only when they came from it, or when it has shown before
 * that it has every one of them. What anybody may pull somewhere is no secret and is served under any.
 */
export class Provenance {
  readonly #c: ProvenanceComponents;
  readonly #known = new Map<BlobKey, Sources>();

  constructor(components: ProvenanceComponents) {
    this.#c = components;
  }

  /** True when what this node holds of the blob, and is fetching, is this registry's. Of nothing held, nothing is another's. */
  mayShare(registry: string, digest: BlobKey): boolean {
    const stored = this.#c.store.get(digest);
    const download = this.#c.swarms.get(digest);
    if (stored?.whole !== true && download?.active === true && download.target.registry !== registry) {
      return this.#c.scope.isOpen(digest);
    }
    const sources = this.#sources(digest);
    if (sources.proven.has(registry)) return true;
    if (download?.active !== true && isEmpty(stored)) return true;
    if (sources.begun === registry) {
      // Whole means checked, and it all came under the name of this registry.
      if (stored?.whole === true) this.prove(registry, digest);
      return true;
    }
    return this.#c.scope.isOpen(digest);
  }

  /** What is remembered is read from the table again: rows of it may have gone. */
  forget(): void {
    this.#known.clear();
  }

  /** Called where {@link mayShare} holds and bytes are about to be fetched. */
  begin(registry: string, digest: BlobKey): void {
    const sources = this.#sources(digest);
    if (sources.begun === registry || this.#c.store.get(digest)?.whole === true) return;
    if (this.#c.swarms.get(digest)?.active === true) return;
    this.#c.table.begin(digest, registry);
    sources.begun = registry;
  }

  /** The registry has given every byte of it, and they match its digest. */
  prove(registry: string, digest: BlobKey): void {
    this.#c.table.prove(digest, registry);
    const sources = this.#sources(digest);
    sources.proven.add(registry);
  }

  /**
   * The container runtime has every byte of it by the word of these registries. One that has given it to this node itself is
   * the only one that is known then: a name that the runtime has for it proves nothing against that.
   */
  adopt(registries: Iterable<string>, digest: BlobKey): void {
    const sources = this.#settled(digest);
    const given = new Set(sources.proven);
    for (const registry of registries) {
      if (given.size === 0 || given.has(registry)) this.prove(registry, digest);
    }
  }

  /**
   * Called before bytes that lie elsewhere are served for it: true when it is known whose they are. What was begun here
   * is none of theirs.
   */
  place(digest: BlobKey): boolean {
    const sources = this.#settled(digest);
    if (sources.proven.size === 0) return false;
    if (sources.begun !== undefined) {
      this.#c.table.forgetBegun(digest);
      sources.begun = undefined;
    }
    return true;
  }

  /** What this node has fetched to the end came from where it was begun. */
  #settled(digest: BlobKey): Sources {
    const sources = this.#sources(digest);
    const { begun } = sources;
    if (begun !== undefined && (this.#c.own ?? this.#c.store).get(digest)?.whole === true) {
      this.prove(begun, digest);
      sources.begun = undefined;
    }
    return sources;
  }

  #sources(digest: BlobKey): Sources {
    let sources = this.#known.get(digest);
    if (sources === undefined) {
      const rows = this.#c.table.list(digest);
      sources = {
        begun: rows.find((row) => !row.proven)?.registry,
        proven: new Set(rows.filter((row) => row.proven).map((row) => row.registry)),
      };
    } else this.#known.delete(digest);
    this.#known.set(digest, sources);
    if (this.#known.size > PROVENANCE_ENTRIES) {
      const oldest = this.#known.keys().next();
      if (oldest.done !== true) this.#known.delete(oldest.value);
    }
    return sources;
  }
}

function isEmpty(stored: StoredBlob | undefined): boolean {
  return stored === undefined || (!stored.whole && stored.have.count === 0);
}
