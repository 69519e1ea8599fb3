import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf } from '../../shared/ids.ts';
import { AgentPool, digestsOf } from '../support/agent-pool.ts';
import type { SampleImage } from '../support/registry/index.ts';
import { SmallDisk } from '../support/small-disk.ts';

const WAIT = { timeout: 30_000, interval: 50 };

let pool: AgentPool;
beforeEach(async () => {
  pool = new AgentPool();
  await pool.registry.start();
});
afterEach(() => pool.close());

/** Starts agents that know each other; those that are given a disk have that one. */
async function start(numbers: readonly number[], disks: Readonly<Record<number, SmallDisk>>): Promise<void> {
  await Promise.all(
    numbers.map((n) => {
      const disk = disks[n];
      return pool.start(n, {
        peers: numbers.filter((other) => other !== n),
        ...(disk === undefined ? {} : { surroundings: { disk } }),
      });
    }),
  );
  await Promise.all(numbers.map((n) => pool.untilLive(n, numbers.length - 1)));
}

function layerOf(image: SampleImage): SampleImage['blobs'][number] {
  const [layer] = image.blobs.filter(({ size }) => size > 1_000_000);
  if (layer === undefined) throw new Error('no layer');
  return layer;
}

describe('a full disk', () => {
  it.each([
    ['takes', true],
    ['takes no', false],
  ])(
    'on one of three, in the middle of a pull: all get all of it, from an origin that %s ranges',
    async (_, ranges) => {
      pool.registry.options.ranges = ranges;
      pool.registry.options.bytesPerSecond = 8_000_000;
      const image = await pool.image([
        { bytes: 5_000_000, seed: 1 },
        { bytes: 3_000_000, seed: 2 },
      ]);
      const disk = new SmallDisk(2_500_000);
      await start([1, 2, 3], { 3: disk });
      const pulls = [1, 2, 3].map((n) => pool.pull(n, image));
      for (const got of await Promise.all(pulls)) expect(got).toEqual(digestsOf(image));
      // Once for the two that keep it; on a machine that is busy the third reads on by itself until it has heard of them.
      expect(await pool.wanBytes([1, 2])).toBeLessThanOrEqual(image.blobBytes * 1.5);
      expect(await pool.wanBytes([3])).toBeLessThanOrEqual(image.blobBytes * 2.1);
      const { cache, counters } = await pool.status(3);
      expect(disk.refused).toBeGreaterThan(0);
      expect(cache).toMatchObject({ timesFull: expect.any(Number), fullSince: expect.any(Number) });
      expect(cache?.passedBytes).toBeGreaterThan(0);
      expect(counters.storedBytes).toBeLessThanOrEqual(disk.limit);

      // Another pull, begun without room, takes from the others what they have: nothing from the origin on a quiet machine, and
      // on a busy one what it reads before it has heard of them.
      const before = await pool.wanBytes([3]);
      expect(await pool.pull(3, image)).toEqual(digestsOf(image));
      expect((await pool.wanBytes([3])) - before).toBeLessThan(image.blobBytes / 2);

      disk.limit = 1_000_000_000;
      await expect.poll(async () => (await pool.status(3)).cache?.fullSince, WAIT).toBeNull();
      expect(await pool.pull(3, image)).toEqual(digestsOf(image));
      expect((await pool.status(3)).counters.storedBytes).toBe(image.blobBytes);
    },
  );

  it('on a node that is alone is no reason not to give the runtime what the origin has', async () => {
    const image = await pool.image([{ bytes: 5_000_000, seed: 1 }]);
    await start([1], { 1: new SmallDisk(100_000) });
    expect(await pool.pull(1, image)).toEqual(digestsOf(image));
    const { counters, cache } = await pool.status(1);
    expect(counters.storedBytes).toBeLessThanOrEqual(100_000);
    expect(cache?.passedBytes).toBeGreaterThanOrEqual(5_000_000);
    expect(counters.wanBytes).toBeLessThanOrEqual(image.blobBytes * 1.3);
  });

  it('is no reason to keep the reader of a range waiting, where the origin sends all from the first byte on', async () => {
    pool.registry.options.ranges = false;
    const image = await pool.image([{ bytes: 4_000_000, seed: 1 }]);
    const layer = layerOf(image);
    await start([1], { 1: new SmallDisk(0) });
    const answer = await pool.mirror(1, `blobs/${layer.digest}`, {
      headers: { range: 'bytes=3000000-3499999' },
    });
    expect(answer.status).toBe(206);
    const part = Buffer.from(await answer.arrayBuffer());
    const all = Buffer.from(await (await pool.mirror(1, `blobs/${layer.digest}`)).arrayBuffer());
    expect(digestOf(all)).toBe(layer.digest);
    expect(part.equals(all.subarray(3_000_000, 3_500_000))).toBe(true);
  });

  it('passes on no bytes that are not those of the digest', async () => {
    const image = await pool.image([{ bytes: 3_000_000, seed: 1 }]);
    const layer = layerOf(image);
    await start([1], { 1: new SmallDisk(0) });
    pool.registry.options.fault = ({ kind, method }) =>
      kind === 'blob' && method === 'GET' ? { wrongBytes: true } : undefined;
    await expect(pool.blob(1, layer.digest)).rejects.toThrow();
  });
});
