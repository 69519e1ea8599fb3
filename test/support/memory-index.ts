import type { Index, TagRecord } from '../../edge/index/types.ts';
import type { Digest } from '../../shared/ids.ts';

/** The index's tables in memory. */
export function memoryIndex(): Index {
  const manifests = new Map<Digest, Parameters<Index['manifests']['put']>[0]>();
  const sizes = new Map<Digest, number>();
  const tags = new Map<string, TagRecord[]>();
  const documents = new Map<string, unknown>();
  const nameOf = (registry: string, repository: string, tag: string): string =>
    `${registry}/${repository}:${tag}`;
  return {
    manifests: {
      get: (digest) => manifests.get(digest),
      put: (record) => void manifests.set(record.digest, record),
    },
    sizes: {
      get: (digest) => sizes.get(digest),
      put: (entries) => {
        for (const [digest, size] of entries) sizes.set(digest, size);
      },
    },
    tags: {
      list: (registry, repository, tag) => tags.get(nameOf(registry, repository, tag)) ?? [],
      put: (record) => {
        const name = nameOf(record.registry, record.repository, record.tag);
        tags.set(name, [record, ...(tags.get(name) ?? [])].slice(0, 2));
      },
    },
    documents: {
      get: (name) => documents.get(name),
      put: (name, value) => void documents.set(name, structuredClone(value)),
      delete: (name) => void documents.delete(name),
      list: (prefix) =>
        [...documents].filter(([name]) => name.startsWith(prefix)).map(([name, value]) => ({ name, value })),
    },
  };
}
