import { describe, expect, it } from 'vitest';
import { Recent } from '../../../../shared/flow/recent.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

describe('Recent', () => {
  it('forgets what is past its time, and what was used longest ago when there is no room', () => {
    const clock = new ManualClock();
    const recent = new Recent<number>(clock, 2);
    recent.set('a', 1, 100);
    recent.set('b', 2, 1_000);
    expect(recent.get('a')).toBe(1);
    recent.set('c', 3, 1_000);
    expect([recent.get('a'), recent.get('b'), recent.get('c'), recent.size]).toEqual([1, undefined, 3, 2]);
    clock.advance(100);
    expect([recent.get('a'), recent.get('c'), recent.size]).toEqual([undefined, 3, 1]);
    recent.delete('c');
    expect(recent.size).toBe(0);
  });
});
