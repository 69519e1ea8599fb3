import { afterEach, describe, expect, it } from 'vitest';
import { buildImage, buildIndex, SampleRegistry } from '../../support/registry/index.ts';
import { pullImage } from '../../support/runtime-pull.ts';

const amd = { os: 'linux', architecture: 'amd64' };
const arm = { os: 'linux', architecture: 'arm64' };

const registries: SampleRegistry[] = [];
afterEach(async () => {
  for (const registry of registries.splice(0)) await registry.stop();
});

async function serve(): Promise<SampleRegistry> {
  const registry = new SampleRegistry();
  registries.push(registry);
  await registry.start();
  return registry;
}

const pull = (registry: SampleRegistry, platform = amd) =>
  pullImage({ mirror: registry.url, registry: undefined, repository: 'app', reference: 'v1', platform });

describe('pullImage', () => {
  it('reads config and layers of one platform and hashes them', async () => {
    const registry = await serve();
    const images = await Promise.all(
      [amd, arm].map((platform, index) =>
        buildImage({
          platform,
          layers: [
            { bytes: 50_000, seed: index },
            { bytes: 70_000, seed: index + 10 },
          ],
        }),
      ),
    );
    registry.addImage('app', 'v1', buildIndex(images));
    const pulled = await pull(registry, arm);
    expect(pulled).toMatchObject({ blobs: 3, blobBytes: images[1]?.blobBytes, wrong: [] });
    await expect(pull(registry, { os: 'linux', architecture: 's390x' })).rejects.toThrow(
      'nothing for linux/s390x',
    );
  });

  it('tells a layer whose bytes are others than its digest says', async () => {
    const registry = await serve();
    const image = await buildImage({
      layers: [
        { bytes: 50_000, seed: 1 },
        { bytes: 60_000, seed: 2 },
      ],
    });
    registry.addImage('app', 'v1', image);
    const bad = image.blobs.find(({ size }) => size === 60_000)?.digest;
    registry.options.fault = ({ reference }) => (reference === bad ? { wrongBytes: true } : undefined);
    expect((await pull(registry)).wrong).toEqual([bad]);
  });

  it('fails for a layer that is cut, and for an answer other than 200', async () => {
    const registry = await serve();
    registry.addImage('app', 'v1', await buildImage({ layers: [{ bytes: 50_000, seed: 1 }] }));
    registry.options.fault = ({ kind }) => (kind === 'blob' ? { cutAfter: 100 } : undefined);
    await expect(pull(registry)).rejects.toThrow();
    registry.options.fault = ({ kind }) => (kind === 'blob' ? { status: 503 } : undefined);
    await expect(pull(registry)).rejects.toThrow('503');
  });
});
