import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseQuery } from '../../../../edge/peers/query.ts';

describe('the query of a question', () => {
  it('is read as the general parser reads it', () => {
    const names = fc.uniqueArray(fc.string({ minLength: 1, unit: fc.constantFrom('a', 'k', 'z', '-', '_') }));
    fc.assert(
      fc.property(names, fc.array(fc.string({ unit: 'grapheme' }), { minLength: 10 }), (keys, values) => {
        const fields = keys.map((key, n): [string, string] => [key, values[n] ?? '']);
        const general = new URLSearchParams(fields);
        const written = fields.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join('&');
        for (const text of [general.toString(), written]) {
          const query = parseQuery(text);
          for (const [key] of fields) expect(query.get(key)).toBe(general.get(key));
        }
      }),
      { seed: 20_261_121 },
    );
  });

  it('has nothing of what is not there, and refuses what is no text', () => {
    expect(parseQuery('').get('key')).toBeNull();
    expect(parseQuery('key&=1&other=').get('key')).toBeNull();
    expect(parseQuery('key&=1&other=').get('other')).toBe('');
    expect(() => parseQuery('key=%zz')).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});
