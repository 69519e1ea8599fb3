import { type Digest, isDigest } from '../../../shared/ids.ts';
import type { SampleManifest } from './image.ts';
import { type BlobSource, blobOf } from './layers.ts';

export interface Repository {
  readonly tags: Map<string, Digest>;
  readonly manifests: Map<Digest, SampleManifest>;
  readonly blobs: Map<Digest, BlobSource>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly source: BlobSource;
  readonly start: number;
  readonly end: number;
  /** Counted under this digest. */
  readonly digest: Digest | undefined;
}

export function manifestAnswer(repository: Repository, reference: string): Answer {
  const digest = isDigest(reference) ? reference : repository.tags.get(reference);
  const manifest = digest === undefined ? undefined : repository.manifests.get(digest);
  if (manifest === undefined) return refuse(404, 'MANIFEST_UNKNOWN', 'manifest unknown');
  return {
    status: 200,
    headers: {
      'Content-Type': manifest.mediaType,
      'Docker-Content-Digest': manifest.digest,
      ETag: `"${manifest.digest}"`,
    },
    source: { digest: manifest.digest, size: manifest.size, bytes: manifest.bytes },
    start: 0,
    end: manifest.size,
    digest: manifest.digest,
  };
}

export function referrersAnswer(repository: Repository, subject: string): Answer {
  const manifests = [...repository.manifests.values()]
    .filter((manifest) => manifest.subject === subject)
    .map(({ mediaType, digest, size, artifactType }) => ({ mediaType, digest, size, artifactType }));
  const index = { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests };
  const answer = document(200, index);
  return { ...answer, headers: { 'Content-Type': index.mediaType } };
}

export function document(status: number, value: unknown): Answer {
  const source = blobOf(Buffer.from(JSON.stringify(value)));
  return {
    status,
    headers: { 'Content-Type': 'application/json' },
    source,
    start: 0,
    end: source.size,
    digest: undefined,
  };
}

export function refuse(
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
): Answer {
  const answer = document(status, { errors: [{ code, message }] });
  return { ...answer, headers: { ...answer.headers, ...headers } };
}
