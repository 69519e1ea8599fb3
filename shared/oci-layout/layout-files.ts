/** The files of a bundle, in the order that they stand in: what says what comes stands before it. */
import type { Digest } from '../ids.ts';
import { INDEX_FILE, LAYOUT_FILE, STATEMENT_FILE } from './constants.ts';
import { nameOf, type Statement } from './statement.ts';
import { TAR_END, tarBytes } from './tar.ts';

const LAYOUT = Buffer.from('{"imageLayoutVersion":"1.0.0"}\n');
const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';

export function blobPath(digest: Digest): string {
  return `blobs/sha256/${digest.slice('sha256:'.length)}`;
}

/** What every bundle of this statement has besides manifests and blobs; other tools read an OCI image layout by these. */
export function fixedFiles(said: Statement): { readonly name: string; readonly bytes: Buffer }[] {
  return [
    { name: LAYOUT_FILE, bytes: LAYOUT },
    { name: INDEX_FILE, bytes: indexOf(said) },
  ];
}

/** Bytes of the whole file. */
export function bundleBytes(statementFile: Uint8Array, said: Statement): number {
  const sizes = [
    statementFile.length,
    ...fixedFiles(said).map(({ bytes }) => bytes.length),
    ...said.manifests.map(({ size }) => size),
    ...said.blobs.map(({ size }) => size),
  ];
  return sizes.reduce((sum, size) => sum + tarBytes(size), TAR_END.length);
}

export { STATEMENT_FILE };

function indexOf(said: Statement): Buffer {
  const manifests = said.images.map((image) => ({
    mediaType: image.mediaType,
    digest: image.digest,
    size: image.size,
    annotations: {
      'io.containerd.image.name': nameOf(image),
      'org.opencontainers.image.ref.name': nameOf(image),
    },
  }));
  return Buffer.from(`${JSON.stringify({ schemaVersion: 2, mediaType: INDEX_TYPE, manifests })}\n`);
}
