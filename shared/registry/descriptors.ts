import { TidepoolError } from '../errors.ts';
import { type Digest, isDigest } from '../ids.ts';
import { MAX_BLOB_BYTES } from '../pieces.ts';
import type { Platform } from './platform.ts';

/** What a manifest says of something it names (OCI image-spec 1.1, descriptor). */
export interface Descriptor {
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
  readonly platform: Platform | undefined;
}

export interface Descriptors {
  /** Of an image manifest: config and layers; of an artifact: its blobs. */
  readonly blobs: readonly Descriptor[];
  /** Of an index: manifests of platforms, attestations and so on. */
  readonly manifests: readonly Descriptor[];
}

/**
 * Reads what a manifest names. Documents that name nothing (unknown kinds) are fine; one that is no JSON, or names things
 * wrongly, is not.
 * @throws TidepoolError ORIGIN_LIED
 */
export function readDescriptors(record: {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
}): Descriptors {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(record.bytes).toString('utf8'));
  } catch (error) {
    throw new TidepoolError('ORIGIN_LIED', `manifest ${record.digest} is no JSON`, { cause: error });
  }
  if (!isRecord(json)) throw new TidepoolError('ORIGIN_LIED', `manifest ${record.digest} is no JSON object`);
  const one = (value: unknown): Descriptor[] => (value === undefined ? [] : [parse(value, record.digest)]);
  const many = (value: unknown): Descriptor[] =>
    Array.isArray(value) ? value.map((item) => parse(item, record.digest)) : [];
  return {
    blobs: [...one(json.config), ...many(json.layers), ...many(json.blobs)],
    manifests: many(json.manifests),
  };
}

function parse(value: unknown, manifest: Digest): Descriptor {
  const bad = (why: string): TidepoolError =>
    new TidepoolError('ORIGIN_LIED', `manifest ${manifest} names ${why}`);
  if (!isRecord(value)) throw bad('something that is no descriptor');
  const { digest, size, mediaType, platform } = value;
  if (typeof digest !== 'string' || !isDigest(digest)) throw bad('a digest that is not sha256');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0 || size > MAX_BLOB_BYTES)
    throw bad(`a size that is none, of ${digest}`);
  return {
    digest,
    size,
    mediaType: typeof mediaType === 'string' ? mediaType : '',
    platform: isRecord(platform)
      ? {
          os: String(platform.os ?? ''),
          architecture: String(platform.architecture ?? ''),
          ...(typeof platform.variant === 'string' ? { variant: platform.variant } : {}),
        }
      : undefined,
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
