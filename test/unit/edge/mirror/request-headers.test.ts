import { describe, expect, it } from 'vitest';
import {
  ifRangeHolds,
  noneMatchHits,
  parseAuthorization,
  parsePriority,
} from '../../../../edge/mirror/request-headers.ts';

const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;

describe('parseAuthorization', () => {
  it.each([
    [undefined, undefined],
    ['Bearer abc', undefined],
    ['Basically not', undefined],
    [basic(':'), undefined],
    [basic('user:secret'), { username: 'user', password: 'secret' }],
    [basic('user:a:b'), { username: 'user', password: 'a:b' }],
    [basic('user:'), { username: 'user', password: '' }],
    [basic('ü:ß'), { username: 'ü', password: 'ß' }],
    [`bAsIc   ${Buffer.from('u:p').toString('base64')}  `, { username: 'u', password: 'p' }],
  ])('%j', (header, wanted) => {
    expect(parseAuthorization(header)).toEqual(wanted);
  });

  it.each([['Basic'], ['Basic '], ['Basic !!!'], [basic('nocolon')], ['Basic a b'], [basic('user:a\nb')]])(
    '%j is refused',
    (header) => {
      expect(() => parseAuthorization(header)).toThrow(expect.objectContaining({ code: 'UNAUTHORIZED' }));
    },
  );

  it('keeps the secret out of its error', () => {
    expect(() => parseAuthorization(basic('onlysecret'))).toThrow(/^(?!.*onlysecret)/);
  });
});

describe('parsePriority', () => {
  it.each([
    [undefined, 0],
    ['6', 0],
    ['3', 1],
    ['1', 1],
    ['0', 0],
    ['nonsense', 0],
  ])('%j', (header, wanted) => {
    expect(parsePriority(header)).toBe(wanted);
  });
});

describe('conditions', () => {
  it.each([
    [undefined, false],
    ['"a"', true],
    ['W/"a"', true],
    ['"b", "a"', true],
    ['*', true],
    ['"b"', false],
    ['a', false],
  ])('If-None-Match %j', (header, wanted) => {
    expect(noneMatchHits(header, '"a"')).toBe(wanted);
  });

  it.each([
    [undefined, true],
    ['"a"', true],
    ['W/"a"', false],
    ['"b"', false],
    ['Wed, 21 Oct 2015 07:28:00 GMT', false],
  ])('If-Range %j', (header, wanted) => {
    expect(ifRangeHolds(header, '"a"')).toBe(wanted);
  });
});
