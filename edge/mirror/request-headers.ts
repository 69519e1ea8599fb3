import type { IncomingHttpHeaders } from 'node:http';
import { TidepoolError } from '../../shared/errors.ts';
import type { Credentials } from '../origin/types.ts';
import { PRIORITY, type Priority } from '../transfer/types.ts';

const BASIC = /^basic(?: +(.*))?$/i;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;
const ENTITY_TAG = /(?:W\/)?("[^"]*")/g;

/**
 * What `Authorization` carries for the origin. Other schemes count as none: a Bearer token was made for another audience,
 * and tokens are fetched by the origin room itself.
 * @throws TidepoolError UNAUTHORIZED when Basic cannot be read
 */
export function parseAuthorization(header: string | undefined): Credentials | undefined {
  const match = header === undefined ? null : BASIC.exec(header.trim());
  if (match === null) return undefined;
  const encoded = match[1]?.trim() ?? '';
  const text = BASE64.test(encoded) ? Buffer.from(encoded, 'base64').toString('utf8') : '';
  const colon = text.indexOf(':');
  if (colon < 0 || hasControls(text)) {
    throw new TidepoolError(
      'UNAUTHORIZED',
      'the Authorization header is not Basic with base64 of user:password; check the pull secret',
    );
  }
  // ":" alone is how some clients write "nobody".
  if (text === ':') return undefined;
  return { username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/**
 * True for containers/image (CRI-O, podman, skopeo): it sends accounts, an empty one for none, only to who has answered its
 * first question with a challenge, and alone of all clients names the API version in a request. Others must not be
 * challenged there: docker without a login would give up on the mirror, nydusd would take it for dead.
 */
export function sendsAccountsWhenChallenged(headers: IncomingHttpHeaders): boolean {
  return headers['docker-distribution-api-version'] !== undefined;
}

/** nydusd marks what it prefetches with 3 and what a container waits for with 6; who says nothing is waiting. */
export function parsePriority(dragonflyPriority: string | undefined): Priority {
  return dragonflyPriority !== undefined && /^[1-3]$/.test(dragonflyPriority.trim())
    ? PRIORITY.prefetch
    : PRIORITY.onDemand;
}

/** True when If-None-Match names `etag` (quoted): by weak comparison, as RFC 9110 13.1.2 asks. */
export function noneMatchHits(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  for (const match of header.matchAll(ENTITY_TAG)) if (match[1] === etag) return true;
  return false;
}

/** True when a Range header counts: there is no If-Range, or it names `etag` exactly. Dates and weak tags never match. */
export function ifRangeHolds(header: string | undefined, etag: string): boolean {
  return header === undefined || header.trim() === etag;
}

function hasControls(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}
