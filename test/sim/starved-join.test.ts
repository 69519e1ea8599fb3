import { describe, expect, it } from 'vitest';
import { byDepth } from '../support/depth.ts';
import { blobOf, World, type WorldInit } from './world.ts';

const SIZE = 60 * 1024 * 1024;
const BLOB = { digest: blobOf(7), size: SIZE };
const NODES = 8;
const SEEDS = byDepth({ part: [1, 2, 3], whole: [1, 2, 3, 4, 5, 6] });

interface Trouble {
  /** Members that answer whatever they are asked 3 s late, in the first 3 s. */
  readonly late?: number;
  /** Members that take connections and never answer. */
  readonly silent?: number;
  readonly arrivalMs?: number;
}

/** Everyone that is well pulls; copies over the uplink, and seconds. */
async function pull(init: Partial<WorldInit> & { seed: number }, trouble: Trouble) {
  const world = new World({ nodes: NODES, uplink: 12.5e6, lan: 125e6, ...init });
  await world.start();
  const { late = 0, silent = 0, arrivalMs = 50 } = trouble;
  for (const node of world.nodes) {
    const mute = node.index >= NODES - silent;
    if (node.index >= late && !mute) continue;
    const { service } = node;
    const wait = async <T>(answer: () => T | Promise<T>): Promise<T> => {
      if (mute) return new Promise<T>(() => undefined);
      const left = 3_000 - world.clock.mono();
      if (left > 0) await world.clock.sleep(left);
      return answer();
    };
    const join = service.join.bind(service);
    const piece = service.piece.bind(service);
    const progress = service.progress.bind(service);
    const hello = service.hello.bind(service);
    // What the simulated wire waits for may be a promise, as it is over a real one.
    Object.assign(service, {
      join: (...args: Parameters<typeof join>) => wait(() => join(...args)),
      piece: (...args: Parameters<typeof piece>) => wait(() => piece(...args)),
      progress: (...args: Parameters<typeof progress>) => wait(() => progress(...args)),
      hello: () => wait(hello),
    });
  }
  let left = NODES - silent;
  const failures: unknown[] = [];
  for (const node of world.nodes.slice(0, left)) {
    world.clock.after(world.random() * arrivalMs, () => {
      node
        .pull(world.clock, [BLOB])
        .catch((error: unknown) => failures.push(error))
        .finally(() => left--);
    });
  }
  await world.clock.run(() => left === 0, 600_000);
  expect(failures).toEqual([]);
  return { copies: world.uplink.bytes / SIZE, seconds: world.clock.mono() / 1000 };
}

describe('members that are short of processor time while a pull begins', () => {
  for (const [late, arrivalMs, most] of [
    [1, 50, 1.1],
    [3, 50, 1.02],
    [5, 50, 1.02],
    [3, 3_000, 1.1],
  ] as const) {
    it(`${late} of ${NODES} answer seconds late, arrivals within ${arrivalMs} ms`, async () => {
      const copies: number[] = [];
      for (const seed of SEEDS) copies.push((await pull({ seed }, { late, arrivalMs })).copies);
      console.log(`${late} late, ${arrivalMs} ms: WAN ${copies.map((copy) => copy.toFixed(3)).join(' ')}`);
      expect(Math.max(...copies)).toBeLessThanOrEqual(most);
      expect(copies.reduce((sum, copy) => sum + copy) / SEEDS.length).toBeLessThanOrEqual(1.05);
    });
  }

  it('every message up to a second late', async () => {
    const copies: number[] = [];
    for (const seed of SEEDS) copies.push((await pull({ seed, jitterMs: 1_000 }, {})).copies);
    console.log(`a second late: WAN ${copies.map((copy) => copy.toFixed(3)).join(' ')}`);
    // Two pieces of 60 in one seed of six.
    expect(Math.max(...copies)).toBeLessThanOrEqual(1.04);
    expect(copies.reduce((sum, copy) => sum + copy) / SEEDS.length).toBeLessThanOrEqual(1.01);
  });

  it('one that never answers costs no copy, and a second at most', async () => {
    for (const seed of SEEDS) {
      const whole = await pull({ seed }, {});
      const without = await pull({ seed }, { silent: 1 });
      expect(without.copies).toBe(1);
      expect(without.seconds - whole.seconds).toBeLessThanOrEqual(1);
    }
  });
});
