import { TidepoolError } from '../../../shared/errors.ts';
import type { BlobKey } from '../../../shared/ids.ts';
import type { ManifestRecord, RepositoryName, ScopeEntry, ScopeTable } from '../../index/types.ts';
import { readDescriptors } from '../descriptors.ts';
import { SCOPE_ENTRIES } from './constants.ts';

interface ContentScopeComponents {
  readonly table: Pick<ScopeTable, 'get' | 'put' | 'manifestIn'>;
}

/**
 * What belongs to which repository: a manifest that its registry has answered with under that repository, to this node or to
 * a member of this pool, and the blobs that such a manifest names. What an index names does not: registries take an index
 * that names manifests of others, so each of these has to be answered for under the repository too.
 *
 * In front of the table is what was asked for lately: neighbours ask for every piece.
 */
export class ContentScope {
  readonly #table: ContentScopeComponents['table'];
  /** By registry, repository and digest; the first is the one used longest ago. */
  readonly #known = new Map<string, ScopeEntry>();

  constructor(components: ContentScopeComponents) {
    this.#table = components.table;
  }

  /** What is remembered is read from the table again: rows of it may have gone. */
  forget(): void {
    this.#known.clear();
  }

  has(name: RepositoryName, digest: BlobKey): boolean {
    return this.get(name, digest) !== undefined;
  }

  hasManifest(name: RepositoryName, digest: BlobKey): boolean {
    return this.get(name, digest)?.kind === 'manifest';
  }

  get(name: RepositoryName, digest: BlobKey): ScopeEntry | undefined {
    const key = keyOf(name, digest);
    const known = this.#known.get(key);
    if (known !== undefined) {
      this.#known.delete(key);
      this.#known.set(key, known);
      return known;
    }
    const entry = this.#table.get(name, digest);
    if (entry !== undefined) this.#remember(key, entry);
    return entry;
  }

  /** The registry, or a member that it has told, has this manifest under the repository. @throws TidepoolError STORE_FULL */
  addManifest(name: RepositoryName, record: ManifestRecord): void {
    const known = this.get(name, record.digest);
    if (known?.kind === 'manifest') return;
    this.#put(name, [{ digest: record.digest, kind: 'manifest' }, ...blobsOf(record)]);
  }

  /** The registry has this blob under the repository, whatever names it there. @throws TidepoolError STORE_FULL */
  addBlob(name: RepositoryName, digest: BlobKey, size: number | undefined): void {
    if (this.has(name, digest)) return;
    this.#put(name, [{ digest, kind: 'blob', ...(size === undefined ? {} : { size }) }]);
  }

  /** True when the registry has shown these bytes as a manifest of one of its repositories. */
  shownBy(registry: string, digest: BlobKey): boolean {
    return this.#table.manifestIn(registry, digest);
  }

  #put(name: RepositoryName, entries: readonly ScopeEntry[]): void {
    this.#table.put(name, entries);
    for (const { digest } of entries) this.#known.delete(keyOf(name, digest));
  }

  #remember(key: string, entry: ScopeEntry): void {
    this.#known.set(key, entry);
    if (this.#known.size <= SCOPE_ENTRIES) return;
    const oldest = this.#known.keys().next();
    if (oldest.done !== true) this.#known.delete(oldest.value);
  }
}

/** Blobs that come from elsewhere by their manifest's word (`urls`) are none of the repository's. */
function blobsOf(record: ManifestRecord): ScopeEntry[] {
  return readDescriptors(record)
    .blobs.filter(({ mediaType }) => !FOREIGN.test(mediaType))
    .map(({ digest, size }) => ({ digest, kind: 'blob' as const, size, via: record.digest }));
}

/** Layers that registries take without having them. */
const FOREIGN = /nondistributable|\.foreign\./;

export function outsideScope(name: RepositoryName, digest: BlobKey, why: string): TidepoolError {
  return new TidepoolError(
    'DENIED',
    `${digest} is not known to be of ${name.registry}/${name.repository}: ${why}`,
    { details: { outsideScope: true } },
  );
}

function keyOf({ registry, repository }: RepositoryName, digest: BlobKey): string {
  return `${registry}/${repository}@${digest}`;
}
