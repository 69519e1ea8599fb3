/** The bound: one plain HTTP stream of the same blobs over the same uplink. Every ratio of the lab is against it. */
import type { SampleImage } from './image.ts';
import { ORIGIN_URL, repositoryOf } from './origin.ts';
import type { Host, PoolOfHosts } from './pool.ts';
import { inNetns, mustRun } from './process.ts';
import { script } from './script.ts';
import type { StreamResult } from './stream-client.ts';

export interface Bound {
  readonly seconds: number;
  /** Bytes that came down the uplink, headers included. */
  readonly wanBytes: number;
}

/** Streams config and layers to the pool's first host. @throws Error when a body is not what its digest says */
export async function measureBound(pool: PoolOfHosts, image: SampleImage): Promise<Bound> {
  const { result, wan } = await pool.countWan(() => stream(pool.host(0), blobUrls(ORIGIN_URL, image)));
  for (const [index, blob] of image.blobs.entries()) {
    const body = result.bodies[index];
    if (`sha256:${body?.sha256}` !== blob.digest) {
      throw new Error(
        `the plain stream of ${blob.digest} has status ${body?.status}, sha256 ${body?.sha256}`,
      );
    }
  }
  return { seconds: result.seconds, wanBytes: wan.down };
}

/** Reads URLs one after the other from inside a host. */
export async function stream(
  host: Host,
  urls: readonly string[],
  timeoutMs = 600_000,
): Promise<StreamResult> {
  const { stdout } = await mustRun(inNetns(host.netns, script('stream-client.ts', ...urls)), { timeoutMs });
  return parseStream(stdout);
}

export function blobUrls(base: string, image: SampleImage, query = ''): string[] {
  return image.blobs.map((blob) => `${base}/v2/${repositoryOf(image)}/blobs/${blob.digest}${query}`);
}

function parseStream(text: string): StreamResult {
  return JSON.parse(text) as StreamResult;
}
