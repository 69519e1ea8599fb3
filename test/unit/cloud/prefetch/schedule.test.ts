import { describe, expect, it } from 'vitest';
import { timetable } from '../../../../cloud/prefetch/schedule.ts';

const at = (text: string): number => Date.parse(text);
const nightly = { cron: '0 3 * * *', timeZone: 'Asia/Shanghai' };

describe('timetable', () => {
  it('has no run before its first hour, by the clock of the place', () => {
    expect(timetable(nightly, at('2026-03-01T00:00:00Z'), at('2026-03-01T18:59:59Z'))).toEqual({
      run: undefined,
      next: at('2026-03-01T19:00:00Z'),
    });
  });

  it('begins on the second', () => {
    const since = at('2026-03-01T00:00:00Z');
    expect(timetable(nightly, since, at('2026-03-01T19:00:00Z'))).toEqual({
      run: at('2026-03-01T19:00:00Z'),
      next: at('2026-03-02T19:00:00Z'),
    });
  });

  it('makes up for missed runs once', () => {
    const since = at('2026-03-01T19:00:00Z');
    expect(timetable(nightly, since, at('2026-03-09T20:00:00Z'))).toMatchObject({
      run: at('2026-03-09T19:00:00Z'),
    });
    expect(timetable(nightly, at('2026-03-09T19:00:00Z'), at('2026-03-09T20:00:00Z'))).toMatchObject({
      run: undefined,
    });
  });

  it('follows daylight saving', () => {
    const berlin = { cron: '0 3 * * *', timeZone: 'Europe/Berlin' };
    expect(timetable(berlin, 0, at('2026-03-28T12:00:00Z'))).toMatchObject({
      next: at('2026-03-29T01:00:00Z'),
    });
    expect(timetable(berlin, 0, at('2026-03-27T12:00:00Z'))).toMatchObject({
      next: at('2026-03-28T02:00:00Z'),
    });
  });

  it.each([
    ['61 * * * *', 'UTC', /schedule\.cron: "61 \* \* \* \*" cannot be read/],
    ['* * * *', 'UTC', /has 4 fields; five are expected/],
    ['*/5 * * * * *', 'UTC', /has 6 fields/],
    ['0 0 30 2 *', 'UTC', /a day that never comes/],
    ['0 3 * * *', 'Mars/North', /schedule\.timeZone: "Mars\/North" is no time zone/],
  ])('says what is wrong with %s in %s', (cron, timeZone, message) => {
    expect(timetable({ cron, timeZone }, 0, at('2026-01-01T00:00:00Z'))).toMatch(message);
  });
});
