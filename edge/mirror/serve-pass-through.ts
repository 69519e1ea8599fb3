import { TidepoolError } from '../../shared/errors.ts';
import type { Content } from '../transfer/types.ts';
import { safeStatus } from './error-answer.ts';
import type { Exchange } from './exchange.ts';
import { parseAuthorization } from './request-headers.ts';
import type { Subject } from './route.ts';

/** Headers of the origin that a client of the mirror may see, as they are written here. */
const PASSED = [
  'Content-Type',
  'Content-Encoding',
  'ETag',
  'OCI-Filters-Applied',
  'Docker-Content-Digest',
] as const;
const LINK_TARGET = /<([^>]*)>/g;

/** `GET|HEAD /v2/<repository>/referrers/<digest>` and `…/tags/list`. @throws what the content throws */
export async function servePassThrough(
  components: { readonly content: Content },
  exchange: Exchange,
  route: Subject & { readonly path: string; readonly query: string },
): Promise<void> {
  const { registry, repository, path, query } = route;
  const answer = await exchange.wait(
    components.content.passThrough({
      registry,
      repository,
      path,
      query,
      method: exchange.head ? 'HEAD' : 'GET',
      credentials: parseAuthorization(exchange.header('authorization')),
      signal: exchange.signal,
    }),
    'the origin did not answer',
  );
  if (answer.status === 401) {
    throw new TidepoolError('UNAUTHORIZED', `${registry} wants credentials for ${repository}`);
  }
  if (answer.status < 200 || (answer.status >= 300 && answer.status < 400)) {
    throw new TidepoolError(
      'ORIGIN_ERROR',
      `${registry} answered ${answer.status} for ${path} of ${repository}`,
    );
  }
  const given = new Map(Object.entries(answer.headers).map(([name, value]) => [name.toLowerCase(), value]));
  const headers: Record<string, string | number> = {};
  for (const name of PASSED) {
    const value = given.get(name.toLowerCase());
    if (value !== undefined) headers[name] = value;
  }
  const link = given.get('link');
  if (link !== undefined) headers.Link = rewriteLink(link, route);
  const told = given.get('content-length');
  headers['Content-Length'] =
    exchange.head && told !== undefined && /^\d+$/.test(told) ? told : answer.body.length;
  await exchange.send({ status: safeStatus(answer.status), headers, body: answer.body });
}

/**
 * Turns the targets of a Link header so that the next page is asked of the mirror again, in the style of this request.
 * What does not point into the registry's API stays as it is.
 */
export function rewriteLink(link: string, subject: Subject & { readonly path: string }): string {
  return link.replace(LINK_TARGET, (whole, target: string) => {
    // The host never counts: links of one registry stay with it.
    const base = `http://registry.invalid/v2/${subject.repository}/${subject.path}`;
    if (!URL.canParse(target, base)) return whole;
    const url = new URL(target, base);
    if (!url.pathname.startsWith('/v2/')) return whole;
    const path =
      subject.style === 'path' ? `/v2/${subject.registry}${url.pathname.slice('/v2'.length)}` : url.pathname;
    const ns = subject.style === 'ns' ? `ns=${encodeURIComponent(subject.registry)}` : '';
    const query = [url.search.slice(1), ns].filter((part) => part !== '').join('&');
    return `<${path}${query === '' ? '' : `?${query}`}>`;
  });
}
