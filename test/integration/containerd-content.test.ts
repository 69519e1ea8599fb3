import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AgentPool, digestsOf, REPOSITORY } from '../support/agent-pool.ts';
import { ContainerdDouble } from '../support/containerd-double.ts';
import type { SampleImage } from '../support/registry/index.ts';

const KIB = 1024;
const WAIT = { timeout: 30_000, interval: 50 };
const NAME = `reg.example/${REPOSITORY}`;

let pool: AgentPool;
let containerd: ContainerdDouble;
beforeEach(async () => {
  pool = new AgentPool();
  await pool.registry.start();
  containerd = new ContainerdDouble();
  await containerd.start();
});
afterEach(async () => {
  await pool.close();
  await containerd.stop();
});

/** Node 1 shares what lies in its containerd; the others have none. */
async function start(numbers: readonly number[], tuning = ''): Promise<void> {
  const runtime = `runtime: {criSocket: ${containerd.socket}, containerdContent: ${containerd.content.root}}`;
  await Promise.all(
    numbers.map((n) =>
      pool.start(n, {
        peers: numbers.filter((other) => other !== n),
        yaml: `${n === 1 ? runtime : 'runtime: {criSocket: none}'}\n${tuning}`,
      }),
    ),
  );
  await Promise.all(numbers.map((n) => pool.untilLive(n, numbers.length - 1)));
}

/** As `ctr images import` leaves it. */
function load(image: SampleImage, name = `${NAME}:v1`): void {
  for (const blob of image.blobs)
    containerd.content.commit('bytes' in blob ? blob.bytes : readFileSync(blob.path));
  for (const { bytes } of image.manifests) containerd.content.commit(bytes);
  containerd.name(name, image);
}

async function shared(n: number, sharedImages = 1): Promise<void> {
  await vi.waitFor(async () => {
    const { content } = await pool.status(n);
    expect(content).toMatchObject({ state: 'watching', sharedImages, problem: null });
    expect(content?.checked).toBe(content?.blobs);
  }, WAIT);
}

describe("an image that is in a node's containerd by other ways than the mirror", () => {
  it('is pulled by tag and digest by its neighbours while the registry is away, from the one copy there is', async () => {
    const image = await pool.image([{ bytes: 600 * KIB, seed: 1 }]);
    load(image);
    await start([1, 2]);
    await shared(1);
    // The registry has said to one who showed no account that anybody may pull.
    await vi.waitFor(
      () => expect(pool.registry.requests.some(({ kind }) => kind === 'manifest')).toBe(true),
      WAIT,
    );
    await pool.registry.stop();

    expect(await pool.pull(2, image)).toEqual(digestsOf(image));
    expect(await pool.pull(2, image, image.digest)).toEqual(digestsOf(image));
    expect(await pool.wanBytes([1, 2])).toBe(0);
    expect((await pool.status(1)).counters).toMatchObject({ storedBytes: 0, blobs: 0 });
    // To its own runtime as well, which may have it in another namespace.
    expect(await pool.pull(1, image)).toEqual(digestsOf(image));
    expect((await pool.status(1)).counters.storedBytes).toBe(0);
  });

  it('is forgotten when containerd gives it up, and had from who pulled it meanwhile', async () => {
    const image = await pool.image([{ bytes: 600 * KIB, seed: 1 }]);
    load(image);
    await start([1, 2, 3]);
    await shared(1);
    await vi.waitFor(
      () => expect(pool.registry.requests.some(({ kind }) => kind === 'manifest')).toBe(true),
      WAIT,
    );
    await pool.registry.stop();
    expect(await pool.pull(2, image)).toEqual(digestsOf(image));

    containerd.images.clear();
    for (const { digest } of [...image.blobs, ...image.manifests]) containerd.content.remove(digest);
    await vi.waitFor(async () => expect((await pool.status(1)).content).toMatchObject({ blobs: 0 }), WAIT);
    const served = (await pool.status(1)).counters.servedPeerBytes;
    expect(await pool.pull(3, image)).toEqual(digestsOf(image));
    expect((await pool.status(1)).counters.servedPeerBytes).toBe(served);
    expect(await pool.wanBytes([1, 2, 3])).toBe(0);
  });

  it('comes to be known while the agent runs', async () => {
    const image = await pool.image([{ bytes: 600 * KIB, seed: 1 }]);
    await start([1, 2]);
    await shared(1, 0);
    load(image);
    await shared(1);
    await vi.waitFor(
      () => expect(pool.registry.requests.some(({ kind }) => kind === 'manifest')).toBe(true),
      WAIT,
    );
    await pool.registry.stop();
    expect(await pool.pull(2, image)).toEqual(digestsOf(image));
  });

  it('is refused while nobody knows who may pull it, unless the pool says that its members may', async () => {
    const image = await pool.image([{ bytes: 300 * KIB, seed: 1 }]);
    load(image);
    await pool.registry.stop();
    await start([1, 2]);
    await shared(1);
    const refused = await pool.mirror(2, 'manifests/v1');
    expect([refused.status, await refused.text()]).toEqual([401, expect.stringContaining('offlineAccess')]);

    await Promise.all([1, 2].map((n) => pool.stop(n)));
    await start([1, 2], 'tuning: {tags: {offlineAccess: node}}');
    await shared(1);
    expect(await pool.pull(2, image)).toEqual(digestsOf(image));
  });

  it('is not told of where that is switched off', async () => {
    const image = await pool.image([{ bytes: 300 * KIB, seed: 1 }]);
    load(image);
    await pool.registry.stop();
    await start([1, 2], 'tuning: {cache: {shareRuntime: false}, tags: {offlineAccess: node}}');
    await vi.waitFor(
      async () => expect((await pool.status(1)).content).toMatchObject({ sharedImages: 1 }),
      WAIT,
    );
    expect((await pool.mirror(2, 'manifests/v1')).status).toBe(502);
  });

  it("gives a stranger's image nothing of another registry's, though containerd takes it for its own", async () => {
    const image = await pool.image([{ bytes: 300 * KIB, seed: 1 }]);
    load(image, 'private.example/team/app:v1');
    // The same layers under a name of a registry that anybody can run; containerd had them already, and notes both.
    containerd.name(`${NAME}:v1`, image);
    for (const { digest } of [...image.blobs, ...image.manifests]) {
      containerd.sources.set(`k8s.io ${digest}`, {
        'containerd.io/distribution.source.private.example': 'team/app',
        'containerd.io/distribution.source.reg.example': REPOSITORY,
      });
    }
    await start([1, 2], 'tuning: {tags: {offlineAccess: node}}');
    await vi.waitFor(async () => expect((await pool.status(1)).content).toMatchObject({ images: 2 }), WAIT);
    await shared(1, 0);
    await pool.registry.stop();
    expect((await pool.mirror(2, 'manifests/v1')).status).toBe(502);
    expect((await pool.mirror(2, `manifests/${image.digest}`)).status).toBe(502);
    const [layer] = image.blobs;
    expect((await pool.mirror(2, `blobs/${layer?.digest}`)).status).toBe(502);
  });
});
