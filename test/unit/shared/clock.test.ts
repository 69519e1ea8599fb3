import { afterEach, describe, expect, it, vi } from 'vitest';
import { delay, every, systemClock } from '../../../shared/clock.ts';
import { ManualClock } from '../../support/manual-clock.ts';

afterEach(() => {
  vi.useRealTimers();
});

describe('systemClock', () => {
  it('runs a timer once, and a cancelled one never', () => {
    vi.useFakeTimers();
    const runs: string[] = [];
    systemClock.after(10, () => runs.push('kept'));
    systemClock.after(10, () => runs.push('cancelled'))();
    vi.advanceTimersByTime(9);
    expect(runs).toEqual([]);
    vi.advanceTimersByTime(100);
    expect(runs).toEqual(['kept']);
  });

  it.each([25, 60])('waits %d days, which is longer than one timer takes', (days) => {
    vi.useFakeTimers();
    const ms = days * 86_400_000;
    let runs = 0;
    const count = (): void => {
      runs++;
    };
    systemClock.after(ms, count);
    const cancel = systemClock.after(ms, count);
    vi.advanceTimersByTime(ms - 1);
    expect(runs).toBe(0);
    cancel();
    vi.advanceTimersByTime(1);
    expect(runs).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('has a monotonic time that is not the time of day', () => {
    expect(Math.abs(systemClock.now() - Date.now())).toBeLessThan(5_000);
    const before = systemClock.mono();
    expect(systemClock.mono()).toBeGreaterThanOrEqual(before);
  });
});

describe('delay', () => {
  it('resolves on time', async () => {
    const clock = new ManualClock();
    let over = false;
    const waiting = delay(clock, 100).then(() => {
      over = true;
    });
    clock.advance(99);
    await Promise.resolve();
    expect(over).toBe(false);
    clock.advance(1);
    await waiting;
  });

  it('rejects with the reason of an abort, and leaves no timer', async () => {
    const clock = new ManualClock();
    const controller = new AbortController();
    const waiting = delay(clock, 100, controller.signal);
    controller.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect(clock.timers).toBe(0);
    await expect(delay(clock, 100, controller.signal)).rejects.toThrow('enough');
    expect(clock.timers).toBe(0);
  });

  it('takes its listener off a signal that lives on', async () => {
    const clock = new ManualClock();
    const { signal } = new AbortController();
    const removed = vi.spyOn(signal, 'removeEventListener');
    const waiting = delay(clock, 1, signal);
    clock.advance(1);
    await waiting;
    expect(removed).toHaveBeenCalledWith('abort', expect.any(Function));
  });
});

describe('every', () => {
  it('runs at each interval until told to stop', () => {
    const clock = new ManualClock();
    const at: number[] = [];
    const stop = every(clock, 10, () => at.push(clock.mono()));
    clock.advance(35);
    expect(at).toEqual([10, 20, 30]);
    stop();
    clock.advance(100);
    expect(at).toHaveLength(3);
    expect(clock.timers).toBe(0);
  });

  it('can be stopped from within', () => {
    const clock = new ManualClock();
    let runs = 0;
    const stop = every(clock, 10, () => {
      runs++;
      stop();
    });
    clock.advance(100);
    expect(runs).toBe(1);
    expect(clock.timers).toBe(0);
  });
});
