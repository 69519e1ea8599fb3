import { afterEach, beforeEach, expect, it } from 'vitest';
import { LOOK_MS, RETRY_MS } from '../../edge/retention/constants.ts';
import { type Clock, systemClock } from '../../shared/clock.ts';
import { AgentPool, digestsOf } from '../support/agent-pool.ts';

const WAIT = { timeout: 30_000, interval: 50 };
const HOUR_MS = 3_600_000;
const LAYER = 4_000_000;
const QUOTA = 6_000_000;

/** An hour later, where nothing counts as in use any more, and where the cache is looked at often. */
const LATER: Clock = {
  now: () => systemClock.now() + HOUR_MS,
  mono: () => systemClock.mono(),
  after: (ms, fn) => systemClock.after(ms > RETRY_MS && ms <= LOOK_MS ? ms / 20 : ms, fn),
};

let pool: AgentPool;
beforeEach(async () => {
  pool = new AgentPool();
  await pool.registry.start();
});
afterEach(() => pool.close());

it('agents within a quota give up what enough others keep, and the pool has all of it still', async () => {
  const old = await pool.image([{ bytes: LAYER, seed: 1 }], 'old');
  const common = await pool.image([{ bytes: LAYER, seed: 2 }], 'common');
  await pool.startAll([1, 2, 3]);
  for (const n of [2, 3]) await pool.pull(n, old, 'old');
  for (const n of [1, 2, 3]) await pool.pull(n, common, 'common');
  await pool.registry.stop();

  // The older one has two copies, and the one that was used since has three: it is the one that can be spared.
  await pool.stop(2);
  const yaml = `tuning: {cache: {quota: "${QUOTA}", minReplicas: 2}}`;
  await pool.start(2, { peers: [1, 3], yaml, surroundings: { clock: LATER } });
  await expect.poll(async () => (await pool.status(2)).counters.storedBytes, WAIT).toBeLessThan(QUOTA);
  const two = await pool.status(2);
  expect(two.cache?.lastCopies).toBe(0);
  expect(two.counters.storedBytes).toBeGreaterThan(LAYER);

  await Promise.all([1, 3].map((n) => pool.stop(n)));
  expect(await pool.pull(2, old, 'old')).toEqual(digestsOf(old));
  await expect(pool.pull(2, common, 'common')).rejects.toThrow();
});

it('agents that all have too much at the same moment leave a copy of each', async () => {
  const images = await Promise.all(
    ['a', 'b'].map((tag, seed) => pool.image([{ bytes: LAYER, seed: seed + 1 }], tag)),
  );
  const tags = ['a', 'b'];
  const nodes = [1, 2, 3];
  await pool.startAll(nodes);
  for (const n of nodes) {
    for (const [at, image] of images.entries()) await pool.pull(n, image, tags[at]);
  }
  await pool.registry.stop();
  await Promise.all(nodes.map((n) => pool.stop(n)));
  const yaml = `tuning: {cache: {quota: "${QUOTA}", minReplicas: 2}}`;
  await pool.startAll(nodes, { yaml, surroundings: { clock: LATER } });
  const stored = () => Promise.all(nodes.map(async (n) => (await pool.status(n)).counters.storedBytes));
  await expect.poll(async () => Math.max(...(await stored())), WAIT).toBeLessThan(QUOTA);
  for (const n of nodes) expect((await pool.status(n)).cache?.lastCopies).toBe(0);

  await pool.start(4, { peers: nodes });
  await pool.untilLive(4, 3);
  for (const [at, image] of images.entries()) {
    expect(await pool.pull(4, image, tags[at])).toEqual(digestsOf(image));
  }
});
