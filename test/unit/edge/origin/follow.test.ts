import { describe, expect, it } from 'vitest';
import {
  parseContentLength,
  parseContentRange,
  parseUnsatisfied,
} from '../../../../edge/origin/content-range.ts';
import { parseRetryAfter } from '../../../../edge/origin/follow.ts';
import { passedHeaders } from '../../../../edge/origin/pass-through.ts';

describe('headers of answers', () => {
  it.each([
    [undefined, undefined],
    ['5', 5_000],
    [' 0 ', 0],
    ['Thu, 01 Jan 1970 00:00:10 GMT', 9_000],
    ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
    ['soon', undefined],
    ['-5', undefined],
    ['1e9', undefined],
  ])('Retry-After %j', (header, expected) => {
    expect(parseRetryAfter(header, 1_000)).toEqual(expected);
  });

  it.each([
    ['bytes 0-9/100', { start: 0, end: 10, size: 100 }],
    ['bytes 5-5/*', { start: 5, end: 6, size: undefined }],
    ['BYTES 0-99/100', { start: 0, end: 100, size: 100 }],
    ['bytes 0-100/100', undefined],
    ['bytes 9-0/100', undefined],
    ['bytes */100', undefined],
    ['bytes 0-9', undefined],
    ['items 0-9/100', undefined],
    ['bytes 0-99999999999999999999/*', undefined],
    [undefined, undefined],
  ])('Content-Range %j', (header, expected) => {
    expect(parseContentRange(header)).toEqual(expected);
  });

  it('the size of a 416, and Content-Length', () => {
    expect(parseUnsatisfied('bytes */12')).toBe(12);
    expect(parseUnsatisfied('bytes 0-1/12')).toBeUndefined();
    expect(parseContentLength('12')).toBe(12);
    for (const bad of ['', '-1', '1e3', '0x10', '12, 12', undefined]) {
      expect(parseContentLength(bad)).toBeUndefined();
    }
  });

  it('drops what concerns one hop, and what Connection names', () => {
    const headers = {
      connection: 'keep-alive, X-Hop',
      'x-hop': '1',
      'keep-alive': 'timeout=5',
      'transfer-encoding': 'chunked',
      'set-cookie': ['a=b'],
      'www-authenticate': 'Bearer realm="x"',
      'content-length': '5',
      'content-type': 'application/json',
      link: '</v2/a/tags/list?last=b>; rel="next"',
    };
    const { 'content-type': type, link } = headers;
    expect(passedHeaders(headers, 'GET')).toEqual({ 'content-type': type, link });
    expect(passedHeaders(headers, 'HEAD')).toEqual({ 'content-type': type, link, 'content-length': '5' });
  });
});
