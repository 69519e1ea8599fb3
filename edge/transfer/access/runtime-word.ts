import { isTidepoolError } from '../../../shared/errors.ts';
import type { Digest } from '../../../shared/ids.ts';
import { isRegistryHost, parseImageRef } from '../../../shared/image-ref.ts';
import type { RepositoryName } from '../../index/types.ts';

/** An image as the container runtime has it. */
export interface RuntimeImage {
  readonly name: string;
  /** Of its manifest, or of the index of them. */
  readonly digest: Digest;
  readonly mediaType: string;
}

/**
 * Repositories that the runtime says it got something from, by the registry's host, for the runtime notes no port; none where
 * somebody brought it by hand.
 */
export type GivenBy = ReadonlyMap<string, readonly string[]>;

/**
 * Registries whose bytes these are, by what the runtime's images are called that name them and where the runtime got them.
 * What was brought by hand is whose the names say: whoever may do that on this node may name it. But a runtime takes what it
 * has for what any image names, so that a stranger's image can name a private layer that is there; where more than one
 * registry is in question, nobody knows whose bytes they are.
 */
export function ownersOf(names: ReadonlySet<string>, given: GivenBy): ReadonlySet<string> {
  if (given.size === 0) return names;
  const known = new Set([...names].map(hostOf));
  const all = new Set([...names, ...[...given.keys()].filter((host) => !known.has(host))]);
  return all.size === 1 ? all : new Set();
}

/**
 * Whether a manifest that an index of the repository names is the repository's own. The runtime notes each repository in
 * whose name it met the manifest, also where it had it from another: only one that is noted alone has given it.
 */
export function mayHoldManifest({ registry, repository }: RepositoryName, given: GivenBy): boolean {
  if (given.size === 0) return true;
  const repositories = given.get(hostOf(registry)) ?? [];
  return given.size === 1 && repositories.length === 1 && repositories[0] === repository;
}

/** A registry's name without its port. */
function hostOf(registry: string): string {
  return registry.replace(/:\d+$/, '');
}

/** What an image's name says; undefined for one that does not name its registry, as the ids that CRI keeps beside. */
export function nameOf(text: string): (RepositoryName & { readonly tag: string | undefined }) | undefined {
  const slash = text.indexOf('/');
  const host = text.slice(0, Math.max(0, slash));
  if (!isRegistryHost(host) || !(/[.:[]/.test(host) || host === 'localhost')) return undefined;
  try {
    const { registry, repository, tag, digest } = parseImageRef(text);
    return { registry, repository, tag: digest === undefined ? tag : undefined };
  } catch (error) {
    if (isTidepoolError(error)) return undefined;
    throw error;
  }
}
