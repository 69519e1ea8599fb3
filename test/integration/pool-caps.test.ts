import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AgentPool, digestsOf } from '../support/agent-pool.ts';

const MB = 1e6;

let pool: AgentPool;
beforeEach(async () => {
  pool = new AgentPool();
  await pool.registry.start();
});
afterEach(() => pool.close());

/** Seconds that something takes. */
async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

describe('caps', () => {
  it('of what a node sends its neighbours bound their rate', async () => {
    const size = 12 * MB;
    const cap = 4 * MB;
    const image = await pool.image([{ bytes: size, seed: 1 }]);
    const layer = image.blobs[1]?.digest ?? image.digest;
    await pool.start(1);
    await pool.pull(1, image);
    await pool.registry.stop();

    const read = async (n: number): Promise<number> => {
      await pool.start(n, { peers: [1] });
      await pool.untilLive(n, 1);
      // As a runtime does: the manifest says how large its layers are.
      expect((await pool.mirror(n, `manifests/${image.digest}`)).status).toBe(200);
      return size / (await timed(async () => expect(await pool.blob(n, layer)).toBe(layer)));
    };
    const uncapped = await read(2);
    await pool.stop(2);
    await pool.stop(1);
    await pool.start(1, { yaml: 'tuning: {lan: {upload: 4MB}}' });
    const capped = await read(3);
    console.log(
      `LAN upload: ${(uncapped / MB).toFixed(1)} MB/s without a cap, ${(capped / MB).toFixed(2)} with 4`,
    );
    expect(capped).toBeLessThanOrEqual(cap * 1.15);
    expect(capped).toBeGreaterThanOrEqual(cap * 0.5);
    expect(uncapped).toBeGreaterThanOrEqual(2 * capped);
    expect((await pool.status(3)).counters).toMatchObject({ wanBytes: 0 });
  });

  it('of a pool on its uplink hold over the whole run, and are used', async () => {
    const cap = 3 * MB;
    const image = await pool.image([
      { bytes: 7 * MB, seed: 1 },
      { bytes: 7 * MB, seed: 2 },
    ]);
    const nodes = [1, 2, 3];
    await pool.startAll(nodes, { yaml: 'tuning: {wan: {download: 3MB}}' });
    const seconds = await timed(async () => {
      for (const got of await Promise.all(nodes.map((n) => pool.pull(n, image)))) {
        expect(got).toEqual(digestsOf(image));
      }
    });
    const bytes = await pool.wanBytes(nodes);
    const rate = bytes / seconds;
    console.log(
      `WAN cap: ${(rate / MB).toFixed(2)} MB/s of 3, ${(bytes / image.blobBytes).toFixed(3)} x the image`,
    );
    expect(bytes).toBeLessThanOrEqual(image.blobBytes * 1.02 + 10_000);
    expect(rate).toBeLessThanOrEqual(cap * 1.15);
    expect(rate).toBeGreaterThanOrEqual(cap * 0.6);
  });
});
