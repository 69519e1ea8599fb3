import { describe, expect, it } from 'vitest';
import { hookSettings } from '../../../../cloud/config/hook-settings.ts';
import { matchesPattern, ruleFor } from '../../../../cloud/hooks/rules.ts';
import { parsePoolName } from '../../../../shared/ids.ts';

describe('matchesPattern', () => {
  it.each([
    ['team/*', 'team/web', true],
    ['team/*', 'team/', true],
    ['team/*', 'team/a/web', false],
    ['team/**', 'team/a/web', true],
    ['**/web', 'team/a/web', true],
    ['*', 'web', true],
    ['*', 'team/web', false],
    ['**', 'team/web', true],
    ['team/web', 'team/web', true],
    ['team/web', 'team/web2', false],
    ['team/w*b', 'team/web', true],
    ['v*', 'v1.2', true],
    ['v*', 'dev', false],
    ['*-rc*', 'v1-rc2', true],
    ['v1.2', 'v1x2', false],
  ])('%s on %s: %s', (pattern, text, fits) => {
    expect(matchesPattern(pattern, text)).toBe(fits);
  });

  it('takes no time on what is made to take long', () => {
    const startedAt = performance.now();
    expect(matchesPattern(`${'*a'.repeat(60)}b`, 'a'.repeat(255))).toBe(false);
    expect(performance.now() - startedAt).toBeLessThan(1_000);
  });
});

describe('ruleFor', () => {
  const pools = [parsePoolName('alpha')];

  it('is the first that fits', () => {
    const rules = [
      { repository: 'team/*', tags: ['v*', 'stable'], pools },
      { repository: 'team/**', pools },
    ];
    expect(ruleFor(rules, { repository: 'team/web', tag: 'stable' })).toBe(rules[0]);
    expect(ruleFor(rules, { repository: 'team/web', tag: 'latest' })).toBe(rules[1]);
    expect(ruleFor(rules, { repository: 'web', tag: 'v1' })).toBeUndefined();
  });

  it.each([
    [{ repository: 'registry.test:5000/team/web', pools: ['a'] }, /without its registry/],
    [{ repository: 'team/*', pools: [] }, /Too small/],
    [{ repository: 'team/*', pools: ['A'] }, /not a pool name/],
    [{ repository: 'team/*', tags: 'v 1', pools: ['a'] }, /expected a tag/],
    [{ repository: 'team/*', pools: ['a'], registry: 'http://x' }, /not a registry host/],
  ])('settings refuse %j', (rule, message) => {
    const result = hookSettings.safeParse({ registry: { secretFile: '/x', rules: [rule] } });
    expect(result.error?.message).toMatch(message);
  });
});
