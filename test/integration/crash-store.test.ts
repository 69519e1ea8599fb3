import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type CrashPoint, crashPoints, partOf } from '../support/crash/points.ts';
import { faultsOf } from '../support/crash/restart.ts';
import { record, recordLoss } from '../support/crash/story.ts';
import { byDepth } from '../support/depth.ts';

/** Set it to what a failing run printed to see the same again. */
const SEED = Number(process.env.TIDEPOOL_CRASH_SEED ?? '1');
/** One of so many points is tried, and the first of each kind. */
const NTH = byDepth({ part: 8, whole: 1 });
/** Each point is in one of them, so that no test takes long on a slow machine. */
const PARTS = byDepth({ part: [1], whole: [1, 2, 3, 4] });
const LEAST = byDepth({ part: { pull: 100, loss: 20 }, whole: { pull: 500, loss: 50 } });
const LIMIT_MS = 240_000;
/** Memory where there is some: this is about the order of syncs, and waits for none. */
const SHM = '/dev/shm';
const root = mkdtempSync(join(existsSync(SHM) ? SHM : tmpdir(), 'tidepool-crash-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

type Story = Awaited<ReturnType<typeof record>>;

/** Starts an agent from each thing that one can leave behind, and says what is wrong with any; the answer is their number. */
async function tryAll(
  { steps, origin }: Story,
  part: { readonly number: number; readonly of: number; readonly signal: AbortSignal },
  look: (point: CrashPoint, directory: string) => Promise<string[]>,
): Promise<number> {
  const counts = { killed: 0, power: 0 };
  const wrong: string[] = [];
  const directory = mkdtempSync(join(root, 'restarted-'));
  let index = 0;
  for (const point of partOf(crashPoints(steps, SEED), NTH)) {
    if (index++ % part.of !== part.number - 1) continue;
    part.signal.throwIfAborted();
    origin.read = 0;
    const faults = await look(point, directory).catch((error: unknown) => [String(error)]);
    wrong.push(...faults.map((fault) => `${point.name}: ${fault}`));
    counts[point.end]++;
    if (wrong.length > 5) break;
  }
  expect(wrong.slice(0, 5)).toEqual([]);
  const points = counts.killed + counts.power;
  console.log(
    `crash points: ${NTH > 1 ? `one of ${NTH} and the first of each kind, ` : ''}${points} (${counts.killed} killed, ${counts.power} power cuts) at ${steps.length} steps; seed ${SEED}, part ${part.number} of ${part.of}`,
  );
  return points;
}

describe('an agent that ends at any step of a pull', () => {
  it.for(PARTS)(
    'starts again with all it promised, claims nothing it has not, and goes on (part %i)',
    { timeout: LIMIT_MS },
    async (number, { signal }) => {
      const story = await record(mkdtempSync(join(root, 'recorded-')));
      const { origin } = story;
      const part = { number, of: PARTS.length, signal };
      const points = await tryAll(story, part, (point, directory) => faultsOf(point, { origin, directory }));
      expect(points).toBeGreaterThanOrEqual(LEAST.pull / PARTS.length);
    },
  );
});

it(
  'an agent that ends while it makes a lost index anew goes on with that, and fetches nothing',
  async ({ signal }) => {
    const story = await recordLoss(join(root, 'lost'));
    const { origin } = story;
    const points = await tryAll(story, { number: 1, of: 1, signal }, async (point, directory) => {
      const faults = await faultsOf(point, { origin, directory });
      return origin.read === 0 ? faults : [...faults, `${origin.read} bytes were fetched again`];
    });
    expect(points).toBeGreaterThanOrEqual(LEAST.loss);
  },
  LIMIT_MS,
);
