import { describe, expect, it } from 'vitest';
import { inventoryOf } from '../../../../cloud/prefetch/inventory.ts';
import type { PlannedJob } from '../../../../cloud/prefetch/plan.ts';
import type { NodeState } from '../../../../cloud/prefetch/progress.ts';
import { digestOf, type NodeName, parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import type { PrefetchProgress } from '../../../../shared/wire/messages/prefetch.ts';

const POOL = parsePoolName('alpha');
const NODES = ['a1', 'a2'].map(parseNodeName);
const DIGEST = digestOf(Buffer.from('image'));

function job(
  more: { readonly platforms?: string[]; readonly digest?: string } = { digest: DIGEST },
): PlannedJob {
  const { digest, platforms } = more;
  return {
    id: 'job',
    generation: 1,
    definition: {
      id: 'job',
      images: [{ image: 'r.test/a:1' }],
      selector: { match: [] },
      suspend: false,
      timeoutMs: 1_000,
      retries: 1,
      source: 'job.yaml:1',
    },
    targets: new Map([[POOL, NODES]]),
    messages: new Map([
      [
        POOL,
        {
          id: 'job',
          generation: 1,
          images: [
            {
              image: 'r.test/a:1',
              ...(digest === undefined ? {} : { digest: digestOf(Buffer.from('image')) }),
              ...(platforms === undefined ? {} : { platforms }),
            },
          ],
          suspend: false,
          timeoutMs: 1_000,
          retries: 1,
        },
      ],
    ]),
    open: new Set(),
    problems: [],
  };
}

function nodes(
  states: readonly PrefetchProgress['state'][],
): (node: NodeName) => NodeState & { platform: string } {
  return (node) => {
    const state = states[NODES.indexOf(node)] ?? 'waiting';
    const progress = {
      id: 'job',
      generation: 1,
      state,
      totalBytes: 1,
      doneBytes: 1,
      wanBytes: 0,
      peerBytes: 0,
    };
    return { online: true, platform: 'linux/arm64/v8', prefetches: new Map([['job', progress]]) };
  };
}

describe('what a pool has', () => {
  it('is what prefetches have brought to every node that they are for', () => {
    expect(inventoryOf(POOL, [job()], nodes(['succeeded', 'succeeded']))).toEqual({
      images: [{ image: 'r.test/a:1', digest: DIGEST }],
      platforms: ['linux/arm64/v8'],
    });
  });

  it('is nothing where one node lacks it, nobody knows the digest, or platforms were chosen', () => {
    const none = { images: [] };
    const all = nodes(['succeeded', 'succeeded']);
    expect(inventoryOf(POOL, [job()], nodes(['succeeded', 'active']))).toMatchObject(none);
    expect(inventoryOf(POOL, [job({})], all)).toMatchObject(none);
    expect(inventoryOf(POOL, [job({ digest: DIGEST, platforms: ['linux/amd64'] })], all)).toMatchObject(none);
    expect(inventoryOf(parsePoolName('beta'), [job()], all)).toEqual({ images: [], platforms: [] });
    expect(inventoryOf(POOL, [job()], () => undefined)).toEqual({ images: [], platforms: [] });
  });
});
