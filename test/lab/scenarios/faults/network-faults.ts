import { setTimeout as delay } from 'node:timers/promises';
import { tagOf } from '../../lab.ts';
import { agentCli, failed } from '../cri.ts';
import { lastLine } from '../parts.ts';
import { type Bed, UPLINK_KBIT } from './bed.ts';

const FLAP_MS = 3_000;
const FLAPS = 3;
const THIN_KBIT = 256;
const TINY = [60_000, 140_000];

/** The uplink goes every three seconds, and comes back three seconds later. */
export async function wanFlaps(bed: Bed): Promise<void> {
  await bed.fault('WAN flaps every 3 s', async () => {
    const image = await bed.image();
    const pulling = bed.pulls(image);
    await delay(1_000);
    for (let flap = 0; flap < FLAPS; flap++) {
      await bed.pool.setUplink(flap % 2 === 0 ? 'down' : 'black-hole');
      await delay(FLAP_MS);
      await bed.pool.setUplink('up');
      await delay(FLAP_MS);
    }
    // What has broken off for good is pulled again, as a runtime does.
    const pulls = await pulling;
    bed.note({ failed: pulls.filter(({ result }) => result.code !== 0).length });
    return { image, pulls, mayFail: bed.pool.hosts, within: 90 };
  });
}

export async function thinUplink(bed: Bed): Promise<void> {
  await bed.fault('uplink at 256 kbit/s', async () => {
    const image = await bed.image(TINY);
    await bed.pool.shapeUplink(THIN_KBIT);
    try {
      return { image, pulls: await bed.pulls(image), within: 90 };
    } finally {
      await bed.pool.shapeUplink(UPLINK_KBIT);
    }
  });
}

/** Half of the pool does not reach the other half while both prefetch, and does again before they are done. */
export async function parted(bed: Bed): Promise<void> {
  await bed.fault('partition and heal during prefetch', async () => {
    const image = await bed.image();
    const prefetching = bed.pool.hosts.map((host) => agentCli(bed.lab, host, 'pull', tagOf(image)));
    await delay(1_500);
    await bed.pool.parted(bed.pool.hosts.length >> 1, () => delay(5_000));
    const broken = failed(await Promise.all(prefetching));
    if (broken.length > 0) throw new Error(`a prefetch fails: ${lastLine(broken[0] ?? '')}`);
    return { image, pulls: await bed.pulls(image), within: 60 };
  });
}
