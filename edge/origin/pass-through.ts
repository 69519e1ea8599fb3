import type { IncomingHttpHeaders } from 'node:http';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type { Method } from './exchange.ts';

const PATH = /^[A-Za-z0-9._:~-]+(?:\/[A-Za-z0-9._:~-]+)*$/;
const QUERY = /^[\x21\x24-\x7e]*$/;
const MAX_QUERY_CHARS = 2048;

/** RFC 9110, 7.6.1, and what concerns our own exchange with the origin only. */
const DROPPED = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'set-cookie',
  'strict-transport-security',
  'www-authenticate',
  'alt-svc',
]);

/** The query as it goes into the URL, with its `?`. @throws TidepoolError INVALID_ARGUMENT */
export function checkPassThrough(path: string, query: string): string {
  const segments = path.split('/');
  if (!PATH.test(path) || segments.includes('..') || segments.includes('.')) {
    throw new TidepoolError('INVALID_ARGUMENT', `not a path of a registry: ${quote(path)}`);
  }
  const bare = query.startsWith('?') ? query.slice(1) : query;
  if (bare.length > MAX_QUERY_CHARS || !QUERY.test(bare)) {
    throw new TidepoolError('INVALID_ARGUMENT', `not a query: ${quote(query)}`);
  }
  return bare === '' ? '' : `?${bare}`;
}

/** Headers that go on to the runtime. Content-Length stays for HEAD only; with a body, whoever sends that knows its length. */
export function passedHeaders(headers: IncomingHttpHeaders, method: Method): Record<string, string> {
  const named = new Set(
    (headers.connection ?? '')
      .toLowerCase()
      .split(',')
      .map((name) => name.trim()),
  );
  const passed: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const key = name.toLowerCase();
    if (value === undefined || DROPPED.has(key) || named.has(key)) continue;
    if (key === 'content-length' && method !== 'HEAD') continue;
    passed[key] = typeof value === 'string' ? value : value.join(', ');
  }
  return passed;
}
