import { join } from 'node:path';
import { formatImageRef, type ImageRef, parseImageRef, referenceOf } from '../../shared/image-ref.ts';
import type { Cleanup } from '../support/cleanup.ts';
import { freePort } from '../support/free-port.ts';
import type { AgentProcess } from '../support/processes.ts';
import { buildImage, SampleRegistry } from '../support/registry/index.ts';

const MB = 1_000_000;
/** Each pool's uplink. */
const BYTES_PER_SECOND = 12.5 * MB;
const LAYERS = [
  { bytes: 80 * MB, seed: 1 },
  { bytes: 70 * MB, seed: 2 },
  { bytes: 50 * MB, seed: 3 },
];

/** Where the demo's image comes from. */
export interface ImageSource {
  readonly image: ImageRef;
  /** For people. */
  readonly about: string;
  /** How the WAN bytes are counted, for people. */
  readonly countedBy: string;
  /** Flags of the hub, which asks the registry what the tag names. */
  readonly hubFlags: readonly string[];
  /** Flags of an agent with this address. */
  flags(address: string): readonly string[];
  /** Flags of an agent that is started when the registry is gone. */
  flagsWithout(address: string): Promise<readonly string[]>;
  /** Bytes that a pool has taken over its uplink so far. */
  wanBytes(octet: number, members: readonly AgentProcess[]): Promise<number>;
  stop(): Promise<void>;
}

/** A registry in this process, throttled and counted by the third octet of who asks. */
export async function sampleSource(cleanup: Cleanup, directory: string): Promise<ImageSource> {
  const registry = new SampleRegistry({ bytesPerSecond: BYTES_PER_SECOND });
  cleanup.add('sample registry', () => registry.stop());
  const sample = await buildImage({ layers: LAYERS, cacheDir: join(directory, 'layers') });
  const image = parseImageRef('registry.demo:5000/shop/till:1.0');
  registry.addImage(image.repository, image.tag, sample);
  await registry.start();
  const flags = (address: string): readonly string[] => [
    `--registry=${image.registry}=${registry.url}`,
    `--source-address=${address}`,
  ];
  return {
    image,
    about: `${formatImageRef(image)}: ${Math.round(sample.blobBytes / MB)} MB in ${LAYERS.length} layers, from a registry behind ${(BYTES_PER_SECOND * 8) / MB} Mbit/s a pool`,
    countedBy: 'counted by the registry',
    hubFlags: [`--registry=${image.registry}=${registry.url}`],
    flags,
    flagsWithout: async (address) => flags(address),
    wanBytes: async (octet) => registry.bytesSent(String(octet)),
    stop: () => registry.stop(),
  };
}

/** The registry that the reference names, as it is. */
export function realSource(reference: string): ImageSource {
  const image = parseImageRef(reference);
  return {
    image,
    about: `${formatImageRef(image)} from its own registry`,
    countedBy: 'counted by the agents',
    hubFlags: [],
    // Connections to the outside cannot come from a loopback address.
    flags: () => [],
    // The registry itself cannot be stopped: for this agent it is where nobody listens.
    flagsWithout: async (address) => [
      `--registry=${image.registry}=http://${address}:${await freePort(address)}`,
    ],
    async wanBytes(_octet, members) {
      const statuses = await Promise.all(members.map((member) => member.status()));
      return statuses.reduce((sum, { counters }) => sum + counters.wanBytes, 0);
    },
    stop: async () => undefined,
  };
}

/** Tag or digest, as the pull asks for it. */
export function wantedReference(image: ImageRef): string {
  const reference = referenceOf(image);
  return reference.kind === 'tag' ? reference.tag : reference.digest;
}
