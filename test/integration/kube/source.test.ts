import { afterEach, beforeAll, expect, it } from 'vitest';
import { eventually } from '../../support/hub-fixture.ts';
import { describeApiServers } from '../../support/kube/both.ts';
import { Cluster, clientOf, type Followed, follow, MERGE } from '../../support/kube/fixtures.ts';

const POOL = 'apps.openyurt.io/nodepool';

describeApiServers('the Kubernetes source', (server) => {
  let cluster: Cluster;
  let followed: Followed | undefined;

  beforeAll(async () => {
    cluster = new Cluster(server());
    await cluster.namespaces('kube-system', 'default');
  }, 120_000);
  afterEach(async () => {
    await followed?.stop();
    followed = undefined;
  });
  const start = async (...args: Parameters<typeof follow>): Promise<Followed> => {
    followed = await follow(...args);
    return followed;
  };
  const current = () =>
    followed?.source.current() ?? { nodes: [], pools: [], tuning: undefined, prefetches: [], problems: [] };

  it('starts in an empty cluster without any definitions, and finds them when they appear', async () => {
    await start(server().kubeconfig);
    expect(followed?.source.decided).toBe(true);
    expect(current()).toEqual({ nodes: [], pools: [], tuning: undefined, prefetches: [], problems: [] });
    await cluster.prefetchCrd();
    await cluster.nodePoolCrd(['v1beta1', 'v1alpha1']);
    await cluster.pool('early', 'v1beta1');
    await cluster.prefetch('first', {
      images: [{ image: 'r.test/a:1' }],
      selector: { nodePools: ['early'] },
    });
    await eventually(current, ({ pools, prefetches }) => pools.length === 1 && prefetches.length === 1);
    expect(current().pools).toEqual([{ name: 'early', source: 'NodePool early' }]);
    expect(current().prefetches).toMatchObject([
      {
        id: 'first',
        images: [{ image: 'r.test/a:1' }],
        selector: { nodePools: ['early'], match: [] },
        suspend: false,
        timeoutMs: 600_000,
        retries: 3,
        observedGeneration: 1,
        source: 'ImagePrefetch first',
      },
    ]);
  });

  it('projects nodes: labels, InternalIP with the default port, the annotation over it', async () => {
    await cluster.node('n1', { [POOL]: 'alpha', disk: 'small' }, '10.0.0.1');
    await cluster.node('n2', {}, 'fd00::2');
    await cluster.node('n3', { [POOL]: 'alpha' }, '10.0.0.3');
    await cluster.patchNode('n3', { metadata: { annotations: { 'tidepool.dev/address': '10.9.9.3:7000' } } });
    await start(server().kubeconfig);
    const found = new Map(current().nodes.map((node) => [node.name as string, node]));
    expect(found.get('n1')).toEqual({
      name: 'n1',
      labels: { [POOL]: 'alpha', disk: 'small' },
      address: '10.0.0.1:6181',
      source: 'Node n1',
    });
    expect(found.get('n2')?.address).toBe('[fd00::2]:6181');
    expect(found.get('n3')?.address).toBe('10.9.9.3:7000');
  });

  it('tells every edit at once, and none that changes nothing of interest', async () => {
    await start(server().kubeconfig);
    const source = followed?.source;
    let changes = 0;
    source?.onChange(() => changes++);
    await cluster.patchNode('n1', { metadata: { labels: { disk: 'large' } } });
    await eventually(current, ({ nodes }) => nodes.some(({ labels }) => labels.disk === 'large'));
    const seen = changes;
    const status = { conditions: [{ type: 'Ready', status: 'True' }] };
    await server().call('PATCH', '/api/v1/nodes/n1/status', { status }, MERGE);
    await cluster.node('n4');
    await eventually(current, ({ nodes }) => nodes.some(({ name }) => name === 'n4'));
    expect(changes).toBe(seen + 1);
    await cluster.removeNode('n4');
    await eventually(current, ({ nodes }) => !nodes.some(({ name }) => name === 'n4'));
  });

  it('follows the tuning ConfigMap alone; a deleted one means defaults', async () => {
    await start(server().kubeconfig);
    expect(current().tuning).toBeUndefined();
    const other = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'other' }, data: { wan: 'x' } };
    await server().call('POST', '/api/v1/namespaces/kube-system/configmaps', other);
    await cluster.tune({ wan: 'wan: []' });
    await eventually(current, ({ tuning }) => tuning !== undefined);
    expect(current().tuning).toEqual({
      data: { wan: 'wan: []' },
      source: 'ConfigMap kube-system/tidepool-tuning',
    });
    await cluster.tune({ wan: 'wan: []', lan: 'lan: []' });
    await eventually(current, ({ tuning }) => tuning?.data.lan === 'lan: []');
    await cluster.untune();
    await eventually(current, ({ tuning }) => tuning === undefined);
  });

  it('a job that cannot be read keeps its last good form, and says so', async () => {
    await start(server().kubeconfig);
    await cluster.prefetch('turns-bad', { images: [{ image: 'r.test/a:1' }] });
    await eventually(current, ({ prefetches }) => prefetches.some(({ id }) => id === 'turns-bad'));
    const path = '/apis/tidepool.dev/v1alpha1/imageprefetches/turns-bad';
    // Well-formed for the schema, no reference for us.
    await server().call('PATCH', path, { spec: { images: [{ image: 'r.test/UPPER:1' }] } }, MERGE);
    const { problems, prefetches } = await eventually(current, (state) => state.problems.length > 0);
    expect(problems[0]?.source).toBe('ImagePrefetch turns-bad');
    expect(problems[0]?.message).toMatch(/images\[0\]\.image: .*last good form stays in force/);
    expect(prefetches.find(({ id }) => id === 'turns-bad')?.images).toEqual([{ image: 'r.test/a:1' }]);
    expect(followed?.source.flaws()).toMatchObject([
      { subject: { kind: 'ImagePrefetch', name: 'turns-bad' } },
    ]);
    await cluster.removePrefetch('turns-bad');
    await eventually(current, (state) => state.problems.length === 0);
  });

  it('lists in pages', async () => {
    await Promise.all(
      Array.from({ length: 24 }, async (_, lane) => {
        for (let index = lane; index < 1_050; index += 24) await cluster.node(`page-${index}`);
      }),
    );
    await start(server().kubeconfig);
    expect(current().nodes.filter(({ name }) => name.startsWith('page-'))).toHaveLength(1_050);
    const lists =
      followed?.calls.filter(({ verb, path }) => verb === 'GET' && path === '/api/v1/nodes') ?? [];
    expect(lists.length).toBeGreaterThanOrEqual(3);
  }, 120_000);

  it('reads workloads only while somebody follows them', async () => {
    await cluster.yurtAppSetCrd();
    let wanted = false;
    await start(server().kubeconfig, { workloads: () => wanted });
    expect(current()).not.toHaveProperty('workloads');
    const pod = (image: string) => ({
      metadata: { labels: { app: 'web' } },
      spec: {
        nodeSelector: { role: 'web' },
        imagePullSecrets: [{ name: 'pull' }],
        initContainers: [{ name: 'init', image: 'r.test/init:1' }],
        containers: [{ name: 'web', image }],
      },
    });
    const selector = { matchLabels: { app: 'web' } };
    const metadata = { name: 'web' };
    await server().call('POST', '/apis/apps/v1/namespaces/default/deployments', {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: { selector, template: pod('r.test/web:1') },
    });
    await server().call('POST', '/apis/apps.openyurt.io/v1beta1/namespaces/default/yurtappsets', {
      apiVersion: 'apps.openyurt.io/v1beta1',
      kind: 'YurtAppSet',
      metadata,
      spec: {
        workload: {
          workloadTemplate: { deploymentTemplate: { spec: { template: pod('r.test/yurt:1') } } },
          workloadTweaks: [
            { tweaks: { containerImages: [{ name: 'web', targetImage: 'r.test/tweaked:1' }] } },
          ],
        },
      },
    });
    wanted = true;
    const { workloads } = await eventually(
      () => followed?.source.current() ?? { workloads: [] },
      (state) => (state.workloads?.length ?? 0) === 2,
    );
    expect(workloads).toEqual([
      {
        kind: 'Deployment',
        namespace: 'default',
        name: 'web',
        images: ['r.test/init:1', 'r.test/web:1'],
        nodeSelector: { role: 'web' },
        pullSecrets: ['pull'],
        source: 'Deployment default/web',
      },
      expect.objectContaining({
        kind: 'YurtAppSet',
        images: ['r.test/init:1', 'r.test/yurt:1', 'r.test/tweaked:1'],
      }),
    ]);
  });

  it('a resource that it may not read is a problem with words; the others go on', async () => {
    const read = ['get', 'list', 'watch'];
    const kubeconfig = await server().kubeconfigFor('half-blind', [
      { apiGroups: [''], resources: ['nodes'], verbs: read },
      { apiGroups: ['tidepool.dev'], resources: ['imageprefetches'], verbs: read },
      { apiGroups: ['apps.openyurt.io'], resources: ['nodepools'], verbs: read },
    ]);
    await start(kubeconfig);
    expect(followed?.source.decided).toBe(true);
    const [problem, ...others] = current().problems;
    expect(others).toEqual([]);
    expect(problem?.source).toBe('kubernetes configmaps');
    expect(problem?.message).toMatch(
      /may not list and watch configmaps: .*verbs get, list, watch.*forbidden/,
    );
    expect(current().nodes.length).toBeGreaterThan(0);
    await cluster.node('seen-all-the-same');
    await eventually(current, ({ nodes }) => nodes.some(({ name }) => name === 'seen-all-the-same'));
    const asked = () => followed?.calls.filter(({ path }) => path.endsWith('/configmaps')).length ?? 0;
    const before = asked();
    await eventually(asked, (now) => now > before);
    // Tried again, but not in a loop.
    expect(asked()).toBeLessThan(30);
  });

  it('keeps the pools when their definition goes for a moment only, and drops them when it is gone', async () => {
    await start(server().kubeconfig);
    expect(current().pools).toHaveLength(1);
    await cluster.removeCrd('nodepools.apps.openyurt.io');
    await eventually(current, ({ pools }) => pools.length === 0);
    expect(current().problems).toEqual([]);
  });

  it('says in words that a key is refused', async () => {
    const client = await clientOf(server().kubeconfig);
    const refused = client.json('GET', { path: '/api/v1/nodes/no-such-node' });
    await expect(refused).rejects.toMatchObject({ code: 'NOT_FOUND', httpStatus: 404 });
    await client.stop();
  });
});
