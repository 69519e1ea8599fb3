import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseAnswerHead, UnsizedAnswer } from '../../../../../edge/origin/data-lane/head.ts';

describe('parseAnswerHead', () => {
  it('reads status, headers, length and whether the connection may be kept', () => {
    expect(
      parseAnswerHead('HTTP/1.1 206 Partial Content\r\nContent-Length: 12\r\nETag:"x"\r\nX-A: 1\r\nx-a: 2'),
    ).toEqual({
      status: 206,
      headers: { 'content-length': '12', etag: '"x"', 'x-a': ['1', '2'] },
      length: 12,
      keep: true,
    });
  });

  it.each([
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Close', false],
    ['HTTP/1.0 200 OK\r\nContent-Length: 1', false],
    ['HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: Keep-Alive', true],
    ['HTTP/1.1 204\r\nDate: x', true],
  ])('knows from %j that keep is %s', (text, keep) => {
    expect(parseAnswerHead(text)?.keep).toBe(keep);
  });

  it('passes interim answers over', () => {
    expect(parseAnswerHead('HTTP/1.1 103 Early Hints\r\nLink: </a>')).toBeUndefined();
  });

  it.each([
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4',
    'HTTP/1.1 200 OK\r\nServer: x',
  ])('leaves %j to a client that reads bodies without a length', (text) => {
    expect(() => parseAnswerHead(text)).toThrow(UnsizedAnswer);
  });

  it.each([
    ['SSH-2.0-OpenSSH', /no HTTP/],
    ['HTTP/2 200', /no HTTP/],
    ['HTTP/1.1 20 OK', /no HTTP/],
    ['HTTP/1.1 101 Switching Protocols', /protocol/],
    ['HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4', /several lengths/],
    ['HTTP/1.1 200 OK\r\nContent-Length: +3', /no number/],
    ['HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999', /no number/],
    ['HTTP/1.1 200 OK\r\nContent-Length : 3', /proper name/],
    ['HTTP/1.1 200 OK\r\n folded: 3', /proper name/],
    ['HTTP/1.1 200 OK\r\nnothing', /proper name/],
  ])('refuses %j', (text, why) => {
    expect(() => parseAnswerHead(text)).toThrow(why);
  });

  it('takes two equal lengths for one', () => {
    expect(parseAnswerHead('HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3')?.length).toBe(3);
  });

  it('answers anything with a head or an error, never with a length that is no count', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), fc.string({ maxLength: 40 }), (rest, length) => {
        const text = `HTTP/1.1 200 OK\r\nContent-Length:${length}\r\n${rest}`;
        try {
          const head = parseAnswerHead(text);
          expect(Number.isSafeInteger(head?.length)).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
      { seed: 42 },
    );
  });
});
