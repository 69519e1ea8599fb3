import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cpuSeconds } from '../lab/proc.ts';
import type { Cleanup } from '../support/cleanup.ts';
import type { SampleImage } from '../support/registry/index.ts';
import { pullImage } from '../support/runtime-pull.ts';
import type { FromFloorEnd, ToFloorEnd } from './floor-end.ts';
import { ForkedEnd } from './forked-end.ts';

export interface FloorInit {
  readonly registry: string;
  readonly repository: string;
  readonly reference: string;
  readonly image: SampleImage;
  readonly platform: { readonly os: string; readonly architecture: string };
  /** Files are written there, and taken away again. */
  readonly directory: string;
  readonly processes: number;
  readonly idleMs: number;
}

/**
 * Processor seconds of all processes when each pulls an image as agents do, with bare sockets, hashes and files: what this
 * machine takes for the work at this hour, whoever does it.
 */
export async function floorSeconds(cleanup: Cleanup, init: FloorInit): Promise<number> {
  const { registry, repository, reference, image, platform, processes } = init;
  const directory = join(init.directory, 'floor');
  const numbers = Array.from({ length: processes }, (_, self) => self);
  const ends = numbers.map(
    (self) =>
      new ForkedEnd<ToFloorEnd, FromFloorEnd>(
        cleanup,
        `floor ${self}`,
        new URL('floor-end.ts', import.meta.url),
      ),
  );
  const begun = await Promise.all(
    ends.map((end, self) => {
      const own = join(directory, String(self));
      mkdirSync(own, { recursive: true });
      const blobs = image.blobs.map(({ digest, size }) => ({ digest, size }));
      const plan = { repository: `${registry}/v2/${repository}`, blobs, directory: own, self, processes };
      return end.ask({ kind: 'begin', plan }, 'begun');
    }),
  );
  await Promise.all(
    ends.map((end, self) => {
      const ports = begun.map(({ peer }, other) => (other === self ? 0 : peer));
      return end.ask({ kind: 'meet', ports }, 'met');
    }),
  );
  await new Promise((resolve) => setTimeout(resolve, init.idleMs));
  const spent = (): number => ends.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0);
  const before = spent();
  const pulls = await Promise.all(
    begun.map(({ mirror }) =>
      pullImage({
        mirror: `http://127.0.0.1:${mirror}`,
        registry: undefined,
        repository,
        reference,
        platform,
      }),
    ),
  );
  const seconds = spent() - before;
  for (const end of ends) end.stop();
  rmSync(directory, { recursive: true, force: true });
  for (const { wrong } of pulls) {
    if (wrong.length > 0) throw new Error(`wrong bytes from bare sockets: ${wrong.join(', ')}`);
  }
  return seconds;
}
