import { describe, expect, it } from 'vitest';
import { flawOf, matches, matchesAll } from '../../../../cloud/pools/selectors.ts';
import type { MatchExpression } from '../../../../shared/wire/messages/fields.ts';

const labels = { disk: 'small', zone: 'a' };
const cases: [MatchExpression, boolean][] = [
  [{ key: 'disk', operator: 'In', value: 'small' }, true],
  [{ key: 'disk', operator: 'In', values: ['large', 'small'] }, true],
  [{ key: 'disk', operator: 'In', values: ['large'] }, false],
  [{ key: 'none', operator: 'In', values: ['small'] }, false],
  [{ key: 'disk', operator: 'NotIn', value: 'small' }, false],
  [{ key: 'disk', operator: 'NotIn', value: 'large' }, true],
  // Also nodes without the key.
  [{ key: 'none', operator: 'NotIn', value: 'small' }, true],
  [{ key: 'disk', operator: 'Exists' }, true],
  [{ key: 'none', operator: 'Exists' }, false],
  [{ key: 'disk', operator: 'DoesNotExist' }, false],
  [{ key: 'none', operator: 'DoesNotExist' }, true],
  // What every object has is no label.
  [{ key: 'constructor', operator: 'Exists' }, false],
];

describe('selectors', () => {
  it.each(cases)('%j: %j', (expression, expected) => {
    expect(matches(expression, labels)).toBe(expected);
  });

  it('several must all hold, none holds always', () => {
    const [yes, no] = [cases[0]?.[0], cases[2]?.[0]];
    if (yes === undefined || no === undefined) throw new Error('no cases');
    expect(matchesAll([yes, no], labels)).toBe(false);
    expect(matchesAll([yes, yes], labels)).toBe(true);
    expect(matchesAll([], {})).toBe(true);
  });

  it('knows expressions that cannot be meant', () => {
    expect(flawOf({ key: 'a', operator: 'In' })).toMatch(/needs value/);
    expect(flawOf({ key: 'a', operator: 'NotIn', values: [] })).toMatch(/needs value/);
    expect(flawOf({ key: 'a', operator: 'Exists', value: 'x' })).toMatch(/takes no value/);
    expect(flawOf({ key: 'a', operator: 'In', value: '' })).toBeUndefined();
  });
});
