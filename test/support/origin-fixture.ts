import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HttpRegistryOrigin, type HttpRegistryOriginInit } from '../../edge/origin/http-registry-origin.ts';
import type { OriginBody } from '../../edge/origin/types.ts';
import { type Clock, systemClock } from '../../shared/clock.ts';
import { isTidepoolError, type TidepoolError } from '../../shared/errors.ts';
import type { Digest } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import { buildImage, type SampleImage, SampleRegistry, type SampleRegistryInit } from './registry/index.ts';

export const REGISTRY = 'registry.test';
export const REPOSITORY = 'library/sample';
export const LAYER_BYTES = 600_000;

export interface OriginFixture {
  readonly registry: SampleRegistry;
  /** Generated layers go here; gone with the fixture. */
  readonly cacheDir: string;
  readonly image: SampleImage;
  /** The image's one layer, of {@link LAYER_BYTES}. */
  readonly layer: Digest;
  /** An origin that knows the sample registry as `registry.test`; stopped with the fixture. */
  origin(init?: Partial<HttpRegistryOriginInit>, clock?: Clock): HttpRegistryOrigin;
  stop(): Promise<void>;
}

/** A sample registry with one image under `library/sample:v1`. */
export async function originFixture(init: SampleRegistryInit = {}): Promise<OriginFixture> {
  const dir = await mkdtemp(join(tmpdir(), 'tidepool-origin-'));
  const registry = new SampleRegistry(init);
  await registry.start('127.0.0.1');
  const image = await buildImage({
    layers: [{ bytes: LAYER_BYTES, seed: 7 }],
    platform: { os: 'linux', architecture: 'amd64' },
    cacheDir: dir,
  });
  registry.addImage(REPOSITORY, 'v1', image);
  const layer = image.blobs.find((blob) => blob.size === LAYER_BYTES);
  if (layer === undefined) throw new Error('the sample image has no layer');
  const origins: HttpRegistryOrigin[] = [];
  return {
    registry,
    cacheDir: dir,
    image,
    layer: layer.digest,
    origin(more = {}, clock = systemClock) {
      const origin = new HttpRegistryOrigin(
        { clock, log: silentLogger() },
        {
          registries: { [REGISTRY]: { url: registry.url } },
          openRegistries: false,
          // Blobs that are redirected come from another port of this host.
          allowAddresses: ['127.0.0.0/8'],
          ...more,
        },
      );
      origins.push(origin);
      return origin;
    },
    async stop() {
      await Promise.all(origins.map((origin) => origin.stop()));
      await registry.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export async function readAll(body: OriginBody): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body.body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The TidepoolError that a call ends with. */
export async function errorOf(call: Promise<unknown>): Promise<TidepoolError> {
  const thrown: unknown = await call.then(
    () => new Error('it should have failed'),
    (error: unknown) => error,
  );
  if (!isTidepoolError(thrown)) throw thrown;
  return thrown;
}
