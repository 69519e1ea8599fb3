import { TidepoolError } from '../../shared/errors.ts';
import { type Digest, parseDigest, quote } from '../../shared/ids.ts';
import { isRegistryHost, isRepository, parseReference } from '../../shared/image-ref.ts';
import { MAX_URL_BYTES } from './constants.ts';

/** How a request named its registry: `?ns=` (containerd), the first path element (CRI-O, podman), or not at all (docker). */
export type NamingStyle = 'ns' | 'path' | 'default';

/** What a request is about. */
export interface Subject {
  readonly style: NamingStyle;
  readonly registry: string;
  readonly repository: string;
}

export type Route =
  | { readonly kind: 'base' }
  | { readonly kind: 'unknown' }
  | (Subject & { readonly kind: 'manifest'; readonly reference: string })
  | (Subject & { readonly kind: 'blob'; readonly digest: Digest })
  | (Subject & {
      readonly kind: 'referrers' | 'tags';
      /** After the repository: `referrers/<digest>` or `tags/list`. */
      readonly path: string;
      /** As sent, without `ns`. */
      readonly query: string;
    });

/**
 * The route of a request target (path and query, as it stands in the request line).
 * @throws TidepoolError INVALID_ARGUMENT, INVALID_REFERENCE, INVALID_DIGEST; MANIFEST_UNKNOWN for what cannot be a tag
 */
export function parseRoute(target: string, defaultRegistry: string): Route {
  if (target.length > MAX_URL_BYTES) {
    throw new TidepoolError('INVALID_ARGUMENT', `the URL is longer than ${MAX_URL_BYTES} bytes`);
  }
  const mark = target.indexOf('?');
  const path = mark < 0 ? target : target.slice(0, mark);
  const query = mark < 0 ? '' : target.slice(mark + 1);
  if (path === '/v2' || path === '/v2/') return { kind: 'base' };
  if (!path.startsWith('/v2/')) return { kind: 'unknown' };
  const elements = path.slice('/v2/'.length).split('/').map(decode);
  const last = elements.pop() ?? '';
  const kind = elements.pop() ?? '';
  if (elements.length === 0) return { kind: 'unknown' };
  if (kind === 'manifests') {
    const subject = resolveSubject(namespaceOf(query), elements, defaultRegistry);
    checkReference(last);
    return { kind: 'manifest', ...subject, reference: last };
  }
  if (kind === 'blobs' && last !== 'uploads') {
    return {
      kind: 'blob',
      ...resolveSubject(namespaceOf(query), elements, defaultRegistry),
      digest: parseDigest(last),
    };
  }
  if (kind === 'referrers' || (kind === 'tags' && last === 'list')) {
    const subject = resolveSubject(namespaceOf(query), elements, defaultRegistry);
    const name = kind === 'tags' ? 'list' : parseDigest(last);
    return { kind, ...subject, path: `${kind}/${name}`, query: withoutNamespace(query) };
  }
  return { kind: 'unknown' };
}

/**
 * Which registry and repository a request means. `ns` wins; else a first path element that looks like a host, with its
 * port behind `:` or `_`; else the listener's default. Names stay as sent: docker itself says `library/`.
 * @throws TidepoolError INVALID_REFERENCE
 */
export function resolveSubject(
  ns: string | undefined,
  path: readonly string[],
  defaultRegistry: string,
): Subject {
  const [head = '', ...rest] = path;
  const styled: Subject =
    ns !== undefined
      ? { style: 'ns', registry: ns, repository: path.join('/') }
      : rest.length > 0 && looksLikeHost(head)
        ? { style: 'path', registry: head.replace(UNDERSCORED_PORT, ':$1'), repository: rest.join('/') }
        : { style: 'default', registry: defaultRegistry, repository: path.join('/') };
  if (!isRegistryHost(styled.registry)) {
    throw new TidepoolError('INVALID_REFERENCE', `not a registry host: ${quote(styled.registry)}`);
  }
  if (!isRepository(styled.repository)) {
    throw new TidepoolError(
      'INVALID_REFERENCE',
      `not a repository: ${quote(styled.repository)}; expected lower-case letters, digits, and single . _ - between them, parted by /`,
    );
  }
  return styled.registry === 'index.docker.io' ? { ...styled, registry: 'docker.io' } : styled;
}

/**
 * A mirror's location in registries.conf is read as a reference, whose path takes no colon: `registry.example_5000`. Names
 * of hosts have no underscore, so nothing else is meant by it.
 */
const UNDERSCORED_PORT = /_(\d{1,5})$/;

function looksLikeHost(element: string): boolean {
  return element.includes('.') || element.includes(':') || /^localhost(_\d{1,5})?$/.test(element);
}

function checkReference(text: string): void {
  // A malformed digest is a bad request. What is no tag by its grammar names no manifest, and the distribution-spec's
  // conformance suite wants 404 for it.
  if (text.includes(':')) {
    parseDigest(text);
    return;
  }
  try {
    parseReference(text);
  } catch (error) {
    throw new TidepoolError('MANIFEST_UNKNOWN', `no manifest can be named ${quote(text)}: it is not a tag`, {
      cause: error,
    });
  }
}

/** The registry that `?ns=` names. Empty counts as absent. */
function namespaceOf(query: string): string | undefined {
  const names = new Set(new URLSearchParams(query).getAll('ns').filter((name) => name !== ''));
  if (names.size > 1) {
    throw new TidepoolError('INVALID_ARGUMENT', 'the query names more than one registry (ns)');
  }
  return [...names][0];
}

/** Takes `ns` out and leaves the rest byte for byte: it is the origin's business. */
function withoutNamespace(query: string): string {
  return query
    .split('&')
    .filter((pair) => pair !== 'ns' && !pair.startsWith('ns='))
    .join('&');
}

function decode(element: string): string {
  try {
    return decodeURIComponent(element);
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', `not a path element: ${quote(element)}`, { cause: error });
  }
}
