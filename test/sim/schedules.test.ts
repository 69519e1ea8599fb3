import { describe, expect, it } from 'vitest';
import { byDepth } from '../support/depth.ts';
import { runSchedule } from './schedules/run-schedule.ts';
import { scheduleOf } from './schedules/schedule.ts';

const FILE = 'test/sim/schedules.test.ts';
const SEEDS = byDepth({ part: 20, whole: 100 });
/** Days beyond these on which something has gone wrong once. */
const ONCE_WRONG = [203, 241, 308, 523, 622, 687, 694, 705, 985, 1362];
const BATCH = 10;

const one = process.env.SEED;
const many = Number(process.env.SEEDS ?? SEEDS);
const seeds =
  one === undefined ? [...Array.from({ length: many }, (_, i) => i + 1), ...ONCE_WRONG] : [Number(one)];

const worst = { copies: 0, ofAllowed: 0, slowest: 0, failed: 0, pulls: 0 };

async function tryOut(seed: number): Promise<string[]> {
  const schedule = scheduleOf(seed);
  const { problems, copies, allowedCopies, slowest, pulls } = await runSchedule(schedule);
  worst.copies = Math.max(worst.copies, copies);
  worst.ofAllowed = Math.max(worst.ofAllowed, copies / allowedCopies);
  worst.slowest = Math.max(worst.slowest, slowest);
  worst.pulls += pulls.length;
  worst.failed += pulls.filter((pull) => !pull.void && pull.error !== undefined).length;
  if (one !== undefined) {
    console.log(JSON.stringify(schedule, undefined, 1));
    for (const { plan, startedAt, endedAt, error, void: gone } of pulls)
      console.log(JSON.stringify(plan), startedAt, endedAt, gone ? 'void' : String(error ?? 'right'));
  }
  if (problems.length === 0) return [];
  const replay = `SEED=${seed} npx vitest run --project sim ${FILE}`;
  const faults = schedule.faults.map(({ kind, at, lasts, nodes }) => `${kind} ${nodes} ${at}+${lasts}`);
  return [`seed ${seed}: ${problems.join('; ')}\n  faults: ${faults.join('; ')}\n  replay: ${replay}`];
}

describe('random schedules of faults', () => {
  for (let from = 0; from < seeds.length; from += BATCH) {
    const batch = seeds.slice(from, from + BATCH);
    it(`seeds ${batch[0]} to ${batch.at(-1)}: all that is promised is kept`, async () => {
      const problems: string[] = [];
      for (const seed of batch) problems.push(...(await tryOut(seed)));
      expect(problems.join('\n')).toBe('');
    });
  }

  it('the same seed is the same day', async () => {
    const runs = [await runSchedule(scheduleOf(1)), await runSchedule(scheduleOf(1))];
    const [first, second] = runs.map(({ copies, pulls }) => ({ copies, ends: pulls.map((p) => p.endedAt) }));
    expect(first).toEqual(second);
    console.log(`schedules: worst ${JSON.stringify(worst)}`);
  });
});
