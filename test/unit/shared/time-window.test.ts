import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DAYS,
  isOpen,
  localDay,
  nextChange,
  nextDay,
  offsetAt,
  parseClock,
  parseTimezone,
  parseWindow,
  type TimeWindow,
} from '../../../shared/time-window.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Zones whose clocks change by an hour, by half of one, at midnight, in the other half of the year, and never. */
const ZONES = [
  'Europe/Berlin',
  'America/New_York',
  'Australia/Lord_Howe',
  'America/Santiago',
  'Africa/Cairo',
  'Asia/Kolkata',
  'Pacific/Kiritimati',
  'UTC',
];

/** Clocks on the wall, made another way than the code's. */
const clocks = new Map(
  ZONES.map((timeZone) => [
    timeZone,
    new Intl.DateTimeFormat('en-GB', {
      timeZone,
      weekday: 'short',
      hour: '2-digit',
      minute: '2-digit',
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
    }),
  ]),
);
function wall(zone: string, at: number): { day: string; minute: number; date: string } {
  const parts = clocks.get(zone)?.formatToParts(at) ?? [];
  const of = (type: string): string => parts.find((part) => part.type === type)?.value ?? '';
  return {
    day: of('weekday').toLowerCase(),
    minute: Number(of('hour')) * 60 + Number(of('minute')),
    date: `${of('year')}-${of('month')}-${of('day')}`,
  };
}

/** The window's meaning, said once more and slowly. */
function model(window: TimeWindow, at: number): boolean {
  const { day, minute } = wall(window.timezone, at);
  const today = DAYS.map(String).indexOf(day);
  const begins = window.days.includes(today);
  const began = window.days.includes((today + 6) % 7);
  if (window.start < window.end) return begins && window.start <= minute && minute < window.end;
  return (begins && minute >= window.start) || (began && minute < window.end);
}

/** Moments around which clocks change in 2026, and others. */
const moments = fc.oneof(
  fc.constantFrom(
    '2026-03-29T01:00Z',
    '2026-10-25T01:00Z',
    '2026-03-08T07:00Z',
    '2026-11-01T06:00Z',
    '2026-04-04T15:00Z',
    '2026-10-03T15:30Z',
    '2026-09-06T04:00Z',
    '2026-04-05T03:00Z',
    '2026-04-23T22:00Z',
    '2026-10-29T21:00Z',
  ),
  fc.constantFrom('2026-01-01T00:00Z', '2026-07-14T12:34Z', '1970-01-01T00:00Z'),
);
const anyWindow = fc
  .record({
    days: fc.uniqueArray(fc.integer({ min: 0, max: 6 }), { minLength: 1 }),
    start: fc.integer({ min: 0, max: 95 }).map((quarter) => quarter * 15),
    end: fc.integer({ min: 0, max: 96 }).map((quarter) => quarter * 15),
    timezone: fc.constantFrom(...ZONES),
  })
  .map((window): TimeWindow => window);

describe('windows', () => {
  it('are open as a minute by minute model has it, also where clocks change', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(anyWindow, moments, fc.integer({ min: -720, max: 720 }), (window, around, shift) => {
        const from = Date.parse(around) + shift * MINUTE;
        for (let minute = 0; minute < 200; minute++) {
          const at = from + minute * MINUTE;
          expect(isOpen([window], at)).toBe(model(window, at));
        }
      }),
      { seed: 42, numRuns: 60 },
    );
  });

  it('change next when the model does', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(
        fc.array(anyWindow, { minLength: 1, maxLength: 3 }),
        moments,
        fc.integer({ min: -2880, max: 1440 }),
        fc.integer({ min: 0, max: MINUTE - 1 }),
        (windows, around, shift, ms) => {
          const from = Date.parse(around) + shift * MINUTE;
          const open = (at: number): boolean => windows.some((window) => model(window, at));
          const next = nextChange(windows, from + ms);
          // The model is walked by the minute, at most a day; what comes later is checked from both sides.
          const until = Math.min(next ?? Number.POSITIVE_INFINITY, from + DAY);
          for (let at = from + MINUTE; at < until; at += MINUTE) expect(open(at)).toBe(open(from));
          if (next !== undefined) {
            expect(open(next)).toBe(!open(from));
            expect(open(next - 1)).toBe(open(from));
          }
        },
      ),
      { seed: 42, numRuns: 60 },
    );
  });

  it('of any of several hold; of none at all is always', () => {
    const at = Date.parse('2026-11-21T10:30Z');
    const window = (start: string, end: string) => parseWindow({ start, end }, 'UTC');
    expect(isOpen([], at)).toBe(true);
    expect(nextChange([], at)).toBeUndefined();
    expect(isOpen([window('01:00', '02:00'), window('10:00', '11:00')], at)).toBe(true);
    expect(isOpen([window('01:00', '02:00'), window('11:00', '12:00')], at)).toBe(false);
    expect(nextChange([window('00:00', '24:00')], at)).toBeUndefined();
    expect(nextChange([window('10:00', '11:00'), window('11:00', '12:00')], at)).toBe(
      Date.parse('2026-11-21T12:00Z'),
    );
  });

  it('over midnight belong to the day that they begin on', () => {
    const night = parseWindow({ days: ['fri'], start: '22:00', end: '05:00' }, 'Asia/Shanghai');
    const shanghai = (text: string): boolean => isOpen([night], Date.parse(`${text}+08:00`));
    expect(shanghai('2026-11-20T21:59')).toBe(false);
    expect(shanghai('2026-11-20T22:00')).toBe(true);
    expect(shanghai('2026-11-21T04:59')).toBe(true);
    expect(shanghai('2026-11-21T05:00')).toBe(false);
    expect(shanghai('2026-11-20T04:00')).toBe(false);
    expect(shanghai('2026-11-21T22:00')).toBe(false);
  });

  it('with one time for start and end last a day', () => {
    const day = parseWindow({ days: ['mon'], start: '08:00', end: '08:00' }, 'UTC');
    expect(isOpen([day], Date.parse('2026-11-23T08:00Z'))).toBe(true);
    expect(nextChange([day], Date.parse('2026-11-23T08:00Z'))).toBe(Date.parse('2026-11-24T08:00Z'));
  });
});

describe('days', () => {
  it('turn when the calendar of the zone does, whatever its clocks do', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...ZONES),
        moments,
        fc.integer({ min: -2880, max: 2880 }),
        (zone, around, shift) => {
          const at = Date.parse(around) + shift * MINUTE;
          const next = nextDay(zone, at);
          expect(wall(zone, next - 1).date).toBe(wall(zone, at).date);
          expect(wall(zone, next).date).not.toBe(wall(zone, at).date);
          expect(localDay(zone, next)).toBe(localDay(zone, at) + 1);
          expect(next - at).toBeLessThanOrEqual(25 * HOUR);
        },
      ),
      { seed: 42 },
    );
  });

  it('have offsets of whole minutes now, and dates before 1970 too', () => {
    expect(offsetAt('Asia/Kolkata', Date.parse('2026-01-01T00:00:30.500Z'))).toBe(5.5 * HOUR);
    expect(localDay('UTC', -1)).toBe(-1);
  });
});

describe('what people write', () => {
  it('is read, or refused in words', () => {
    expect(parseClock('05:30')).toBe(330);
    expect(parseClock('24:00')).toBe(1440);
    for (const bad of ['24:01', '5', '05:60', '-1:00', '05:30:00', '', '1:2']) {
      expect(() => parseClock(bad)).toThrow(/not a time of day/);
    }
    expect(parseTimezone('Asia/Shanghai')).toBe('Asia/Shanghai');
    expect(() => parseTimezone('Mars/Olympus')).toThrow(/not a time zone: "Mars\/Olympus"/);
  });
});
