import { closeSync, existsSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { SampleImage } from '../../image.ts';
import type { Host } from '../../pool.ts';
import { mustRun } from '../../process.ts';
import { pullOn } from '../parts.ts';
import type { Bed } from './bed.ts';
import { wrongStoredBytes } from './stored-bytes.ts';

const FULL = 3;
/** Room for an index, and not for the image. */
const SMALL_DISK = '9m';
const FLIP_EVERY = 64 * 1024;

/** Three hosts have no room for the image: they are served all the same, from their neighbours. */
export async function disksFull(bed: Bed): Promise<void> {
  await bed.fault(`disk full on ${FULL} of ${bed.pool.hosts.length}`, async () => {
    const image = await bed.image();
    const victims = bed.pool.hosts.slice(-FULL);
    for (const host of victims) await onSmallDisk(host);
    try {
      const pulls = await bed.pulls(image);
      const right = pulls.filter(({ result }) => result.code === 0).length;
      bed.note({ right, of: pulls.length });
      // While these disks are there.
      const [wrong] = await wrongStoredBytes(bed.pool);
      if (wrong !== undefined) throw new Error(wrong);
      return { image, pulls, mayFail: victims, within: 120 };
    } finally {
      for (const host of victims) await onItsOwnDisk(host);
    }
  });
}

/** A holder's disk has changed under it; neighbours want what it holds. */
export async function garbage(bed: Bed): Promise<void> {
  await bed.fault('a peer that sends garbage', async () => {
    const image = await bed.image();
    const holder = bed.pool.host(0);
    const before = await pullOn(holder, image);
    const flipped = flipStored(holder, image);
    const others = bed.pool.hosts.filter((host) => host !== holder);
    const pulls = await bed.pulls(image, others);
    bed.note({ flipped, wrongBefore: (await wrongStoredBytes(bed.pool)).length });
    // What its neighbours never asked it for is as it was: the disk is replaced.
    await holder.agent?.reset();
    return { image, pulls: [before, ...pulls], within: 60 };
  });
}

async function onSmallDisk({ agent }: Host): Promise<void> {
  if (agent === undefined) return;
  await agent.stop();
  await mustRun(['mount', '-t', 'tmpfs', '-o', `size=${SMALL_DISK}`, 'tidepool-small-disk', agent.data]);
  await agent.start();
}

/** As a new node: it has enrolled again since, and its certificate of before counts no more. */
async function onItsOwnDisk({ agent }: Host): Promise<void> {
  if (agent === undefined) return;
  await agent.stop();
  await mustRun(['umount', agent.data]);
  await agent.reset();
}

function flipStored(host: Host, image: SampleImage): number {
  let flipped = 0;
  for (const { digest, size } of image.blobs) {
    const hex = digest.replace('sha256:', '');
    const path = join(host.agent?.data ?? '', 'blobs', hex.slice(0, 2), `sha256-${hex}`);
    if (!existsSync(path)) continue;
    const file = openSync(path, 'r+');
    try {
      const byte = Buffer.alloc(1);
      for (let at = 0; at < size; at += FLIP_EVERY) {
        readSync(file, byte, 0, 1, at);
        byte[0] = (byte[0] ?? 0) ^ 0xff;
        writeSync(file, byte, 0, 1, at);
      }
    } finally {
      closeSync(file);
    }
    flipped += 1;
  }
  return flipped;
}
