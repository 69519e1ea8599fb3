import { describe, expect, it } from 'vitest';
import { RateLimits, sourceOf } from '../../../../cloud/api/rate-limits.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

describe('rate limits', () => {
  it('let a burst through, then so many a second, each caller by itself', () => {
    const clock = new ManualClock();
    const limits = new RateLimits({ clock }, { perSecond: 2, burst: 3 });
    expect([1, 2, 3].map(() => limits.take('a'))).toEqual([undefined, undefined, undefined]);
    expect(limits.take('a')).toBe(500);
    expect(limits.take('b')).toBeUndefined();
    clock.advance(500);
    expect(limits.take('a')).toBeUndefined();
    expect(limits.take('a')).toBe(500);
  });

  it('remember only so many callers', () => {
    const limits = new RateLimits({ clock: new ManualClock() }, { perSecond: 1, burst: 1 });
    for (let i = 0; i < 20_000; i++) limits.take(`${i}`);
    expect(limits.size).toBe(10_000);
    expect(limits.wait('19999')).toBe(1_000);
  });

  it('take a host of IPv6 for one, whatever address it picks', () => {
    expect(sourceOf('::ffff:10.0.0.1')).toBe('10.0.0.1');
    expect(sourceOf('2001:db8:0:1::5')).toBe(sourceOf('2001:db8:0:1:ffff:1:2:3'));
    expect(sourceOf('2001:db8:0:2::5')).not.toBe(sourceOf('2001:db8:0:1::5'));
    expect(sourceOf('::1')).toBe('0:0:0:0::/64');
    expect(sourceOf('fe80::1%eth0')).toBe('fe80:0:0:0::/64');
  });
});
