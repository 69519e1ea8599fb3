import { TidepoolError } from '../../shared/errors.ts';

/** Largest head of an answer that is taken, bytes. */
export const MAX_HEAD_BYTES = 8 * 1024;

export interface ResponseHead {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * The head of an HTTP/1.1 answer, up to and without its empty line. Only what a neighbour's server writes is understood:
 * no folding, no chunks, a length always.
 * @throws TidepoolError PEER_UNREACHABLE
 */
export function parseResponseHead(text: string): ResponseHead {
  const [line = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.1 (\d{3})(?: |$)/.exec(line)?.[1];
  if (status === undefined) throw bad('no HTTP answer');
  const headers: Record<string, string> = {};
  for (const field of lines) {
    const colon = field.indexOf(':');
    if (colon <= 0) throw bad('a header without a name');
    headers[field.slice(0, colon).toLowerCase()] = field.slice(colon + 1).trim();
  }
  return { status: Number(status), headers };
}

/** Bytes of the body that the head announces. @throws TidepoolError PEER_UNREACHABLE */
export function bodyLength(head: ResponseHead): number {
  if (head.status === 204 || head.status === 304) return 0;
  const text = head.headers['content-length'];
  if (text === undefined || !/^\d{1,12}$/.test(text)) throw bad('an answer without a length');
  return Number(text);
}

function bad(why: string): TidepoolError {
  return new TidepoolError('PEER_UNREACHABLE', `the neighbour sends ${why}`);
}
