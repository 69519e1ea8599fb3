import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { type CrashPoint, crashPoints } from '../support/crash/points.ts';
import { faultsOf } from '../support/crash/restart.ts';
import { record, recordLoss } from '../support/crash/story.ts';

/** Set it to what a failing run printed to see the same again. */
const SEED = Number(process.env.TIDEPOOL_CRASH_SEED ?? '1');
/** Memory where there is some: this is about the order of syncs, and waits for none. */
const SHM = '/dev/shm';
const root = mkdtempSync(join(existsSync(SHM) ? SHM : tmpdir(), 'tidepool-crash-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Starts an agent from each thing that one can leave behind, and says what is wrong with any. */
async function tryAll(
  { steps, origin }: Awaited<ReturnType<typeof record>>,
  look: (point: CrashPoint, directory: string) => Promise<string[]>,
): Promise<number> {
  const counts = { killed: 0, power: 0 };
  const wrong: string[] = [];
  for (const point of crashPoints(steps, SEED)) {
    origin.read = 0;
    const faults = await look(point, join(root, 'restarted')).catch((error: unknown) => [String(error)]);
    wrong.push(...faults.map((fault) => `${point.name}: ${fault}`));
    counts[point.end]++;
    if (wrong.length > 5) break;
  }
  expect(wrong.slice(0, 5)).toEqual([]);
  const points = counts.killed + counts.power;
  console.log(
    `crash points: ${points} (${counts.killed} killed, ${counts.power} power cuts) at ${steps.length} steps; seed ${SEED}`,
  );
  return points;
}

it('an agent that ends at any step of a pull starts again with all it promised, claims nothing it has not, and goes on', async () => {
  const story = await record(join(root, 'recorded'));
  const { origin } = story;
  const points = await tryAll(story, (point, directory) => faultsOf(point, { origin, directory }));
  expect(points).toBeGreaterThanOrEqual(500);
}, 240_000);

it('an agent that ends while it makes a lost index anew goes on with that, and fetches nothing', async () => {
  const story = await recordLoss(join(root, 'lost'));
  const { origin } = story;
  const points = await tryAll(story, async (point, directory) => {
    const faults = await faultsOf(point, { origin, directory });
    return origin.read === 0 ? faults : [...faults, `${origin.read} bytes were fetched again`];
  });
  expect(points).toBeGreaterThanOrEqual(50);
}, 240_000);
