/** What a bundle says of itself: every file of it with digest and size, before the first of them comes. */
import * as z from 'zod';
import type { Digest } from '../ids.ts';
import { isDigest } from '../ids.ts';
import { isRegistryHost, isRepository } from '../image-ref.ts';
import { MAX_BLOB_BYTES } from '../pieces.ts';
import {
  MAX_BLOBS,
  MAX_IMAGES,
  MAX_MANIFEST_BYTES,
  MAX_MANIFESTS,
  MAX_MANIFESTS_BYTES,
  MAX_STATEMENT_BYTES,
  MAX_WORD_CHARS,
} from './constants.ts';
import { MANIFEST_TYPES } from './media-types.ts';
import { bundleRefused } from './refusal.ts';

const digest = z.custom<Digest>((value) => typeof value === 'string' && isDigest(value), 'not a digest');
const mediaType = z.enum(MANIFEST_TYPES);
const platform = z
  .string()
  .max(100)
  .regex(/^[a-z0-9_.-]+(\/[a-z0-9_.-]+){1,2}$/);
const time = z.int().min(0);

/** One name, and what it stands for. */
const bundleImage = z.strictObject({
  registry: z.string().refine(isRegistryHost, 'not a registry'),
  repository: z.string().refine(isRepository, 'not a repository'),
  tag: z
    .string()
    .regex(/^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/)
    .optional(),
  digest,
  mediaType,
  size: z.int().min(2).max(MAX_MANIFEST_BYTES),
  /** Of an image that is no index, where it says so. */
  platform: platform.optional(),
  /** The registry gave it to one without an account. */
  open: z.boolean(),
  /** The same, signed by the hub; see {@link ImageWord}. */
  word: z.string().max(MAX_WORD_CHARS).optional(),
});

const bundleManifest = z.strictObject({ digest, size: z.int().min(2).max(MAX_MANIFEST_BYTES), mediaType });
const bundleBlob = z.strictObject({ digest, size: z.int().min(0).max(MAX_BLOB_BYTES) });
const leftOut = z.strictObject({
  digest,
  size: z.int().min(0).max(MAX_BLOB_BYTES),
  /** `platform`: the manifest of one that was not wanted. `base`: whoever imports it has it already. */
  why: z.enum(['platform', 'base']),
});

const statement = z.strictObject({
  version: z.literal(1),
  /** Wall clock of the hub, ms; both are there where the hub has signed. */
  created: time.optional(),
  expires: time.optional(),
  /** What it has something for; empty where its images do not say. */
  platforms: z.array(platform).max(MAX_IMAGES),
  /** In words, what the pool has to have already. */
  base: z.string().max(300).optional(),
  images: z.array(bundleImage).min(1).max(MAX_IMAGES),
  manifests: z.array(bundleManifest).min(1).max(MAX_MANIFESTS),
  blobs: z.array(bundleBlob).max(MAX_BLOBS),
  leftOut: z.array(leftOut).max(MAX_BLOBS),
});

export type BundleImage = z.infer<typeof bundleImage>;
export type BundleManifest = z.infer<typeof bundleManifest>;
export type BundleBlob = z.infer<typeof bundleBlob>;
export type LeftOut = z.infer<typeof leftOut>;
export type Statement = z.infer<typeof statement>;

/** `registry/repository:tag`, or with its digest where it has no tag. */
export function nameOf(image: Pick<BundleImage, 'registry' | 'repository' | 'tag' | 'digest'>): string {
  const name = `${image.registry}/${image.repository}`;
  return image.tag === undefined ? `${name}@${image.digest}` : `${name}:${image.tag}`;
}

/** The only text that says it: lists in order, no digest twice. */
export function writeStatement(said: Statement): Buffer {
  const byDigest = (a: { readonly digest: string }, b: { readonly digest: string }): number =>
    compare(a.digest, b.digest);
  const { version, created, expires, base } = said;
  return Buffer.from(
    `${JSON.stringify({
      version,
      created,
      expires,
      platforms: [...new Set(said.platforms)].sort(compare),
      base,
      images: [...said.images]
        .sort((a, b) => compare(nameOf(a), nameOf(b)))
        .map(({ registry, repository, tag, digest, mediaType, size, platform, open, word }) => {
          return { registry, repository, tag, digest, mediaType, size, platform, open, word };
        }),
      manifests: [...said.manifests]
        .sort(byDigest)
        .map(({ digest, size, mediaType }) => ({ digest, size, mediaType })),
      blobs: [...said.blobs].sort(byDigest).map(({ digest, size }) => ({ digest, size })),
      leftOut: [...said.leftOut].sort(byDigest).map(({ digest, size, why }) => ({ digest, size, why })),
    })}\n`,
  );
}

/**
 * Takes nothing but what {@link writeStatement} writes, byte for byte: what two readers could read in two ways (keys
 * twice, numbers in other words, names out of order) is refused.
 * @throws TidepoolError BUNDLE_REFUSED
 */
export function readStatement(bytes: Uint8Array): Statement {
  if (bytes.length > MAX_STATEMENT_BYTES) throw bundleRefused('its statement is too long');
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (error) {
    throw bundleRefused('its statement is no JSON', error);
  }
  const result = statement.safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw bundleRefused(`its statement has ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'nonsense'}`);
  }
  const said = result.data;
  if (!writeStatement(said).equals(bytes)) throw bundleRefused('its statement is not written as they are');
  checkLists(said);
  return said;
}

function checkLists({ images, manifests, blobs, leftOut }: Statement): void {
  if (new Set(images.map(nameOf)).size < images.length) throw bundleRefused('it names an image twice');
  const seen = new Set<string>();
  for (const { digest } of [...manifests, ...blobs, ...leftOut]) {
    if (seen.has(digest)) throw bundleRefused(`it names ${digest} twice`);
    seen.add(digest);
  }
  const bytes = manifests.reduce((sum, { size }) => sum + size, 0);
  if (bytes > MAX_MANIFESTS_BYTES) {
    throw bundleRefused(`its manifests have ${bytes} bytes, more than ${MAX_MANIFESTS_BYTES}`);
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
