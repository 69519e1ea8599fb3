import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseChallenges } from '../../../../shared/registry/challenge.ts';

const plain = (header: string | string[] | undefined): [string, Record<string, string>][] =>
  parseChallenges(header).map(({ scheme, params }) => [scheme, Object.fromEntries(params)]);

describe('parseChallenges', () => {
  it.each<[string, string | string[] | undefined, [string, Record<string, string>][]]>([
    ['none', undefined, []],
    ['nothing', '', []],
    ['a bare scheme', 'Negotiate', [['negotiate', {}]]],
    ['Basic', 'Basic realm="registry"', [['basic', { realm: 'registry' }]]],
    [
      'Bearer as registries send it',
      'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"',
      [
        [
          'bearer',
          {
            realm: 'https://auth.example/token',
            service: 'registry.example',
            scope: 'repository:a/b:pull,push',
          },
        ],
      ],
    ],
    [
      'several in one header',
      'Basic realm="a, b", Bearer realm="https://x/t" , scope="s"',
      [
        ['basic', { realm: 'a, b' }],
        ['bearer', { realm: 'https://x/t', scope: 's' }],
      ],
    ],
    [
      'several headers',
      ['Bearer realm="r"', 'Basic realm="b"'],
      [
        ['bearer', { realm: 'r' }],
        ['basic', { realm: 'b' }],
      ],
    ],
    ['escapes in quotes', 'Basic realm="a \\"b\\" \\\\"', [['basic', { realm: 'a "b" \\' }]]],
    [
      'values without quotes',
      'Bearer realm=x, error=invalid_token',
      [['bearer', { realm: 'x', error: 'invalid_token' }]],
    ],
    ['blanks around the equals sign', 'Bearer realm = "x"', [['bearer', { realm: 'x' }]]],
    ['any case', 'BEARER Realm="x"', [['bearer', { realm: 'x' }]]],
    ['the first of two of a name', 'Bearer realm="x", realm="evil"', [['bearer', { realm: 'x' }]]],
    [
      'a token68 before another challenge',
      'Negotiate YIIabc==, Basic realm="x"',
      [
        ['negotiate', {}],
        ['basic', { realm: 'x' }],
      ],
    ],
    ['empty elements', ', ,Basic realm="x",,', [['basic', { realm: 'x' }]]],
    ['a quote that never ends', 'Basic realm="x', [['basic', {}]]],
    ['rubbish after a challenge', 'Basic realm="x", (((', [['basic', { realm: 'x' }]]],
  ])('reads %s', (_, header, expected) => {
    expect(plain(header)).toEqual(expected);
  });

  it('never throws and is bounded, whatever comes', () => {
    const pieces = fc.constantFrom(
      'Bearer ',
      'Basic',
      'realm',
      '=',
      '"',
      '\\',
      ',',
      ' ',
      'a',
      '\t',
      '==',
      'ü',
      '\0',
    );
    const rubbish = fc.oneof(
      fc.string({ maxLength: 300 }),
      fc.array(pieces, { maxLength: 200 }).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(fc.array(rubbish, { maxLength: 20 }), (headers) => {
        const found = parseChallenges(headers);
        expect(found.length).toBeLessThanOrEqual(16);
        for (const { params } of found) expect(params.size).toBeLessThanOrEqual(32);
      }),
      { seed: 42, numRuns: 2000 },
    );
  });

  it('is bounded for long headers too', () => {
    const started = performance.now();
    for (const long of [
      'a'.repeat(1e6),
      'a='.repeat(5e5),
      ','.repeat(1e6),
      'B a="x",'.repeat(1e5),
      '\\"'.repeat(5e5),
    ]) {
      expect(parseChallenges([`Bearer ${long}`, `Bearer realm="${long}`]).length).toBeLessThanOrEqual(16);
    }
    expect(performance.now() - started).toBeLessThan(1_000);
  });

  it('reads back any parameters that were written by the rules', () => {
    const name = fc.stringMatching(/^[a-z_]{1,12}$/);
    const value = fc.string({ maxLength: 60 });
    const challenge = fc.record({
      scheme: fc.stringMatching(/^[A-Za-z]{1,10}$/),
      params: fc.dictionary(name, value, { minKeys: 1, maxKeys: 6, noNullPrototype: true }),
    });
    fc.assert(
      fc.property(fc.array(challenge, { minLength: 1, maxLength: 5 }), (challenges) => {
        const quoted = (text: string): string => `"${text.replace(/["\\]/g, '\\$&')}"`;
        const header = challenges
          .map(({ scheme, params }) => {
            const list = Object.entries(params).map(([key, text]) => `${key}=${quoted(text)}`);
            return `${scheme} ${list.join(', ')}`;
          })
          .join(', ');
        expect(plain(header)).toEqual(
          challenges.map(({ scheme, params }) => [scheme.toLowerCase(), { ...params }]),
        );
      }),
      { seed: 42 },
    );
  });
});
