import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseToml } from '../../../../../edge/runtime/containerd/toml.ts';

const entries = (text: string) => parseToml(text).entries.map(({ path, value }) => [path.join('/'), value]);

describe('parseToml', () => {
  it('reads what containerd writes, with the lines', () => {
    const file = parseToml(
      [
        '# comment',
        'version = 3',
        "[plugins.'io.containerd.cri.v1.images'.registry] # why",
        "  config_path = '/etc/containerd/certs.d'",
        '[host."https://m.example"]',
        'capabilities = ["pull", # one',
        '  "resolve",',
        ']',
        'skip_verify = true',
        '  [host."https://m.example".header]',
        '    x-a = ["1", \'2\']',
      ].join('\r\n'),
    );
    expect(file.entries).toEqual([
      { path: ['version'], value: 3, line: 2 },
      {
        path: ['plugins', 'io.containerd.cri.v1.images', 'registry', 'config_path'],
        value: '/etc/containerd/certs.d',
        line: 4,
      },
      { path: ['host', 'https://m.example', 'capabilities'], value: ['pull', 'resolve'], line: 6 },
      { path: ['host', 'https://m.example', 'skip_verify'], value: true, line: 9 },
      { path: ['host', 'https://m.example', 'header', 'x-a'], value: ['1', '2'], line: 11 },
    ]);
    expect(file.tables.map(({ line }) => line)).toEqual([3, 5, 10]);
  });

  it('reads dotted keys, inline tables, escapes, long strings and lists of lists', () => {
    expect(entries('a.b."c.d" = "x\\t\\u00e9"')).toEqual([['a/b/c.d', 'x\té']]);
    expect(entries('t = { a = 1, b = ["x"] }')).toEqual([['t', { a: 1, b: ['x'] }]]);
    expect(entries('client = [["a.cert", "a.key"], ["b.cert", "b.key"]]')[0]?.[1]).toHaveLength(2);
    expect(entries('a = """\none\ntwo"""\nb = 1')).toEqual([
      ['a', 'one\ntwo'],
      ['b', 1],
    ]);
    expect(entries('[[x]]\na = 1979-05-27')).toEqual([['x/a', '1979-05-27']]);
  });

  it.each([
    'a',
    'a =',
    '= 1',
    'a = "x',
    'a = [1',
    'a = 1 b = 2',
    '[x',
    'a = "\\q"',
    `a = ${'['.repeat(100)}`,
  ])('refuses %j with its line', (text) => {
    expect(() => parseToml(`b = 1\n${text}`)).toThrow(/^line [2-9]/);
  });

  it('gives back any string that JSON writes, and ends on any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (value) => {
        expect(entries(`a = ${JSON.stringify(value)}`)).toEqual([['a', value]]);
      }),
      { seed: 42 },
    );
    fc.assert(
      fc.property(
        fc.string({
          unit: fc.constantFrom('[', ']', '"', "'", '=', '.', ',', '{', '}', '#', '\n', 'a', '\\'),
        }),
        (text) => {
          try {
            parseToml(text);
          } catch (error) {
            expect(String(error)).toMatch(/line \d+/);
          }
        },
      ),
      { seed: 42, numRuns: 2_000 },
    );
  });
});
