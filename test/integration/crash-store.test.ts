import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { crashPoints } from '../support/crash/points.ts';
import { faultsOf } from '../support/crash/restart.ts';
import { record } from '../support/crash/story.ts';

/** Set it to what a failing run printed to see the same again. */
const SEED = Number(process.env.TIDEPOOL_CRASH_SEED ?? '1');
/** Memory where there is some: this is about the order of syncs, and waits for none. */
const SHM = '/dev/shm';
const root = mkdtempSync(join(existsSync(SHM) ? SHM : tmpdir(), 'tidepool-crash-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

it('an agent that ends at any step of a pull starts again with all it promised, claims nothing it has not, and goes on', async () => {
  const { steps, origin } = await record(join(root, 'recorded'));
  const counts = { killed: 0, power: 0 };
  const wrong: string[] = [];
  for (const point of crashPoints(steps, SEED)) {
    const directory = join(root, 'restarted');
    const faults = await faultsOf(point, { origin, directory }).catch((error: unknown) => [String(error)]);
    wrong.push(...faults.map((fault) => `${point.name}: ${fault}`));
    counts[point.end]++;
    if (wrong.length > 5) break;
  }
  expect(wrong.slice(0, 5)).toEqual([]);
  console.log(
    `crash points: ${counts.killed + counts.power} (${counts.killed} killed, ${counts.power} power cuts) at ${steps.length} steps; seed ${SEED}`,
  );
  expect(counts.killed + counts.power).toBeGreaterThanOrEqual(500);
}, 240_000);
