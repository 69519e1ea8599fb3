import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { AgentPool, digestsOf } from '../support/agent-pool.ts';
import type { SampleImage } from '../support/registry/index.ts';

const WAIT = { timeout: 20_000, interval: 50 };

let pool: AgentPool;
let image: SampleImage;
beforeEach(async () => {
  pool = new AgentPool();
  await pool.registry.start();
  image = await pool.image([{ bytes: 3_000_000, seed: 1 }]);
  await pool.startAll([1, 2]);
  for (const n of [1, 2]) expect(await pool.pull(n, image)).toEqual(digestsOf(image));
  // So that nothing of it is in memory.
  for (const n of [1, 2]) await pool.stop(n);
});
afterEach(() => pool.close());

/** Changes one bit of the layer's file, as a disk does. */
function rot(n: number, at: number): void {
  const [layer] = image.blobs.filter(({ size }) => size > 1_000_000);
  const digest = layer?.digest ?? '';
  const path = join(pool.data(n), 'blobs', digest.slice(7, 9), digest.replace(':', '-'));
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  byte[0] = (byte[0] ?? 0) ^ 1;
  writeSync(file, byte, 0, 1, at);
  closeSync(file);
}

it('a byte that the disk has changed reaches no runtime, and comes again from the pool', async () => {
  await pool.registry.stop();
  rot(1, 1_700_000);
  await pool.startAll([1, 2]);
  expect(await pool.pull(1, image)).toEqual(digestsOf(image));
  await expect
    .poll(async () => (await pool.status(1)).store, WAIT)
    .toMatchObject({ damagedPieces: 1, repairedBlobs: 1 });
  await pool.stop(2);
  expect(await pool.pull(1, image)).toEqual(digestsOf(image));
});

it('a byte that the disk has changed reaches no neighbour, which has it from another one', async () => {
  await pool.registry.stop();
  rot(1, 900_000);
  await pool.startAll([1, 2]);
  await pool.start(3, { peers: [1, 2] });
  await pool.untilLive(3, 2);
  expect(await pool.pull(3, image)).toEqual(digestsOf(image));
  const { counters, members } = await pool.status(3);
  // Who holds it has found the damage itself: what it sent was right, and it is no liar.
  expect([counters.corruptPieces, counters.digestMismatches]).toEqual([0, 0]);
  expect(members.filter(({ setAside }) => setAside)).toEqual([]);
});

it('a neighbour that finds nobody else is refused, and has it from the registry once that is back', async () => {
  rot(1, 900_000);
  await pool.start(1);
  await pool.start(3, { peers: [1] });
  await pool.untilLive(3, 1);
  expect(await pool.pull(3, image)).toEqual(digestsOf(image));
  const { counters } = await pool.status(3);
  expect([counters.corruptPieces, counters.digestMismatches]).toEqual([0, 0]);
  expect((await pool.status(1)).store?.damagedPieces).toBe(1);
  // One piece, and not the layer again.
  expect(await pool.wanBytes([1, 3])).toBeLessThan(1_000_000);
  expect(await pool.pull(1, image)).toEqual(digestsOf(image));
});
