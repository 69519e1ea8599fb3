import { afterEach, beforeAll, expect, it } from 'vitest';
import { eventually } from '../../support/hub-fixture.ts';
import type { TestApiServer } from '../../support/kube/api-server.ts';
import type { ApiServerDouble } from '../../support/kube/api-server-double.ts';
import { describeApiServers } from '../../support/kube/both.ts';
import { Cluster, type Followed, follow } from '../../support/kube/fixtures.ts';

const isDouble = (server: TestApiServer): server is ApiServerDouble => server.kind === 'double';
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describeApiServers('the Kubernetes source in an outage', (server) => {
  let cluster: Cluster;
  let followed: Followed;

  beforeAll(async () => {
    cluster = new Cluster(server());
    await cluster.namespaces('kube-system');
    await cluster.prefetchCrd();
    await cluster.node('stays');
    await cluster.tune({ wan: 'wan: []' });
  }, 120_000);
  afterEach(() => followed?.stop());
  const names = () =>
    followed.source
      .current()
      .nodes.map(({ name }) => name as string)
      .sort();

  it('misses nothing of an API server that was away and came back without its history', async () => {
    followed = await follow(server().kubeconfig);
    await cluster.node('goes');
    await eventually(names, (all) => all.includes('goes'));
    await server().halt();
    const problems = await eventually(
      () => followed.source.current().problems,
      (all) => all.length > 0,
    );
    // One problem, not one a resource; and what was known stays.
    expect(problems).toHaveLength(1);
    expect(problems[0]?.message).toMatch(/cannot be reached.*stays in force/);
    expect(names()).toEqual(['goes', 'stays']);
    await pause(6_000);
    const at = performance.now();
    const tries = followed.calls.length;
    await server().resume();
    await cluster.removeNode('goes');
    await cluster.node('came');
    await cluster.tune({ wan: 'wan: []', lan: 'lan: []' });
    await server().compact();
    await eventually(names, (all) => all.includes('came') && !all.includes('goes'), 30_000);
    await eventually(
      () => followed.source.current().tuning?.data,
      (data) => data?.lan === 'lan: []',
      30_000,
    );
    await eventually(
      () => followed.source.current().problems,
      (all) => all.length === 0,
      30_000,
    );
    // No storm: what failed while it was away, and what it was asked for when it was back.
    expect(tries).toBeLessThan(80);
    // While the server started, each of four resources asked every few seconds.
    const seconds = (performance.now() - at) / 1_000;
    expect(followed.calls.length - tries).toBeLessThan(60 + 4 * seconds);
    await cluster.node('later');
    await eventually(names, (all) => all.includes('later'));
    for (const name of ['came', 'later']) await cluster.removeNode(name);
  }, 120_000);

  it('notices an API server that hangs, keeps what it knows, and goes on when it answers', async () => {
    followed = await follow(server().kubeconfig, { silentMs: 4_000 });
    await server().freeze();
    const at = performance.now();
    const before = followed.calls.length;
    // Silent watches are given up; their successors get no answer either.
    await eventually(
      () => followed.calls.length,
      (count) => count > before,
    );
    await eventually(
      () => followed.source.current().problems.length,
      (count) => count > 0,
    );
    expect(names()).toEqual(['stays']);
    await server().thaw();
    await cluster.node('after-the-hang');
    await eventually(names, (all) => all.includes('after-the-hang'), 60_000);
    const seconds = (performance.now() - at) / 1_000;
    expect(followed.calls.length - before).toBeLessThan(60 + 4 * seconds);
    await cluster.removeNode('after-the-hang');
  }, 120_000);

  it('lists anew when the server says in the middle of a watch that the history is gone', async () => {
    const here = server();
    if (!isDouble(here)) return;
    followed = await follow(here.kubeconfig);
    const lists = () =>
      followed.calls.filter(({ verb, path }) => verb === 'GET' && path === '/api/v1/nodes').length;
    const before = lists();
    here.expireWatches();
    await eventually(lists, (count) => count > before);
    await cluster.node('after-410');
    await eventually(names, (all) => all.includes('after-410'));
    expect(lists()).toBeLessThan(before + 4);
    await cluster.removeNode('after-410');
  });

  it('waits as long as a busy server asks for', async () => {
    const here = server();
    if (!isDouble(here)) return;
    here.throttle(1_000, 2);
    const at = performance.now();
    followed = await follow(here.kubeconfig, { firstListsMs: 500 });
    expect(followed.source.decided).toBe(false);
    await pause(3_000);
    const asked = followed.calls.length;
    // Four resources, at most one try each 2 s.
    expect(asked).toBeLessThanOrEqual(12);
    here.throttle(0, 0);
    await eventually(
      () => followed.source.decided,
      (yes) => yes,
    );
    expect(performance.now() - at).toBeGreaterThan(2_000);
    expect(names()).toEqual(['stays']);
  }, 60_000);

  it('lists everything anew by the clock, and says nothing when nothing has changed', async () => {
    followed = await follow(server().kubeconfig, { relistMs: 1_500 });
    let changes = 0;
    followed.source.onChange(() => changes++);
    const lists = () =>
      followed.calls.filter(({ verb, path }) => verb === 'GET' && path === '/api/v1/nodes').length;
    await eventually(lists, (count) => count >= 3);
    expect(changes).toBe(0);
    // Watches are asked to end in time for it, so the server does not see them broken off.
    expect(followed.source.current().problems).toEqual([]);
  }, 60_000);
});
