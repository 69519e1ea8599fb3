import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Host, untilShare } from '../../pool.ts';
import { waitUntil } from '../../process.ts';
import { statusIn } from '../agent-parts.ts';
import { type HostPull, pullOn } from '../parts.ts';
import type { Bed } from './bed.ts';

/** When something is done to a host: it has this share of the image. */
const MID = 0.25;
const STALL_MS = 15_000;
const FIND_MS = 60_000;
const TWO_YEARS_MS = 2 * 365 * 24 * 3_600_000;

/** Half of the hosts lose power in the middle of a pull, come back, and pull again. */
export async function halfRebooted(bed: Bed): Promise<void> {
  await bed.fault('half the pool rebooted mid-pull', async () => {
    const image = await bed.image();
    const victims = bed.pool.hosts.slice(bed.pool.hosts.length >> 1);
    const [first] = victims;
    const ended = new AbortController();
    const pulling = bed.pulls(image).finally(() => ended.abort());
    if (first !== undefined) await untilShare(first, image, MID, ended.signal);
    await eachOf(victims, powerCut);
    await eachOf(victims, powerOn);
    const again = await bed.pulls(image, victims);
    return { image, pulls: [...(await pulling), ...again], mayFail: victims, within: 90 };
  });
}

/**
 * All lose power; they come back without their uplink, each at another address than before. What two of them held before is
 * pulled by all.
 */
export async function allMoved(bed: Bed): Promise<void> {
  await bed.fault('all rebooted offline with new addresses', async () => {
    const image = await bed.image();
    const { pool } = bed;
    // Two, since with one alone nobody would take its word for what a tag means.
    const before = await bed.pulls(image, pool.hosts.slice(0, 2));
    await delay(2_000);
    await pool.setUplink('down');
    await eachOf(pool.hosts, powerCut);
    await pool.readdress();
    await eachOf(pool.hosts, powerOn);
    const began = performance.now();
    await untilFound(bed);
    bed.note({ foundSeconds: (performance.now() - began) / 1000 });
    const pulls = await bed.pulls(image);
    bed.declare();
    await pool.setUplink('up');
    return { image, pulls: [...before, ...pulls], within: 60 };
  });
}

/** kill -9 of an agent, which reads its share of the image for all. */
export async function ownerDead(bed: Bed): Promise<void> {
  await bed.fault('owner dead', async () => {
    const image = await bed.image();
    const victim = bed.pool.host(1);
    const pulls = await killedMidPull(bed, victim, image);
    await victim.agent?.start();
    return { image, pulls, mayFail: [victim], within: 60 };
  });
}

/** The one gateway dies: the others read for themselves. */
export async function gatewayDead(bed: Bed): Promise<void> {
  await bed.fault('gateway dead', async () => {
    const image = await bed.image();
    const gateway = bed.pool.host(0);
    const hashes = await tuningOf(bed);
    bed.declare(1);
    try {
      await waitUntil(async () => (await tuningOf(bed)).every((hash, index) => hash !== hashes[index]), {
        timeoutMs: 30_000,
        everyMs: 200,
        describe: () => 'the agents do not hear of their gateway',
      });
      const pulls = await killedMidPull(bed, gateway, image);
      await gateway.agent?.start();
      return { image, pulls, mayFail: [gateway], within: 90 };
    } finally {
      bed.declare();
    }
  });
}

/** An agent takes connections and does nothing, for longer than anybody waits. */
export async function stalled(bed: Bed): Promise<void> {
  await bed.fault('a peer that stalls', async () => {
    const image = await bed.image();
    const victim = bed.pool.host(2);
    const others = bed.pool.hosts.filter((host) => host !== victim);
    const ended = new AbortController();
    const own = pullOn(victim, image, { timeoutMs: 180_000 });
    const pulling = bed.pulls(image, others).finally(() => ended.abort());
    await untilShare(victim, image, MID, ended.signal);
    victim.agent?.freeze();
    const began = performance.now();
    const pulls = await pulling.finally(async () => {
      await delay(Math.max(0, STALL_MS - (performance.now() - began)));
      victim.agent?.thaw();
    });
    return { image, pulls: [...pulls, await own], mayFail: [victim], within: 90 };
  });
}

/**
 * The clocks of two agents are two years off, one each way. The kernel has no name space for the time of day: what these
 * two processes read as the time is shifted, and certificates are still looked at by the machine's own clock.
 */
export async function clocksOff(bed: Bed): Promise<void> {
  await bed.fault('clocks two years off', async () => {
    const image = await bed.image();
    const victims = [bed.pool.host(0), bed.pool.host(3)];
    for (const [index, host] of victims.entries()) {
      if (host.agent === undefined) continue;
      const file = join(host.agent.data, '..', 'shifted-clock.mjs');
      writeFileSync(file, shiftedClock(index === 0 ? TWO_YEARS_MS : -TWO_YEARS_MS));
      await host.agent.stop();
      host.agent.env = { NODE_OPTIONS: `--import=${file}` };
      await host.agent.start();
    }
    try {
      return { image, pulls: await bed.pulls(image), within: 60 };
    } finally {
      for (const { agent } of victims) {
        if (agent === undefined) continue;
        await agent.stop();
        agent.env = {};
        await agent.start();
      }
    }
  });
}

/** The runtime itself ends in the middle of a pull, and is there again. */
export async function containerdRestarted(bed: Bed): Promise<void> {
  await bed.fault('containerd restarted', async () => {
    const image = await bed.image();
    const victim = bed.pool.host(1);
    const ended = new AbortController();
    const pulling = bed.pulls(image).finally(() => ended.abort());
    await untilShare(victim, image, MID, ended.signal);
    await victim.containerd.stop();
    await victim.containerd.start();
    const again = await pullOn(victim, image);
    return { image, pulls: [...(await pulling), again], mayFail: [victim], within: 60 };
  });
}

/** The index of an agent that holds images is gone; the blobs lie where they were. */
export async function indexDeleted(bed: Bed): Promise<void> {
  await bed.fault('index deleted', async () => {
    const victim = bed.pool.host(2);
    const { agent } = victim;
    const image = await bed.image();
    const before = await bed.pulls(image);
    await agent?.kill();
    for (const suffix of ['', '-wal', '-shm']) {
      const file = join(agent?.data ?? '', `index.db${suffix}`);
      if (existsSync(file)) rmSync(file);
    }
    await agent?.start();
    await victim.containerd.reset();
    const { result, wan } = await bed.pool.countWan(() => pullOn(victim, image));
    bed.note({ wanShare: wan.down / image.bytes });
    return { image, pulls: [...before, result], within: 60 };
  });
}

async function killedMidPull(
  bed: Bed,
  victim: Host,
  image: Parameters<Bed['pulls']>[0],
): Promise<HostPull[]> {
  const ended = new AbortController();
  const pulling = bed.pulls(image).finally(() => ended.abort());
  await untilShare(victim, image, MID, ended.signal);
  await victim.agent?.kill();
  return await pulling;
}

async function powerCut(host: Host): Promise<void> {
  await Promise.all([host.agent?.kill(), host.containerd.kill()]);
}

async function powerOn(host: Host): Promise<void> {
  await host.containerd.start();
  await host.agent?.start();
}

async function eachOf(hosts: readonly Host[], act: (host: Host) => Promise<void>): Promise<void> {
  await Promise.all(hosts.map(act));
}

async function tuningOf({ pool }: Bed): Promise<(string | null)[]> {
  return await Promise.all(pool.hosts.map(async ({ netns }) => (await statusIn(netns)).tuningHash));
}

/** Each knows all the others where they are now. */
async function untilFound({ pool }: Bed): Promise<void> {
  const found = async (host: Host): Promise<boolean> => {
    const { members } = await statusIn(host.netns);
    return pool.hosts.every(
      (other) =>
        other.name === host.name ||
        members.some(
          ({ node, address, live }) => node === other.name && live && address.startsWith(`${other.address}:`),
        ),
    );
  };
  await waitUntil(async () => (await Promise.all(pool.hosts.map(found))).every((each) => each), {
    timeoutMs: FIND_MS,
    everyMs: 300,
    describe: () => 'the hosts do not find each other at their new addresses',
  });
}

function shiftedClock(ms: number): string {
  return `const real = Date;
const now = () => real.now() + ${ms};
globalThis.Date = class Date extends real {
  constructor(...args) {
    if (args.length === 0) super(now());
    else super(...args);
  }
  static now() {
    return now();
  }
};
`;
}
