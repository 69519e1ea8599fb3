/**
 * Windows of local time, as people write them: `{days: [mon, tue], start: "22:00", end: "05:00", timezone: Asia/Shanghai}`.
 * A window is open while the wall clock of its zone shows a time in [start, end). So a night on which clocks are put
 * forward has a window that is shorter by what was left out, and one on which they are put back shows the hour twice.
 */
import { TidepoolError } from './errors.ts';
import { quote } from './ids.ts';

/** Days by the name that windows have for them; Monday is the first. */
export const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;
export type Day = (typeof DAYS)[number];

/** A window as it is written. */
export interface WindowText {
  /** Days that it begins on; every day when left out. */
  readonly days?: readonly Day[] | undefined;
  /** `HH:MM` */
  readonly start: string;
  /** `HH:MM`, up to `24:00`. At or before `start`: on the next day. */
  readonly end: string;
  /** IANA name, as `Asia/Shanghai`. */
  readonly timezone?: string | undefined;
}

/** A window as it is reckoned with. */
export interface TimeWindow {
  /** Days that it begins on, 0 is Monday. */
  readonly days: readonly number[];
  /** Minutes since midnight. */
  readonly start: number;
  readonly end: number;
  readonly timezone: string;
}

/** The zone of whoever sets none. Its clock needs no rules, and who loads those starts 15 ms later and takes 8 MiB more. */
const UTC = 'UTC';
const MINUTE_MS = 60_000;
const DAY_MINUTES = 1_440;
const DAY_MS = DAY_MINUTES * MINUTE_MS;
/** 1970-01-01 was a Thursday. */
const FIRST_DAY = 3;
/** Windows repeat each week; a change of the clocks may move one by a day. */
const HORIZON_DAYS = 9;
/** Zones whose formatter is kept: there are some 600 names, and each costs tens of microseconds to make. */
const MAX_ZONES = 64;

/** @throws TidepoolError INVALID_ARGUMENT for a time of day or a zone that is none */
export function parseWindow(text: WindowText, timezone: string): TimeWindow {
  const start = parseClock(text.start);
  if (start === DAY_MINUTES) {
    throw new TidepoolError('INVALID_ARGUMENT', 'a window starts at 23:59 at the latest; 24:00 is an end');
  }
  return {
    days: [...new Set((text.days ?? DAYS).map((day) => DAYS.indexOf(day)))].sort((a, b) => a - b),
    start,
    end: parseClock(text.end),
    timezone: parseTimezone(text.timezone ?? timezone),
  };
}

/** `05:30` to minutes since midnight. @throws TidepoolError INVALID_ARGUMENT */
export function parseClock(text: string): number {
  const match = /^(\d{1,2}):(\d{2})$/.exec(text);
  const minutes = Number(match?.[1]) * 60 + Number(match?.[2]);
  if (match === null || Number(match[2]) > 59 || minutes > DAY_MINUTES) {
    throw new TidepoolError('INVALID_ARGUMENT', `not a time of day: ${quote(text)}; write it like "05:30"`);
  }
  return minutes;
}

/** @throws TidepoolError INVALID_ARGUMENT for a name that this process has no rules for */
export function parseTimezone(name: string): string {
  if (name === UTC) return name;
  try {
    formatterOf(name);
  } catch (error) {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not a time zone: ${quote(name)}; write it like Asia/Shanghai or UTC`,
      { cause: error },
    );
  }
  return name;
}

/** True in any of the windows; no windows at all are always. @param at wall clock, ms since 1970 */
export function isOpen(windows: readonly TimeWindow[], at: number): boolean {
  return windows.length === 0 || windows.some((window) => holds(window, at));
}

/** The next moment at which {@link isOpen} answers otherwise; undefined when that is not within the next week. */
export function nextChange(windows: readonly TimeWindow[], at: number): number | undefined {
  if (windows.length === 0) return undefined;
  const moments = new Set<number>();
  for (const window of windows) {
    for (const moment of momentsOf(window, at)) if (moment > at) moments.add(moment);
  }
  const now = isOpen(windows, at);
  return [...moments].sort((a, b) => a - b).find((moment) => isOpen(windows, moment) !== now);
}

/** Days since 1970 that the zone's calendar shows. */
export function localDay(timezone: string, at: number): number {
  return Math.floor((at + offsetAt(timezone, at)) / DAY_MS);
}

/** The first moment of the zone's next day. */
export function nextDay(timezone: string, at: number): number {
  const today = localDay(timezone, at);
  return firstMoment(at, at + 2 * DAY_MS, (moment) => localDay(timezone, moment) > today);
}

/** How far a zone's wall clock is ahead of UTC, ms. */
export function offsetAt(timezone: string, at: number): number {
  if (timezone === UTC) return 0;
  const second = Math.floor(at / 1000) * 1000;
  const fields: Record<string, number> = {};
  for (const { type, value } of formatterOf(timezone).formatToParts(second)) fields[type] = Number(value);
  const { year = 0, month = 0, day = 0, hour = 0, minute = 0, second: seconds = 0 } = fields;
  return Date.UTC(year, month - 1, day, hour, minute, seconds) - second;
}

function holds({ days, start, end, timezone }: TimeWindow, at: number): boolean {
  const local = at + offsetAt(timezone, at);
  const date = Math.floor(local / DAY_MS);
  const minute = (local - date * DAY_MS) / MINUTE_MS;
  const today = days.includes(weekdayOf(date));
  if (start < end) return today && minute >= start && minute < end;
  return (today && minute >= start) || (days.includes(weekdayOf(date - 1)) && minute < end);
}

/** Every moment of the next days at which the window may open or close: its times of day, and changes of the clocks. */
function* momentsOf({ start, end, timezone }: TimeWindow, at: number): Generator<number> {
  const today = localDay(timezone, at);
  for (let day = -1; day < HORIZON_DAYS; day++) {
    const from = at + day * DAY_MS;
    const before = offsetAt(timezone, from);
    const after = offsetAt(timezone, from + DAY_MS);
    if (before !== after) {
      yield firstMoment(from, from + DAY_MS, (moment) => offsetAt(timezone, moment) === after);
    }
    for (const minutes of [start, end]) {
      const wall = (today + day) * DAY_MS + minutes * MINUTE_MS;
      // A wall time may stand for two moments, or none: whichever of these is wrong opens or closes nothing.
      for (const near of [wall - DAY_MS, wall + DAY_MS]) yield wall - offsetAt(timezone, near);
    }
  }
}

/** The first moment in (from, to] for which `has` holds, when it holds from there on. */
function firstMoment(from: number, to: number, has: (moment: number) => boolean): number {
  let low = from;
  let high = to;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (has(middle)) high = middle;
    else low = middle;
  }
  return high;
}

function weekdayOf(date: number): number {
  return (((date + FIRST_DAY) % 7) + 7) % 7;
}

const formatters = new Map<string, Intl.DateTimeFormat>();

function formatterOf(timezone: string): Intl.DateTimeFormat {
  const known = formatters.get(timezone);
  if (known !== undefined) return known;
  const formatter = new Intl.DateTimeFormat('en-US', {
    timeZone: timezone,
    calendar: 'gregory',
    numberingSystem: 'latn',
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  if (formatters.size >= MAX_ZONES) formatters.clear();
  formatters.set(timezone, formatter);
  return formatter;
}
