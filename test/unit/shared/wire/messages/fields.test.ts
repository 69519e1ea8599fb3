import { describe, expect, it } from 'vitest';
import { duration, rate, size } from '../../../../../shared/wire/messages/fields.ts';

describe('values as people write them', () => {
  it('become numbers', () => {
    expect([rate.parse('20Mbit'), size.parse('8Gi'), duration.parse('30s')]).toEqual([
      2_500_000,
      8 * 1024 ** 3,
      30_000,
    ]);
  });

  it('are refused with the words of their parser', () => {
    expect(rate.safeParse('fast').error?.issues[0]?.message).toContain('20Mbit');
    expect(size.safeParse(5).success).toBe(false);
  });
});
