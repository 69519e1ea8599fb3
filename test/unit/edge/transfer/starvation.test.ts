import { describe, expect, it } from 'vitest';
import { blobOf, type SimNode, World } from '../../../sim/world.ts';

const SIZE = 60 * 1024 * 1024;
const BLOB = { digest: blobOf(7), size: SIZE };
const NODES = 8;

function newWorld(seed: number): World {
  return new World({ seed, nodes: NODES, uplink: 12.5e6, lan: 125e6 });
}

/** Everyone pulls at once; the answer is how many copies came over the uplink. */
async function copies(world: World): Promise<number> {
  let left = NODES;
  const failures: unknown[] = [];
  await world.start();
  for (const node of world.nodes) {
    world.clock.after(world.random() * 50, () => {
      node
        .pull(world.clock, [BLOB])
        .catch((error: unknown) => failures.push(error))
        .finally(() => left--);
    });
  }
  await world.clock.run(() => left === 0, 600_000);
  expect(failures).toEqual([]);
  return world.uplink.bytes / SIZE;
}

/** What is asked of a node between two moments is answered at the second. */
function starve(world: World, node: SimNode, from: number, to: number): void {
  const { service } = node;
  const late = async <T>(answer: () => T | Promise<T>): Promise<T> => {
    const now = world.clock.mono();
    if (now >= from && now < to) await world.clock.sleep(to - now);
    return answer();
  };
  const piece = service.piece.bind(service);
  service.piece = (...args) => late(() => piece(...args));
  const progress = service.progress.bind(service);
  // What the simulated wire waits for may be a promise, as it is over a real one.
  Object.assign(service, {
    progress: (...args: Parameters<typeof progress>) => late(() => progress(...args)),
  });
}

describe('on nodes that are short of processor time', () => {
  it.each([1, 2, 3])(
    'timers that fire seconds late fetch no piece twice over the WAN (seed %i)',
    async (seed) => {
      const world = newWorld(seed);
      const schedule = world.clock.after.bind(world.clock);
      let late = 0;
      // The short ones carry the bytes; those that decide something are the long ones.
      world.clock.after = (ms, fn) => {
        if (ms < 400) return schedule(ms, fn);
        late++;
        return schedule(ms + world.random() * 5_000, fn);
      };
      expect(await copies(world)).toBe(1);
      expect(late).toBeGreaterThan(100);
    },
  );

  it.each([1, 2, 3])(
    'members that answer seconds late are waited for, not read around (seed %i)',
    async (seed) => {
      const world = newWorld(seed);
      for (const node of world.nodes) {
        const from = 1_000 + world.random() * 3_000;
        starve(world, node, from, from + 3_000);
      }
      expect(await copies(world)).toBe(1);
    },
  );

  it('one that stands still longer than a hedge is patient costs what it had under way at most', async () => {
    const world = newWorld(4);
    starve(world, world.node(0), 1_000, 13_000);
    expect(await copies(world)).toBeLessThanOrEqual(1.1);
  });
});
