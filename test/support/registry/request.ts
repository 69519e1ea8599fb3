import type { IncomingMessage } from 'node:http';
import type { RequestKind, SampleRequest } from './options.ts';

const ROUTES: readonly (readonly [RequestKind, RegExp])[] = [
  ['manifest', /^\/v2\/(.+)\/manifests\/([^/]+)$/],
  ['blob', /^\/v2\/(.+)\/blobs\/([^/]+)$/],
  ['tags', /^\/v2\/(.+)\/tags\/(list)$/],
  ['referrers', /^\/v2\/(.+)\/referrers\/([^/]+)$/],
];

/** What a request asks for and where it comes from. `redirected`: it came to the port that redirects point at. */
export function parseRequest(
  incoming: IncomingMessage,
  poolOf: (address: string) => string,
  redirected: boolean,
): SampleRequest {
  const url = new URL(incoming.url ?? '/', 'http://sample.invalid');
  const address = (incoming.socket.remoteAddress ?? '').replace(/^::ffff:/, '');
  const { kind, repository, reference } = route(url.pathname, redirected);
  return {
    kind,
    repository,
    reference,
    address,
    method: incoming.method ?? 'GET',
    path: url.pathname,
    query: url.searchParams,
    pool: poolOf(address),
    range: incoming.headers.range,
    authorization: incoming.headers.authorization,
    headers: incoming.headers,
  };
}

function route(path: string, redirected: boolean): Pick<SampleRequest, 'kind' | 'repository' | 'reference'> {
  const named = (kind: RequestKind, match: RegExpExecArray | null) => ({
    kind,
    repository: match?.[1],
    reference: match?.[2] === undefined ? undefined : decodeURIComponent(match[2]),
  });
  if (redirected) return named('redirected-blob', /^\/data\/(.+)\/([^/]+)$/.exec(path));
  if (path === '/v2/' || path === '/v2') return named('ping', null);
  if (path === '/token') return named('token', null);
  for (const [kind, pattern] of ROUTES) {
    const match = pattern.exec(path);
    if (match !== null) return named(kind, match);
  }
  return named('other', null);
}
