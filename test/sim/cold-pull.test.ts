import { describe, expect, it } from 'vitest';
import { byDepth, isDeep } from '../support/depth.ts';
import { blobOf, World, type WorldInit } from './world.ts';

const MB = 1e6;
const UPLINK = 12.5 * MB;
const LAN = 125 * MB;
const IMAGE = [
  { digest: blobOf(1), size: 80 * 1024 * 1024 },
  { digest: blobOf(2), size: 70 * 1024 * 1024 },
  { digest: blobOf(3), size: 50 * 1024 * 1024 },
];

interface Outcome {
  readonly wan: number;
  readonly seconds: number;
  readonly bound: number;
  readonly failures: unknown[];
}

/** Everyone pulls the image, each from its own moment on; `during` breaks things meanwhile. */
async function coldPull(
  init: WorldInit,
  options: {
    arrivalMs: (index: number, random: () => number) => number;
    image?: typeof IMAGE;
    during?: (world: World) => void;
    expectDead?: readonly number[];
    limitMs?: number;
  },
): Promise<Outcome> {
  const world = new World(init);
  await world.start();
  const image = options.image ?? IMAGE;
  let left = 0;
  let last = 0;
  const failures: unknown[] = [];
  for (const node of world.nodes) {
    const dead = options.expectDead?.includes(node.index) === true;
    if (!dead) left++;
    world.clock.after(options.arrivalMs(node.index, world.random), () => {
      node.pull(world.clock, image).then(
        (at) => {
          if (!dead) left--;
          last = Math.max(last, at);
        },
        (error: unknown) => {
          if (!dead) {
            left--;
            failures.push(error);
          }
        },
      );
    });
  }
  options.during?.(world);
  await world.clock.run(() => left === 0, options.limitMs ?? 600_000);
  const bytes = image.reduce((sum, blob) => sum + blob.size, 0);
  return { wan: world.uplink.bytes / bytes, seconds: last / 1000, bound: bytes / init.uplink, failures };
}

function report(name: string, seed: number, outcome: Outcome): void {
  console.log(
    `${name}: seed ${seed}, WAN ${outcome.wan.toFixed(4)} x, time ${(outcome.seconds / outcome.bound).toFixed(3)} x the bound`,
  );
}

describe('a cold pull by the whole pool', () => {
  for (const nodes of [1, 2, 8, 100]) {
    for (const [name, arrivalMs, isInPart] of [
      ['at once', (_: number, random: () => number) => random() * 50, true],
      [
        'staggered',
        (index: number, random: () => number) => index * (8_000 / nodes) + random() * 100,
        nodes < 100,
      ],
    ] as const) {
      if (!isDeep && !isInPart) continue;
      it(`${nodes} members ${name}`, async () => {
        const image = nodes === 100 ? IMAGE.slice(2) : IMAGE;
        const outcome = await coldPull(
          { seed: nodes, nodes, uplink: UPLINK, lan: LAN },
          { arrivalMs, image },
        );
        report(`${nodes} ${name}`, nodes, outcome);
        expect(outcome.failures).toEqual([]);
        expect(outcome.wan).toBeLessThanOrEqual(1.02);
        if (name === 'at once')
          expect(outcome.seconds).toBeLessThanOrEqual(outcome.bound * (nodes === 100 ? 1.3 : 1.06));
      });
    }
  }

  it('with messages that come late and get lost', async () => {
    for (const seed of byDepth({ part: [1], whole: [1, 2, 3, 4] })) {
      const outcome = await coldPull(
        { seed, nodes: 8, uplink: UPLINK, lan: LAN, jitterMs: 200 },
        { arrivalMs: (_, random) => random() * 400 },
      );
      report('late messages', seed, outcome);
      expect(outcome.failures).toEqual([]);
      expect(outcome.wan).toBeLessThanOrEqual(1.02);
    }
  });

  it('on a very thin uplink', async () => {
    const image = [{ digest: blobOf(9), size: 3 * 1024 * 1024 }];
    const outcome = await coldPull(
      { seed: 5, nodes: 8, uplink: 32_000, lan: LAN },
      { arrivalMs: (_, random) => random() * 50, image },
    );
    report('256 kbit/s', 5, outcome);
    expect(outcome.failures).toEqual([]);
    expect(outcome.wan).toBeLessThanOrEqual(1.02);
  });

  it('with owners that die on the way', async () => {
    for (const seed of byDepth({ part: [11], whole: [11, 12, 13] })) {
      const dead = [seed % 8, (seed + 3) % 8];
      const outcome = await coldPull(
        { seed, nodes: 8, uplink: UPLINK, lan: LAN },
        {
          arrivalMs: (_, random) => random() * 50,
          expectDead: dead,
          during: (world) => {
            dead.forEach((index, i) => {
              world.clock.after(4_000 + i * 3_000, () => world.node(index).kill());
            });
          },
        },
      );
      report('dead owners', seed, outcome);
      expect(outcome.failures).toEqual([]);
      // Each death costs what its owner had under way: at most its depth for each blob.
      expect(outcome.wan).toBeLessThanOrEqual(1.1);
    }
  });

  it('through gateways only', async () => {
    const outcome = await coldPull(
      { seed: 21, nodes: 20, uplink: UPLINK, lan: LAN, gateways: [0, 1] },
      { arrivalMs: (_, random) => random() * 50 },
    );
    report('two gateways', 21, outcome);
    expect(outcome.failures).toEqual([]);
    expect(outcome.wan).toBeLessThanOrEqual(1.02);
    expect(outcome.seconds).toBeLessThanOrEqual(outcome.bound * 1.3);
  });
});
