import { Cron } from 'croner';
import { describeError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';

export interface Timetable {
  /** Start of the run that is in force, ms; undefined before the first. */
  readonly run: number | undefined;
  /** Start of the next one; undefined where the pattern has none. */
  readonly next: number | undefined;
}

/**
 * Where a schedule stands: the newest run after `since` that `now` has reached, however many were missed before it, and the
 * next one. The answer is text where cron pattern or time zone mean nothing.
 * @param since the run before, or when the job came; ms
 */
export function timetable(
  schedule: { readonly cron: string; readonly timeZone: string },
  since: number,
  now: number,
): Timetable | string {
  const { cron, timeZone } = schedule;
  if (!isTimeZone(timeZone)) {
    return `schedule.timeZone: ${quote(timeZone)} is no time zone; write it like Asia/Shanghai or UTC`;
  }
  const fields = cron.trim().split(/\s+/).length;
  if (fields !== 5) {
    return `schedule.cron: ${quote(cron)} has ${fields} fields; five are expected: minute hour day month weekday, as in "0 3 * * *"`;
  }
  try {
    const pattern = new Cron(cron.trim(), { timezone: timeZone, paused: true, mode: '5-part' });
    const next = pattern.nextRun(new Date(now))?.getTime();
    if (next === undefined) return `schedule.cron: ${quote(cron)} names a day that never comes`;
    // A run whose second has come counts: the search looks at what lies before the moment it is given.
    const last = pattern.previousRuns(1, new Date(now + 1000))[0]?.getTime();
    return { run: last !== undefined && last > since && last <= now ? last : undefined, next };
  } catch (error) {
    return `schedule.cron: ${quote(cron)} cannot be read: ${describeError(error)}`;
  }
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
