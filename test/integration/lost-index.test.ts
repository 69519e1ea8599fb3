/** An agent whose index is gone, and with it where its blobs came from: the bytes are there, and nobody says whose they are. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PATHS } from '../../edge/peers/wire/paths.ts';
import { AgentPool, digestsOf } from '../support/agent-pool.ts';
import { EvilNeighbour } from '../support/evil-neighbour.ts';
import type { SampleImage } from '../support/registry/index.ts';

let pool: AgentPool;
const stops: (() => Promise<void>)[] = [];
beforeEach(async () => {
  pool = new AgentPool();
  await pool.registry.start();
});
afterEach(async () => {
  await Promise.all(stops.splice(0).map((stop) => stop()));
  await pool.close();
});

/** The index and its copy; the blobs stay. */
function loseIndex(n: number): void {
  const names = readdirSync(pool.data(n)).filter((name) => name.startsWith('index'));
  expect(names).toContain('index.db');
  for (const name of names) rmSync(join(pool.data(n), name));
}

function blobReads(): number {
  return pool.registry.requests.filter(({ kind, method }) => kind === 'blob' && method === 'GET').length;
}

function layerOf(image: SampleImage): SampleImage['blobs'][number] {
  const [layer] = image.blobs.filter(({ size }) => size > 1_000_000);
  if (layer === undefined) throw new Error('no layer');
  return layer;
}

/** Member 9 says that it has all of the image, and sends other bytes. */
async function startEvil(image: SampleImage): Promise<EvilNeighbour> {
  const evil = new EvilNeighbour({
    ...{ node: 'evil', address: pool.peer(9), pool: 'default', lie: 'claimed' },
    tell: { [PATHS.holdings]: image.blobs.map((blob) => blob.digest) },
  });
  await evil.start(pool.peer(9));
  stops.push(() => evil.stop());
  return evil;
}

describe('an agent that has lost its index', () => {
  it('uses what lies on its disk again: the registry sends no blob a second time', async () => {
    const image = await pool.image([
      { bytes: 3_000_000, seed: 1 },
      { bytes: 300_000, seed: 2 },
    ]);
    await pool.startAll([1, 2]);
    for (const n of [1, 2]) expect(await pool.pull(n, image)).toEqual(digestsOf(image));
    await pool.stop(1);
    loseIndex(1);
    const before = blobReads();
    await pool.start(1, { peers: [2] });
    await pool.start(3, { peers: [1, 2] });
    await pool.untilLive(1, 2);
    expect(await pool.pull(1, image)).toEqual(digestsOf(image));
    const { counters, store } = await pool.status(1);
    expect(store?.rebuild).toMatchObject({ found: image.blobs.length });
    expect(counters.wanBytes).toBeLessThan(10_000);
    expect(blobReads()).toBe(before);

    // It knows again whose they are, and gives them out by itself.
    await pool.stop(2);
    await pool.registry.stop();
    expect(await pool.pull(3, image)).toEqual(digestsOf(image));
    expect((await pool.status(1)).counters.peerBytes).toBe(counters.peerBytes);
  });

  it('has its images again by tag while it is cut off, where a neighbour has them', async () => {
    const image = await pool.image([{ bytes: 3_000_000, seed: 1 }]);
    await pool.startAll([1, 2]);
    for (const n of [1, 2]) expect(await pool.pull(n, image)).toEqual(digestsOf(image));
    await pool.stop(1);
    await pool.registry.stop();
    loseIndex(1);
    await pool.start(1, { peers: [2] });
    await pool.untilLive(1, 1);
    expect(await pool.pull(1, image)).toEqual(digestsOf(image));

    // And gives them out by itself.
    await pool.stop(2);
    expect((await pool.mirror(1, `manifests/${image.digest}`)).status).toBe(200);
    for (const { digest } of image.blobs) expect(await pool.blob(1, digest)).toBe(digest);
  });

  it('does not take the word of a member that says it has them and cannot show them', async () => {
    const image = await pool.image([{ bytes: 3_000_000, seed: 1 }]);
    const { digest } = layerOf(image);
    await pool.start(1);
    expect(await pool.pull(1, image)).toEqual(digestsOf(image));
    await pool.stop(1);
    await pool.registry.stop();
    const index = new Database(join(pool.data(1), 'index.db'));
    index.exec('DELETE FROM provenance');
    index.close();
    const evil = await startEvil(image);
    await pool.start(1, { peers: [9] });
    await pool.untilLive(1, 1);
    await expect(pool.blob(1, digest)).rejects.toThrow();
    expect(evil.asked).toBeGreaterThan(0);
    expect((await pool.status(1)).members).toContainEqual(
      expect.objectContaining({ node: 'evil', setAside: true }),
    );
    await expect(pool.blob(1, digest)).rejects.toThrow();
    const after = new Database(join(pool.data(1), 'index.db'), { readonly: true });
    expect(after.prepare('SELECT * FROM provenance WHERE proven = 1 AND digest = ?').all(digest)).toEqual([]);
    after.close();
  });

  it('has its images from the others though a member lies', async () => {
    const image = await pool.image([{ bytes: 3_000_000, seed: 1 }]);
    await pool.startAll([1, 2]);
    for (const n of [1, 2]) expect(await pool.pull(n, image)).toEqual(digestsOf(image));
    await pool.stop(1);
    await pool.registry.stop();
    loseIndex(1);
    await startEvil(image);
    await pool.start(1, { peers: [2, 9] });
    await pool.untilLive(1, 2);
    expect(await pool.pull(1, image)).toEqual(digestsOf(image));
  });
});
