import { describe, expect, it } from 'vitest';
import { byDepth } from '../support/depth.ts';
import { blobOf, World } from './world.ts';

const MiB = 1024 * 1024;
const UPLINK = 12.5e6;
const LAN = 125e6;
const IMAGE = [
  { digest: blobOf(1), size: 30 * MiB },
  { digest: blobOf(2), size: 20 * MiB },
  { digest: blobOf(3), size: 6 * MiB },
];
const BYTES = IMAGE.reduce((sum, blob) => sum + blob.size, 0);

interface Options {
  readonly seed: number;
  readonly nodes: number;
  readonly arrivalMs: number;
  readonly jitterMs?: number;
  /** Kills whoever reads the first blob, this long after the start. */
  readonly killAtMs?: number;
  /** Every member answers its neighbours late by up to this, in the first seconds: as hosts do that start containers. */
  readonly starvedMs?: number;
}

async function pull(options: Options) {
  const { seed, nodes, arrivalMs, jitterMs, killAtMs } = options;
  const world = new World({
    seed,
    nodes,
    uplink: UPLINK,
    lan: LAN,
    rangeless: true,
    ...(jitterMs === undefined ? {} : { jitterMs }),
  });
  await world.start();
  const failures: unknown[] = [];
  const open = new Set(world.nodes);
  if (options.starvedMs !== undefined) starve(world, options.starvedMs);
  for (const node of world.nodes) {
    world.clock.after(world.random() * arrivalMs, () => {
      node
        .pull(world.clock, IMAGE)
        .catch((error: unknown) => {
          if (node.alive) failures.push(error);
        })
        .finally(() => open.delete(node));
    });
  }
  if (killAtMs !== undefined) {
    world.clock.after(killAtMs, () => {
      const [reader] = world.nodes.toSorted(
        (a, b) => (b.wanLog.at(-1)?.at ?? 0) - (a.wanLog.at(-1)?.at ?? 0),
      );
      reader?.kill();
    });
  }
  await world.clock.run(() => [...open].every((node) => !node.alive), 300_000);
  expect(failures).toEqual([]);
  const asks = world.nodes.flatMap((node) => node.wholeReads);
  return { copies: world.uplink.bytes / BYTES, seconds: world.clock.mono() / 1000, asks: asks.length };
}

/** For 6 s from the start each member answers in turns: what it is asked waits for its next one. */
function starve(world: World, upTo: number): void {
  for (const { service } of world.nodes) {
    const wait = async <T>(answer: () => T | Promise<T>): Promise<T> => {
      if (world.clock.mono() < 6_000) await world.clock.sleep(world.random() * upTo);
      return answer();
    };
    const join = service.join.bind(service);
    const piece = service.piece.bind(service);
    const progress = service.progress.bind(service);
    // What the simulated wire waits for may be a promise, as it is over a real one.
    Object.assign(service, {
      join: (...args: Parameters<typeof join>) => wait(() => join(...args)),
      piece: (...args: Parameters<typeof piece>) => wait(() => piece(...args)),
      progress: (...args: Parameters<typeof progress>) => wait(() => progress(...args)),
    });
  }
}

const SEEDS = byDepth({ part: [1], whole: [1, 2, 3, 4] });

describe('an origin without ranges', () => {
  for (const nodes of [2, 4, 8]) {
    for (const arrivalMs of [50, 1_000, 5_000]) {
      it(`is read once by ${nodes} members that come within ${arrivalMs} ms`, async () => {
        const all: string[] = [];
        let most = 0;
        for (const seed of SEEDS) {
          const { copies, seconds, asks } = await pull({ seed, nodes, arrivalMs });
          all.push(`${copies.toFixed(3)} x/${asks} asks/${seconds.toFixed(1)} s`);
          most = Math.max(most, copies);
        }
        console.log(`${nodes} within ${arrivalMs} ms: ${all.join(', ')}`);
        expect(most).toBeLessThanOrEqual(1.02);
      });
    }
    it(`is read once by ${nodes} members whose messages are late`, async () => {
      for (const { bound, ...late } of [
        { jitterMs: 200, bound: 1.02 },
        { jitterMs: 1_000, bound: 1.02 },
        // Two may begin before the one has heard of the other; the later in rank stops when it has.
        { starvedMs: 1_500, bound: 1.1 },
        // Later than any answer is waited for.
        { starvedMs: 2_500, bound: 2.02 },
      ]) {
        const all: string[] = [];
        let most = 0;
        for (const seed of SEEDS) {
          const { copies, asks } = await pull({ seed, nodes, arrivalMs: 1_000, ...late });
          all.push(`${copies.toFixed(3)} x/${asks}`);
          most = Math.max(most, copies);
        }
        console.log(`${nodes}, ${JSON.stringify(late)}: ${all.join(', ')}`);
        expect(most).toBeLessThanOrEqual(bound);
      }
    });

    it(`is read a second time at most when one of ${nodes} dies that reads it`, async () => {
      for (const killAtMs of [900, 2_000, 4_000]) {
        const all: string[] = [];
        let most = 0;
        for (const seed of SEEDS) {
          const { copies, asks } = await pull({ seed, nodes, arrivalMs: 50, killAtMs });
          all.push(`${copies.toFixed(3)} x/${asks}`);
          most = Math.max(most, copies);
        }
        console.log(`${nodes}, the reader dies at ${killAtMs} ms: ${all.join(', ')}`);
        expect(most).toBeLessThanOrEqual(2.02);
      }
    });
  }
});
