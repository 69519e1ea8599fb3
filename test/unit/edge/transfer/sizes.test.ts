import { describe, expect, it } from 'vitest';
import type { BlobView } from '../../../../edge/transfer/types.ts';
import { blobOf, World } from '../../../sim/world.ts';

const SIZE = 3 * 1024 * 1024;
const BLOB = { digest: blobOf(7), size: SIZE };
const NAME = { registry: 'sim.example', repository: 'app', digest: BLOB.digest };

/** Nodes 0 to `holders - 1` hold the blob; then the uplink is cut. No other node has heard of its size. */
async function cutOff(nodes: number, holders: number) {
  const world = new World({ seed: 1, nodes, uplink: 12.5e6, lan: 125e6 });
  await world.start();
  let left = holders;
  for (const node of world.nodes.slice(0, holders)) void node.pull(world.clock, [BLOB]).then(() => left--);
  await world.clock.run(() => left === 0, 600_000);
  world.wanUp = false;
  return world;
}

/** The blob as node `n` sees it, or what it cannot be seen for. */
async function view(world: World, n: number): Promise<BlobView | unknown> {
  let result: BlobView | unknown;
  let done = false;
  world
    .node(n)
    .content.blob(NAME)
    .then(
      (blob) => {
        result = blob;
      },
      (error: unknown) => {
        result = error;
      },
    )
    .finally(() => {
      done = true;
    });
  await world.clock.run(() => done, world.clock.mono() + 60_000);
  return result;
}

describe('the size of a blob while the origin is gone', () => {
  it('is what the member says that holds it, and is not written down', async () => {
    const world = await cutOff(3, 1);
    expect(await view(world, 2)).toMatchObject({ size: SIZE });
    expect(world.node(2).sizes.size).toBe(0);
  });

  it('is not known where nobody holds it', async () => {
    const world = await cutOff(3, 0);
    expect(await view(world, 2)).toMatchObject({ code: 'ORIGIN_UNREACHABLE' });
  });

  it('is not chosen between two members that disagree; of three, two outweigh one', async () => {
    const two = await cutOff(3, 2);
    two.node(0).service.size = () => 5;
    expect(await view(two, 2)).toMatchObject({ code: 'SIZE_MISMATCH' });
    const three = await cutOff(4, 3);
    three.node(0).service.size = () => 5;
    expect(await view(three, 3)).toMatchObject({ size: SIZE });
  });

  it('that was wrong does not stay: what was begun by it is thrown away when the manifest is known', async () => {
    const world = await cutOff(2, 1);
    const node = world.node(1);
    node.store.open(BLOB.digest, 5);
    expect(await view(world, 1)).toMatchObject({ size: SIZE });
    expect(node.store.get(BLOB.digest)).toBeUndefined();
  });
});
