import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { checkYaml, editDistance, loadConfig, parseYaml, suggest } from '../../../shared/config-file.ts';
import { TidepoolError } from '../../../shared/errors.ts';

const schema = z.strictObject({
  mirror: z.string().default('127.0.0.1:6180'),
  registries: z
    .record(z.string(), z.strictObject({ url: z.string(), caFile: z.string().optional() }))
    .default({}),
  peers: z.array(z.strictObject({ host: z.string(), port: z.number() })).optional(),
});

const messageOf = (text: string): string => {
  try {
    loadConfig(schema, text, 'agent.yaml');
  } catch (error) {
    if (error instanceof TidepoolError) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'accepted';
};

describe('loadConfig', () => {
  it('reads settings and fills defaults; an empty file is an empty map', () => {
    expect(loadConfig(schema, '', 'agent.yaml')).toEqual({ mirror: '127.0.0.1:6180', registries: {} });
    expect(loadConfig(schema, '# nothing\n---\nmirror: a:1\n', 'f').mirror).toBe('a:1');
  });

  it('refuses an unknown key with its line and the key that was meant', () => {
    expect(messageOf('# a comment\nmirrror: 127.0.0.1:1\n')).toBe(
      'INVALID_CONFIG agent.yaml:2: unknown key "mirrror"; did you mean "mirror"?',
    );
  });

  it('finds the line of a key deep inside', () => {
    expect(messageOf('mirror: a:1\nregistries:\n  docker.io:\n    url: http://x\n    cafile: y\n')).toBe(
      'INVALID_CONFIG agent.yaml:5: registries.docker.io: unknown key "cafile"; did you mean "caFile"?',
    );
    expect(messageOf('peers:\n- host: a\n  port: 1\n- host: b\n  prot: 2\n  port: 3\n')).toContain(
      'agent.yaml:5: peers[1]: unknown key "prot"; did you mean "port"?',
    );
  });

  it('lists what is known where nothing looks alike', () => {
    expect(messageOf('zzzzzz: 1\n')).toContain('known keys: mirror, registries, peers');
  });

  it('tells the line of a wrong value, of bad syntax, of a duplicate key and of a second document', () => {
    expect(messageOf('peers:\n- host: a\n  port: x\n')).toMatch(/agent.yaml:3: peers\[0\].port: .*number/);
    expect(messageOf('mirror: a\nmirror: b\n')).toMatch(/agent.yaml:2: .*unique/i);
    expect(messageOf('mirror: [a\n')).toMatch(/^INVALID_CONFIG agent.yaml:\d+: /);
    expect(messageOf('mirror: a\n---\nmirror: b\n')).toMatch(/agent.yaml:3: a second document/);
    expect(messageOf('- a\n')).toMatch(/agent.yaml:1: .*object/);
  });

  it('refuses aliases that multiply', () => {
    const bomb = Array.from({ length: 9 }, (_, i) =>
      i === 0
        ? 'a0: &a0 [x,x,x,x,x,x,x,x,x]'
        : `a${i}: &a${i} [${Array(9)
            .fill(`*a${i - 1}`)
            .join(',')}]`,
    ).join('\n');
    expect(messageOf(bomb)).toMatch(/^INVALID_CONFIG agent.yaml:1: .*alias/i);
  });

  it('throws nothing but INVALID_CONFIG, whatever the text', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'{}[]:-&*!|>\n ab#"\'%,?') })),
        (text) => {
          expect(messageOf(text)).toMatch(/^(accepted|INVALID_CONFIG)/);
        },
      ),
      { seed: 42, numRuns: 500 },
    );
  });
});

describe('parseYaml', () => {
  it('keeps each document apart, with its first line and its own errors', () => {
    const documents = parseYaml('kind: A\n---\nkind: [B\n---\nkind: C\n---\n');
    expect(documents.map(({ line }) => line)).toEqual([1, 3, 5]);
    expect(documents.map(({ errors }) => errors.length > 0)).toEqual([false, true, false]);
    const third = documents[2];
    expect(third && checkYaml(z.strictObject({ kind: z.string() }), third)).toEqual({ value: { kind: 'C' } });
  });
});

describe('suggest', () => {
  it('answers the nearest word, and none when all are far', () => {
    expect(suggest('wna', ['lan', 'tags', 'wan'])).toBe('wan');
    expect(suggest('documets', ['data', 'documents', 'mqtt'])).toBe('documents');
    expect(suggest('xyz', ['data', 'documents'])).toBeUndefined();
  });

  it('editDistance counts edits, a swap of neighbours as one, and stops at its limit', () => {
    const word = fc.string({ maxLength: 8, unit: fc.constantFrom(...'abc') });
    fc.assert(
      fc.property(word, word, (a, b) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, b) === 0).toBe(a === b);
        expect(editDistance(`x${a}`, a)).toBe(1);
        expect(editDistance(`${a}xy${b}`, `${a}yx${b}`)).toBe(1);
        expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
        expect(editDistance(a, b, 2)).toBe(Math.min(2, editDistance(a, b)));
      }),
      { seed: 42 },
    );
  });
});

describe('a text that is made to hurt', () => {
  it.each([
    ['brackets in brackets', '['.repeat(100_000)],
    ['braces in braces', '{a: '.repeat(5_000)],
    ['lists in lists on one line', '- '.repeat(50_000)],
    [
      'aliases that multiply',
      Array.from({ length: 12 }, (_, n) =>
        n === 0
          ? 'l0: &l0 [x]'
          : `l${n}: &l${n} [${Array(10)
              .fill(`*l${n - 1}`)
              .join(',')}]`,
      ).join('\n'),
    ],
  ])('is refused at once: %s', (_, text) => {
    const begun = performance.now();
    const [document] = parseYaml(`x: 1\ny: ${text}`);
    expect(performance.now() - begun).toBeLessThan(1_000);
    expect(document?.errors.length).toBeGreaterThan(0);
    expect(document?.value).toBeUndefined();
  });

  it('says on which line it goes too deep', () => {
    expect(parseYaml(`x: 1\n${'['.repeat(100)}`)[0]?.errors).toEqual([
      { line: 2, message: 'nested more than 64 levels deep' },
    ]);
  });
});
