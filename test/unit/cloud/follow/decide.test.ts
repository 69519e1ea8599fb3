import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { prefetchId } from '../../../../cloud/desired/prefetch-spec.ts';
import type { DesiredWorkload } from '../../../../cloud/desired/types.ts';
import { decide, type FollowBook, type FollowInput } from '../../../../cloud/follow/decide.ts';
import type { Member } from '../../../../cloud/pools/membership.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';

const POOL_LABEL = 'apps.openyurt.io/nodepool';
const member = (node: string, pool: string, labels: Record<string, string> = {}): Member => ({
  node: parseNodeName(node),
  pool: parsePoolName(pool),
  labels: { [POOL_LABEL]: pool, ...labels },
  address: undefined,
});
const pools = (...members: Member[]): FollowInput['pools'] => {
  const map = new Map<NonNullable<Member['pool']>, Member[]>();
  for (const each of members) if (each.pool) map.set(each.pool, [...(map.get(each.pool) ?? []), each]);
  return map;
};
const workload = (images: readonly string[], more: Partial<DesiredWorkload> = {}): DesiredWorkload => ({
  kind: 'Deployment',
  namespace: 'shop',
  name: 'web',
  images,
  nodeSelector: {},
  pullSecrets: ['secret'],
  source: 'Deployment shop/web',
  ...more,
});
const site = pools(member('a1', 'alpha'), member('b1', 'beta', { gpu: 'yes' }), member('b2', 'beta'));
const input = (more: Partial<FollowInput> = {}): FollowInput => ({
  workloads: [],
  pools: site,
  follows: () => true,
  holds: () => false,
  book: {},
  now: 1000,
  ...more,
});
const where = (each: { readonly selector: { readonly nodePools?: readonly string[] } }) =>
  each.selector.nodePools;

describe('decide', () => {
  it('prefetches the images of a workload in pools that follow, under an id that stays', () => {
    const workloads = [workload(['r.test/web:2', 'r.test/side@sha256:'.concat('a'.repeat(64))])];
    const first = decide(input({ workloads, follows: (pool) => pool === 'alpha' }));
    expect(first.definitions).toHaveLength(1);
    const [job] = first.definitions;
    expect(job).toMatchObject({
      selector: { nodePools: ['alpha'], match: [] },
      source: 'Deployment shop/web',
    });
    expect(job?.images.map(({ image }) => image)).toEqual(workloads[0]?.images);
    expect(job?.id).toMatch(/^follow-deployment-shop-web-[0-9a-f]{10}$/);
    // The order in which a template names its containers is not another template; later is not newer.
    const again = decide(
      input({
        workloads: [workload([...(workloads[0]?.images ?? [])].reverse())],
        book: first.book,
        now: 9e9,
      }),
    );
    expect(again.definitions[0]?.id).toBe(job?.id);
    expect(again.book).toEqual(first.book);
  });

  it('never names secrets: a workload could name those of others', () => {
    const [job] = decide(input({ workloads: [workload(['r.test/web:2'])] })).definitions;
    expect(job).not.toHaveProperty('pullSecrets');
  });

  it('does nothing where no pool follows', () => {
    const { definitions, book } = decide(input({ workloads: [workload(['x:1'])], follows: () => false }));
    expect(definitions).toEqual([]);
    expect(book).toEqual({});
  });

  it('goes only where the node selector lets pods go', () => {
    const to = (nodeSelector: Record<string, string>) => {
      const [job] = decide(input({ workloads: [workload(['x:1'], { nodeSelector })] })).definitions;
      return job === undefined ? undefined : [where(job), job.selector.match];
    };
    const gpu = { key: 'gpu', operator: 'In', value: 'yes' };
    expect(to({ gpu: 'yes' })).toEqual([['beta'], [gpu]]);
    expect(to({ [POOL_LABEL]: 'alpha' })).toEqual([
      ['alpha'],
      [{ key: POOL_LABEL, operator: 'In', value: 'alpha' }],
    ]);
    expect(to({ gpu: 'no' })).toBeUndefined();
    // Documents of nodes seldom say it, and it is true of every agent.
    expect(to({ 'kubernetes.io/os': 'linux' })).toEqual([['alpha', 'beta'], []]);
    expect(to({ 'kubernetes.io/os': 'windows' })).toBeUndefined();
  });

  it('is over where the pool has all images on every node that pods may come to, for good', () => {
    const workloads = [workload(['x:1', 'y:1'])];
    const partly = decide(input({ workloads, holds: (_node, image) => image === 'x:1' }));
    expect(partly.definitions.map(where)).toEqual([['alpha', 'beta']]);
    const one = decide(input({ workloads, book: partly.book, holds: (node) => node !== 'b2' }));
    expect(one.definitions.map(where)).toEqual([['beta']]);
    const both = decide(input({ workloads, book: one.book, holds: () => true }));
    expect(both.definitions).toEqual([]);
    // The agents forget jobs that are withdrawn, and so nobody holds anything as far as anybody says.
    const later = decide(
      input({
        workloads,
        book: both.book,
        pools: pools(...[...site.values()].flat(), member('a2', 'alpha')),
      }),
    );
    expect(later.definitions).toEqual([]);
  });

  it('withdraws what a new image takes the place of, and what a workload that is gone wanted', () => {
    const first = decide(input({ workloads: [workload(['x:1'])] }));
    const second = decide(input({ workloads: [workload(['x:2'])], book: first.book, now: 2000 }));
    expect(second.definitions).toHaveLength(1);
    expect(second.definitions[0]?.id).not.toBe(first.definitions[0]?.id);
    const gone = decide(input({ book: second.book }));
    expect(gone).toEqual({ definitions: [], book: {}, problems: [] });
    // Rolled back, it is a rollout like any other.
    const back = decide(input({ workloads: [workload(['x:1'])], book: second.book, now: 3000 }));
    expect(Object.values(back.book)).toEqual([{ since: 3000, done: [] }]);
  });

  it('keeps to its bound: the newest win, and it says so', () => {
    let book: FollowBook = {};
    const workloads: DesiredWorkload[] = [];
    for (let at = 1; at <= 5; at++) {
      workloads.push(workload([`x:${at}`], { name: `w${at}`, source: `w${at}` }));
      book = decide(input({ workloads, book, now: at })).book;
    }
    const { definitions, problems } = decide(input({ workloads, book, now: 9, maxJobs: 2 }));
    expect(definitions.map(({ source }) => source)).toEqual(['w5', 'w4']);
    expect(problems).toEqual([
      { source: 'workloads', message: expect.stringMatching(/^5 workloads .* newest 2 are/) },
    ]);
    const rest = decide(input({ workloads, book, maxJobs: 2, holds: (_node, image) => image === 'x:5' }));
    expect(rest.definitions.map(({ source }) => source)).toEqual(['w4', 'w3']);
  });

  it('leaves out what is no image, in words, and fetches the others', () => {
    const { definitions, problems } = decide(input({ workloads: [workload(['UPPER:1', 'x:1'])] }));
    expect(definitions[0]?.images).toEqual([{ image: 'x:1' }]);
    expect(problems[0]?.message).toMatch(
      /not prefetched ahead of its rollout: not an image reference: "UPPER:1"/,
    );
  });

  it('makes ids that jobs can have, one for each workload and its images', () => {
    const name = fc.stringMatching(/^[a-z0-9]([a-z0-9.-]{0,60}[a-z0-9])?$/);
    const kind = fc.constantFrom('Deployment', 'DaemonSet', 'StatefulSet', 'YurtAppSet');
    const template = fc.record({ kind, namespace: name, name, tag: fc.integer({ min: 0, max: 3 }) });
    fc.assert(
      fc.property(fc.uniqueArray(template, { selector: JSON.stringify, maxLength: 20 }), (all) => {
        const workloads = all.map(({ tag, ...each }) =>
          workload([`x:${tag}`], each as Partial<DesiredWorkload>),
        );
        const ids = decide(input({ workloads })).definitions.map(({ id }) => id);
        expect(new Set(ids).size).toBe(workloads.length);
        for (const id of ids) expect(prefetchId.safeParse(id).success).toBe(true);
      }),
      { seed: 42, numRuns: 50 },
    );
  });
});
