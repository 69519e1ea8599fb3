import { type Clock, delay } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { MAX_REDIRECTS, MAX_RETRIES, MAX_RETRY_AFTER_MS, RETRY_BASE_MS } from './constants.ts';
import type { Domain, Lane } from './domain.ts';
import type { Exchange, Method } from './exchange.ts';

export interface FollowInit {
  readonly url: URL;
  readonly method: Method;
  readonly headers: Readonly<Record<string, string>>;
  readonly lane: Lane;
  /** Goes to the host of `url` only. */
  readonly authorization?: string | undefined;
  /** What is fetched is checked against a digest, so that a redirect from https to http does no harm. */
  readonly verified: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface Followed extends Exchange {
  /** The answer is another host's than was asked. */
  readonly elsewhere: boolean;
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/**
 * A request with its redirects followed, and asked again a few times where the other side says that it is busy (429, and 503 with
 * Retry-After) and for how long. The last answer is given back, whatever it is.
 * @throws TidepoolError ORIGIN_UNREACHABLE, ORIGIN_ERROR (redirects that lead nowhere), or the signal's reason
 */
export async function follow(
  domain: Domain,
  components: { readonly clock: Clock; readonly random: () => number },
  init: FollowInit,
): Promise<Followed> {
  for (let attempt = 0; ; attempt++) {
    const answer = await followRedirects(domain, init);
    const wait = retryDelay(answer, attempt, components);
    if (wait === undefined) return answer;
    answer.body.cancel();
    await delay(components.clock, wait, init.signal);
  }
}

async function followRedirects(domain: Domain, init: FollowInit): Promise<Followed> {
  let url = init.url;
  let authorization = init.authorization;
  for (let hops = 0; ; hops++) {
    const headers =
      authorization === undefined ? init.headers : { ...init.headers, Authorization: authorization };
    const { method, lane, signal } = init;
    const answer = await domain.hop({ url, method, headers, lane, signal });
    if (!REDIRECTS.has(answer.status)) return { ...answer, elsewhere: url.origin !== init.url.origin };
    const location = answer.headers.location;
    // A redirect's body is a line of text; read, it leaves the connection to the next request.
    await discard(answer);
    const next = redirectTarget(domain, url, location, init.verified);
    if (hops >= MAX_REDIRECTS) {
      throw new TidepoolError(
        'ORIGIN_ERROR',
        `registry ${domain.registry} redirects more than ${MAX_REDIRECTS} times, last to ${next.origin}`,
      );
    }
    if (next.origin !== url.origin) authorization = undefined;
    url = next;
  }
}

function redirectTarget(domain: Domain, from: URL, location: string | undefined, verified: boolean): URL {
  const refuse = (why: string): TidepoolError =>
    new TidepoolError('ORIGIN_ERROR', `registry ${domain.registry} redirects from ${from.origin} ${why}`);
  if (location === undefined) throw refuse('without saying where to');
  if (!URL.canParse(location, from.href)) throw refuse(`to what is no URL: ${quote(location)}`);
  const to = new URL(location, from);
  if (to.protocol !== 'http:' && to.protocol !== 'https:') {
    throw refuse(`to ${quote(to.protocol)}; only http and https are followed`);
  }
  if (to.protocol === 'http:' && from.protocol === 'https:' && !verified) {
    throw refuse(`to plain http at ${to.host}; that is followed for content known by digest only`);
  }
  to.username = '';
  to.password = '';
  to.hash = '';
  return to;
}

/** Ms to wait before asking again; undefined: the answer stands. */
function retryDelay(
  answer: Exchange,
  attempt: number,
  components: { readonly clock: Clock; readonly random: () => number },
): number | undefined {
  if (answer.status !== 429 && answer.status !== 503) return undefined;
  if (attempt >= MAX_RETRIES) return undefined;
  const asked = parseRetryAfter(answer.headers['retry-after'], components.clock.now());
  if (asked === undefined) {
    if (answer.status === 503) return undefined;
    return (0.5 + components.random()) * RETRY_BASE_MS * 2 ** attempt;
  }
  // Asking sooner than we were told would make it worse; the caller has other sources.
  if (asked > MAX_RETRY_AFTER_MS) return undefined;
  return asked + components.random() * Math.max(RETRY_BASE_MS, asked / 4);
}

/** Seconds or a date (RFC 9110, 10.2.3) to ms from `now`. */
export function parseRetryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header.trim())) return Number(header) * 1000;
  // Date.parse alone takes nearly anything for a date, `-5` too.
  const date = /^[A-Za-z]{3,9},? /.test(header) ? Date.parse(header) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}

const DISCARD_BYTES = 16 * 1024;

/** Reads a short body out so that its connection can be used again; a long one costs the connection instead. */
export async function discard(answer: Exchange): Promise<void> {
  await answer.body.readAll(DISCARD_BYTES);
}
