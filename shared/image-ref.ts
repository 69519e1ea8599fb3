import { TidepoolError } from './errors.ts';
import { type Digest, isDigest, parseDigest, quote } from './ids.ts';

/** A registry's host as a runtime names it, with its port where one is given. */
const HOST =
  /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$/;
const COMPONENT = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
/** OCI distribution-spec 1.1, "Pulling manifests": the grammar of a name. */
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const NAME_MAX = 255;

/** A tag or a digest, as the last element of a manifest URL. */
export type Reference =
  | { readonly kind: 'tag'; readonly tag: string }
  | { readonly kind: 'digest'; readonly digest: Digest };

/** One image, wholly named: nothing is left to defaults. */
export interface ImageRef {
  /** Host as runtimes name it: `docker.io`, `registry.example:5000`. */
  readonly registry: string;
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

/**
 * Parses a reference as docker and containerd do: `busybox` is `docker.io/library/busybox:latest`.
 * @throws TidepoolError INVALID_REFERENCE
 */
export function parseImageRef(text: string): ImageRef {
  const bad = (why: string): TidepoolError =>
    new TidepoolError('INVALID_REFERENCE', `not an image reference: ${quote(text)}; ${why}`);
  let rest = text;
  let digest: Digest | undefined;
  const at = rest.indexOf('@');
  if (at >= 0) {
    const tail = rest.slice(at + 1);
    if (!isDigest(tail)) throw bad('what follows @ must be sha256: and 64 hex digits');
    digest = tail;
    rest = rest.slice(0, at);
  }
  let tag: string | undefined;
  const colon = rest.lastIndexOf(':');
  if (colon > rest.lastIndexOf('/') && colon >= 0 && !/^\d+\//.test(rest.slice(colon + 1))) {
    tag = rest.slice(colon + 1);
    if (!TAG.test(tag)) throw bad('a tag has letters, digits, _ . - and at most 128 characters');
    rest = rest.slice(0, colon);
  }
  const slash = rest.indexOf('/');
  const head = slash < 0 ? '' : rest.slice(0, slash);
  const named = head !== '' && (/[.:[]/.test(head) || head === 'localhost' || head !== head.toLowerCase());
  const registry = named ? (head === 'index.docker.io' ? 'docker.io' : head) : 'docker.io';
  let repository = named ? rest.slice(slash + 1) : rest;
  if (registry === 'docker.io' && !repository.includes('/')) repository = `library/${repository}`;
  if (!isRegistryHost(registry)) throw bad('the registry is not a host name');
  if (!isRepository(repository)) {
    throw bad('a repository has lower-case letters, digits, and single . _ - between them, parted by /');
  }
  return {
    registry,
    repository,
    ...(tag === undefined && digest === undefined ? { tag: 'latest' } : {}),
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** @throws TidepoolError INVALID_REFERENCE or INVALID_DIGEST */
export function parseReference(text: string): Reference {
  if (text.includes(':')) return { kind: 'digest', digest: parseDigest(text) };
  if (!TAG.test(text)) throw new TidepoolError('INVALID_REFERENCE', `not a tag: ${quote(text)}`);
  return { kind: 'tag', tag: text };
}

/** What a pull asks the registry for: the digest where the reference pins one, else the tag. */
export function referenceOf(image: ImageRef): Reference {
  return image.digest === undefined
    ? { kind: 'tag', tag: image.tag ?? 'latest' }
    : { kind: 'digest', digest: image.digest };
}

export function isRepository(text: string): boolean {
  return text.length <= NAME_MAX && REPOSITORY.test(text);
}

export function isRegistryHost(text: string): boolean {
  // The grammar alone takes port 99999 and `[:::]`, which no URL can carry.
  return text.length <= NAME_MAX && HOST.test(text) && URL.canParse(`http://${text}`);
}

export function formatImageRef(image: ImageRef): string {
  const tag = image.tag === undefined ? '' : `:${image.tag}`;
  const digest = image.digest === undefined ? '' : `@${image.digest}`;
  return `${image.registry}/${image.repository}${tag}${digest}`;
}
