import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AgentPool, digestsOf } from '../support/agent-pool.ts';

const MB = 1e6;
/** So low that a machine which is busy with other things gets there many times over. */
const LAN_CAP = 1 * MB;
const WAN_CAP = 1 * MB;

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
    const size = 4 * MB;
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
    await pool.start(1, { yaml: 'tuning: {lan: {upload: 1MB}}' });
    const capped = await read(3);
    console.log(
      `LAN upload: ${(uncapped / MB).toFixed(1)} MB/s without a cap, ${(capped / MB).toFixed(2)} with 1`,
    );
    expect(capped).toBeLessThanOrEqual(LAN_CAP * 1.15);
    expect(capped).toBeGreaterThanOrEqual(LAN_CAP * 0.5);
    // Without a cap nothing but the machine is in the way.
    expect(uncapped).toBeGreaterThan(LAN_CAP * 1.15);
    expect((await pool.status(3)).counters).toMatchObject({ wanBytes: 0 });
  });

  it('of a pool on its uplink hold over the whole run, and are used', async () => {
    const image = await pool.image([
      { bytes: 3 * MB, seed: 1 },
      { bytes: 3 * MB, seed: 2 },
    ]);
    const nodes = [1, 2, 3];
    await pool.startAll(nodes, { yaml: 'tuning: {wan: {download: 1MB}}' });
    const seconds = await timed(async () => {
      for (const got of await Promise.all(nodes.map((n) => pool.pull(n, image)))) {
        expect(got).toEqual(digestsOf(image));
      }
    });
    const bytes = await pool.wanBytes(nodes);
    const rate = bytes / seconds;
    console.log(
      `WAN cap: ${(rate / MB).toFixed(2)} MB/s of 1, ${(bytes / image.blobBytes).toFixed(3)} x the image`,
    );
    expect(bytes).toBeLessThanOrEqual(image.blobBytes * 1.02 + 10_000);
    expect(rate).toBeLessThanOrEqual(WAN_CAP * 1.15);
    // More than a third: what nodes that read nothing do not use is there for who reads.
    expect(rate).toBeGreaterThan(WAN_CAP * 0.36);
  });
});
