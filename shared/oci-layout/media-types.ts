const INDEXES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
] as const;
const IMAGES = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
] as const;

/** Kinds of manifests that bundles carry. */
export const MANIFEST_TYPES = [...INDEXES, ...IMAGES] as const;
export type ManifestType = (typeof MANIFEST_TYPES)[number];

export function isManifestType(text: string): text is ManifestType {
  return MANIFEST_TYPES.some((known) => known === text);
}

export function isIndexType(type: ManifestType): boolean {
  return INDEXES.some((known) => known === type);
}

/** Layers that registries name without having them, as of Windows. */
export const FOREIGN_TYPE = /nondistributable|\.foreign\./;
