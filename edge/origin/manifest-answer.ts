import { TidepoolError } from '../../shared/errors.ts';
import { type Digest, digestOf, isDigest, quote } from '../../shared/ids.ts';
import { headerOf } from './answers.ts';
import { MAX_MANIFEST_BYTES } from './constants.ts';
import { parseContentLength } from './content-range.ts';
import type { Exchange } from './exchange.ts';
import type { OriginManifest } from './types.ts';

/** What containerd and docker ask for; without it some registries convert to the oldest form, which has another digest. */
export const MANIFEST_ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.artifact.manifest.v1+json',
  '*/*;q=0.1',
].join(', ');

const DEFAULT_MEDIA_TYPE = 'application/vnd.oci.image.manifest.v1+json';

/** The Date header of an answer in ms since 1970, else `now`. */
export function dateOf(answer: Exchange, now: number): number {
  const at = Date.parse(headerOf(answer, 'date') ?? '');
  return Number.isNaN(at) ? now : at;
}

/**
 * A HEAD's answer; undefined where it says too little and the manifest has to be read.
 * @throws TidepoolError ORIGIN_LIED when it names another digest than was asked for
 */
export function readManifestHead(
  answer: Exchange,
  expected: Digest | undefined,
  where: string,
  now: number,
): OriginManifest | undefined {
  const digest = headerOf(answer, 'docker-content-digest');
  const size = parseContentLength(headerOf(answer, 'content-length'));
  const mediaType = mediaTypeOf(answer);
  if (digest === undefined || !isDigest(digest) || size === undefined || mediaType === undefined)
    return undefined;
  checkDigest(digest, expected, where);
  return { digest, mediaType, size, at: dateOf(answer, now) };
}

/** @throws TidepoolError ORIGIN_LIED (another digest, or no manifest at all), ORIGIN_ERROR (over 4 MiB, cut short) */
export async function readManifest(
  answer: Exchange,
  expected: Digest | undefined,
  where: string,
  now: number,
): Promise<OriginManifest> {
  checkPlain(answer, where);
  const bytes = await answer.body.readAll(MAX_MANIFEST_BYTES);
  if (bytes === undefined) {
    throw new TidepoolError(
      'ORIGIN_ERROR',
      `${where} sent a manifest of more than ${MAX_MANIFEST_BYTES} bytes`,
    );
  }
  const digest = digestOf(bytes);
  checkDigest(digest, expected, where);
  const named = headerOf(answer, 'docker-content-digest');
  if (named?.startsWith('sha256:') === true) checkDigest(digest, named, where);
  const document = parseObject(bytes);
  // A login page of the network in between answers 200 to anything; asked by tag, nothing else would tell it from a manifest.
  if (document === undefined) {
    throw new TidepoolError(
      'ORIGIN_LIED',
      `${where} sent no manifest but ${quote(mediaTypeOf(answer) ?? 'bytes')}`,
    );
  }
  const ownType = typeof document.mediaType === 'string' ? document.mediaType : undefined;
  const mediaType = mediaTypeOf(answer) ?? ownType ?? DEFAULT_MEDIA_TYPE;
  return { digest, mediaType, size: bytes.length, bytes, at: dateOf(answer, now) };
}

/** @throws TidepoolError ORIGIN_LIED when the body is encoded, although that was ruled out: no digest would match. */
export function checkPlain(answer: Exchange, where: string): void {
  const encoding = headerOf(answer, 'content-encoding');
  if (encoding === undefined || encoding === '' || encoding.toLowerCase() === 'identity') return;
  answer.body.cancel();
  throw new TidepoolError(
    'ORIGIN_LIED',
    `${where} sent Content-Encoding ${quote(encoding)}, which was not asked for`,
  );
}

export function checkDigest(actual: string, expected: string | undefined, where: string): void {
  if (expected === undefined || actual === expected) return;
  throw new TidepoolError(
    'ORIGIN_LIED',
    `${where} answered with ${quote(actual)} in place of ${quote(expected)}`,
    {
      details: { actual, expected },
    },
  );
}

function mediaTypeOf(answer: Exchange): string | undefined {
  const type = headerOf(answer, 'content-type')?.split(';')[0]?.trim().toLowerCase();
  return type === undefined || type === '' ? undefined : type;
}

function parseObject(bytes: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const parsed: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)
      ? { ...parsed }
      : undefined;
  } catch {
    return undefined;
  }
}
