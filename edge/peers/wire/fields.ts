/** The border where a neighbour's words become values: what all kinds of messages are made of. */
import { describeError, TidepoolError } from '../../../shared/errors.ts';
import { type BlobKey, parseBlobKey } from '../../../shared/ids.ts';
import { isRegistryHost, isRepository } from '../../../shared/image-ref.ts';
import { layoutOf, MAX_BLOB_BYTES, type PieceLayout } from '../../../shared/pieces.ts';
import type { RepositoryName } from '../../index/types.ts';

export const SHA256_HEX = /^[0-9a-f]{64}$/;

export const MAX_LIST = 4_096;

/**
 * Reads an answer: nonsense in it is the neighbour's fault, not that of whoever asked.
 * @throws TidepoolError PEER_UNREACHABLE
 */
export function readAnswer<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new TidepoolError('PEER_UNREACHABLE', `the neighbour speaks nonsense: ${describeError(error)}`, {
      cause: error,
    });
  }
}

export function parseKey(query: URLSearchParams): BlobKey {
  return parseBlobKey(query.get('key') ?? '');
}

/** The repository that a question is asked under. @throws TidepoolError INVALID_ARGUMENT */
export function parseName(query: URLSearchParams): RepositoryName {
  return parseRepository(query.get('registry'), query.get('repository'));
}

/** A path with a question's subject and the repository that it is asked under. */
export function named(path: string, name: RepositoryName, subject: Readonly<Record<string, string>>): string {
  const { registry, repository } = name;
  return `${path}?${new URLSearchParams({ ...subject, registry, repository })}`;
}

export function parseRepository(
  registry: unknown,
  repository: unknown,
): { registry: string; repository: string } {
  const host = text(registry, 'registry');
  const name = text(repository, 'repository');
  if (!isRegistryHost(host)) throw bad(`registry is no host: ${JSON.stringify(host)}`);
  if (!isRepository(name)) throw bad(`repository is no repository: ${JSON.stringify(name)}`);
  return { registry: host, repository: name };
}

export function parseLayout(size: unknown, pieceSize: unknown): PieceLayout {
  const bytes = number(size, 'size', 0, MAX_BLOB_BYTES);
  return layoutOf(bytes, number(pieceSize, 'pieceSize', 64 * 1024, 64 * 1024 * 1024));
}

export function record(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(`${what} is no object`);
  return value as Record<string, unknown>;
}

export function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value) || value.length > MAX_LIST)
    throw bad(`${what} is no list of at most ${MAX_LIST}`);
  return value;
}

export function text(value: unknown, what: string): string {
  if (typeof value !== 'string') throw bad(`${what} is missing`);
  return value;
}

export function integer(value: string | null, what: string): number {
  if (value === null || !/^\d{1,16}$/.test(value)) throw bad(`${what} is no whole number`);
  return Number(value);
}

export function number(value: unknown, what: string, min: number, max: number): number {
  if (typeof value !== 'number' || !(value >= min && value <= max))
    throw bad(`${what} is not between ${min} and ${max}`);
  return value;
}

export function bad(message: string): TidepoolError {
  return new TidepoolError('INVALID_ARGUMENT', message);
}
