import { createHash } from 'node:crypto';
import { TidepoolError } from '../errors.ts';
import type { Digest } from '../ids.ts';
import { blobPath, fixedFiles, STATEMENT_FILE } from './layout-files.ts';
import type { BundleBlob } from './statement.ts';
import type { StatementFile } from './statement-file.ts';
import { paddingOf, TAR_END, tarHeader } from './tar.ts';

export interface BundleContent {
  manifest(digest: Digest): Uint8Array | undefined;
  blob(blob: BundleBlob): AsyncIterable<Uint8Array>;
}

/**
 * A bundle's bytes. Equal statements give equal bytes.
 * @throws TidepoolError DIGEST_MISMATCH for content that is not what the statement says, and what the content throws
 */
export async function* bundleTar(file: StatementFile, content: BundleContent): AsyncGenerator<Uint8Array> {
  const said = file.statement;
  yield* smallFile(STATEMENT_FILE, file.bytes);
  for (const { name, bytes } of fixedFiles(said)) yield* smallFile(name, bytes);
  for (const { digest } of said.manifests) {
    const bytes = content.manifest(digest);
    if (bytes === undefined) throw new TidepoolError('INTERNAL', `manifest ${digest} is not at hand`);
    yield* smallFile(blobPath(digest), bytes);
  }
  for (const blob of said.blobs) {
    yield tarHeader(blobPath(blob.digest), blob.size);
    yield* checked(blob, content.blob(blob));
    yield new Uint8Array(paddingOf(blob.size));
  }
  yield TAR_END;
}

function* smallFile(name: string, bytes: Uint8Array): Generator<Uint8Array> {
  yield tarHeader(name, bytes.length);
  yield bytes;
  yield new Uint8Array(paddingOf(bytes.length));
}

async function* checked(
  { digest, size }: BundleBlob,
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > size) break;
    hash.update(chunk);
    yield chunk;
  }
  if (bytes !== size || `sha256:${hash.digest('hex')}` !== digest) {
    throw new TidepoolError('DIGEST_MISMATCH', `what came as ${digest} is something else`);
  }
}
