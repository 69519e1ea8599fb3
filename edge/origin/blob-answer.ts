import { TidepoolError } from '../../shared/errors.ts';
import { type Digest, quote } from '../../shared/ids.ts';
import { headerOf } from './answers.ts';
import type { Body } from './body.ts';
import { parseContentLength, parseContentRange, parseUnsatisfied } from './content-range.ts';
import type { Exchange } from './exchange.ts';
import { checkDigest, checkPlain } from './manifest-answer.ts';
import type { OriginBody } from './types.ts';

export interface BlobAsk {
  readonly digest: Digest;
  readonly start: number;
  readonly end: number | undefined;
}

const NOTHING = Promise.resolve(0);
const EMPTY: AsyncIterable<Uint8Array> = {
  [Symbol.asyncIterator]: () => ({ next: async () => ({ done: true, value: undefined }) }),
};

/**
 * Checks the head of an answer to a ranged GET (200, 206 or 416) against what was asked.
 * @throws TidepoolError ORIGIN_LIED, RANGE_NOT_SATISFIABLE
 */
export function readBlobAnswer(answer: Exchange, ask: BlobAsk, where: string): OriginBody {
  try {
    checkPlain(answer, where);
    const named = headerOf(answer, 'docker-content-digest');
    if (named?.startsWith('sha256:') === true) checkDigest(named, ask.digest, where);
    if (answer.status === 416) return unsatisfied(answer, ask, where);
    // Layers have many types, but never this one: it is a login or error page with status 200.
    if (headerOf(answer, 'content-type')?.startsWith('text/html') === true) throw lied(where, 'a web page');
    return answer.status === 206 ? ranged(answer, ask, where) : whole(answer, where);
  } catch (error) {
    answer.body.cancel();
    throw error;
  }
}

function ranged(answer: Exchange, ask: BlobAsk, where: string): OriginBody {
  const header = headerOf(answer, 'content-range');
  const range = parseContentRange(header);
  const wanted = `bytes ${ask.start}-${ask.end === undefined ? '' : ask.end - 1}`;
  if (range === undefined) throw lied(where, `Content-Range ${quote(header ?? '')}, asked for ${wanted}`);
  const { start, end, size } = range;
  const wantedEnd = ask.end === undefined ? size : size === undefined ? ask.end : Math.min(ask.end, size);
  const length = parseContentLength(headerOf(answer, 'content-length'));
  if (start !== ask.start || (wantedEnd !== undefined && end !== wantedEnd)) {
    throw lied(where, `Content-Range ${quote(header ?? '')}, asked for ${wanted}`);
  }
  if (length !== undefined && length !== end - start) {
    throw lied(where, `Content-Length ${length} with Content-Range ${quote(header ?? '')}`);
  }
  return {
    ranged: true,
    start,
    size,
    body: exactly(answer.body, end - start, where),
    ...filling(answer.body),
  };
}

function whole(answer: Exchange, where: string): OriginBody {
  const size = parseContentLength(headerOf(answer, 'content-length'));
  return {
    ranged: false,
    start: 0,
    size,
    body: size === undefined ? answer.body : exactly(answer.body, size, where),
    ...filling(answer.body),
  };
}

/** A body that fills a place has a length, and is held to it by its connection. */
function filling(body: Body): Pick<OriginBody, 'fill'> {
  return body.fill === undefined
    ? {}
    : { fill: (target, onBytes) => body.fill?.(target, onBytes) ?? NOTHING };
}

function unsatisfied(answer: Exchange, ask: BlobAsk, where: string): OriginBody {
  const size = parseUnsatisfied(headerOf(answer, 'content-range'));
  answer.body.cancel();
  // No range of an empty blob can be satisfied, and yet it can be read.
  if (size === 0 && ask.start === 0) return { ranged: true, start: 0, size: 0, body: EMPTY };
  if (size !== undefined && ask.start < size) {
    throw lied(where, `416 to a range that starts at ${ask.start} of ${size}`);
  }
  throw new TidepoolError(
    'RANGE_NOT_SATISFIABLE',
    `${where} has ${size === undefined ? 'fewer' : `only ${size}`} bytes; asked for those from ${ask.start}`,
    { details: { size } },
  );
}

/** The body, held to its length: more is never passed on, less is an error. */
function exactly(body: Body, length: number, where: string): AsyncIterable<Uint8Array> {
  let left = length;
  const next = async (): Promise<IteratorResult<Uint8Array, undefined>> => {
    if (left === 0) {
      body.cancel();
      return { done: true, value: undefined };
    }
    const result = await body.next();
    if (result.done === true) {
      throw new TidepoolError('ORIGIN_ERROR', `${where} ended after ${length - left} of ${length} bytes`, {
        details: { received: length - left, expected: length, retryable: true },
      });
    }
    const chunk = result.value.length > left ? result.value.subarray(0, left) : result.value;
    left -= chunk.length;
    return { done: false, value: chunk };
  };
  return { [Symbol.asyncIterator]: () => ({ next, return: () => body.return() }) };
}

function lied(where: string, what: string): TidepoolError {
  return new TidepoolError('ORIGIN_LIED', `${where} sent ${what}`);
}
