import { setTimeout as delay } from 'node:timers/promises';
import type { HostPull } from '../parts.ts';
import type { Bed } from './bed.ts';

const OUTAGE_MS = { usual: 60_000, long: 600_000 } as const;
const ROUNDS = 4;
const RESTARTS = 3;
const SMALL = [300_000, 700_000];

/** The hub is killed, and the pool goes on pulling: images that nobody has, and others that it has. */
export async function hubLost(bed: Bed): Promise<void> {
  const outageMs = bed.lab.options.long ? OUTAGE_MS.long : OUTAGE_MS.usual;
  await bed.fault(`hub lost for ${outageMs / 1000} s under load`, async () => {
    await bed.lab.gatekeeper.kill();
    const began = performance.now();
    let image = await bed.image();
    const pulls: HostPull[] = [];
    try {
      for (let round = 0; round < ROUNDS; round++) {
        pulls.splice(0, pulls.length, ...(await bed.pulls(image)));
        const failed = pulls.filter(({ result }) => result.code !== 0);
        if (failed.length > 0) break;
        const next = began + ((round + 1) / ROUNDS) * outageMs;
        await delay(Math.max(0, next - performance.now()));
        if (round < ROUNDS - 1) image = await bed.image(SMALL);
      }
    } finally {
      await bed.lab.gatekeeper.start();
    }
    const back = performance.now();
    bed.note({ outageSeconds: (back - began) / 1000 });
    return { image, pulls, within: 60 };
  });
}

/** The hub's own broker goes and comes three times while all pull. */
export async function brokerRestarts(bed: Bed): Promise<void> {
  await bed.fault('broker restarts', async () => {
    const image = await bed.image();
    const pulling = bed.pulls(image);
    for (let restart = 0; restart < RESTARTS; restart++) {
      await bed.lab.gatekeeper.stop();
      await delay(500);
      await bed.lab.gatekeeper.start();
      await delay(500);
    }
    return { image, pulls: await pulling, within: 60 };
  });
}
