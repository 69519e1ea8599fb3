import { afterEach, beforeAll, expect, it } from 'vitest';
import type { KubeApi, KubeClient } from '../../../cloud/kube/kube-client.ts';
import { LeaseLeadership } from '../../../cloud/kube/lease-leadership.ts';
import { systemClock } from '../../../shared/clock.ts';
import { silentLogger } from '../../../shared/log.ts';
import { eventually } from '../../support/hub-fixture.ts';
import { describeApiServers } from '../../support/kube/both.ts';
import { Cluster, clientOf, NAMESPACE } from '../../support/kube/fixtures.ts';

const QUICK = { leaseMs: 3_000, renewMs: 2_000, retryMs: 250 };
/** So long that nobody waits for its end. */
const LONG = { leaseMs: 60_000, renewMs: 40_000, retryMs: 250 };

describeApiServers('leadership by a lease', (server) => {
  let client: KubeClient;
  const running: LeaseLeadership[] = [];
  const stored = new Map<string, number>();
  /** Every moment at which more than one led. */
  let shared = 0;

  beforeAll(async () => {
    await new Cluster(server()).namespaces(NAMESPACE);
    client = await clientOf(server().kubeconfig);
  }, 120_000);
  afterEach(async () => {
    for (const each of running.splice(0)) await each.stop();
    shared = 0;
  });

  const candidate = (
    identity: string,
    name: string,
    api: KubeApi = client,
    times = QUICK,
  ): LeaseLeadership => {
    const leadership: LeaseLeadership = new LeaseLeadership(
      {
        clock: systemClock,
        log: silentLogger(),
        client: api,
        nextEpoch: async (floor) => {
          const epoch = Math.max(floor, (stored.get(identity) ?? 0) + 1);
          stored.set(identity, epoch);
          return epoch;
        },
      },
      { namespace: NAMESPACE, name, identity, api: () => `${identity}:6190`, ...times },
    );
    leadership.onChange(() => {
      if (running.filter(({ leads }) => leads).length > 1) shared++;
    });
    running.push(leadership);
    return leadership;
  };
  const leaders = () => running.filter(({ leads }) => leads);
  /** Looks all the time until it is true, and counts moments with two leaders. */
  const until = async (done: () => boolean, ms = 30_000): Promise<void> => {
    await eventually(
      () => {
        if (leaders().length > 1) shared++;
        return done();
      },
      (yes) => yes,
      ms,
    );
  };

  it('one of five that start at once leads; the others know who', async () => {
    const all = ['a', 'b', 'c', 'd', 'e'].map((name) => candidate(name, 'five'));
    await Promise.all(all.map((each) => each.start()));
    await until(() => leaders().length === 1 && all.every(({ decided }) => decided));
    const [leader] = leaders();
    expect(leader?.epoch).toBeGreaterThan(0);
    for (const each of all) {
      if (each === leader) expect(each.leader).toBeUndefined();
      else expect(each.leader?.api).toBe(`${each.leader?.identity}:6190`);
    }
    // It stays the same one for longer than a lease.
    const from = performance.now();
    await until(() => performance.now() - from > 1.5 * QUICK.leaseMs);
    expect(leaders()).toEqual([leader]);
    expect(shared).toBe(0);
  });

  it('a leader that stops hands over at once, under a higher epoch', async () => {
    const first = candidate('first', 'handover', client, LONG);
    await first.start();
    await until(() => first.leads);
    const epoch = first.epoch ?? 0;
    const second = candidate('second', 'handover', client, LONG);
    await second.start();
    await until(() => second.decided);
    await first.stop();
    expect(first.leads).toBe(false);
    const at = performance.now();
    await until(() => second.leads);
    expect(performance.now() - at).toBeLessThan(LONG.leaseMs);
    expect(second.epoch).toBeGreaterThan(epoch);
    expect(shared).toBe(0);
  });

  it('a leader that is cut off has stopped to lead before another one begins', async () => {
    let cut = false;
    const cuttable: KubeApi = {
      server: client.server,
      list: (request, onItem) => client.list(request, onItem),
      watch: (request) => client.watch(request),
      json: (method, request) =>
        cut
          ? new Promise((_, reject) => {
              // As a lost packet: nothing comes, until the caller gives up.
              setTimeout(() => reject(new Error('no answer')), request.timeoutMs ?? 1_000);
            })
          : client.json(method, request),
    };
    const lost = candidate('lost', 'cut', cuttable);
    await lost.start();
    await until(() => lost.leads);
    const epoch = lost.epoch ?? 0;
    const next = candidate('next', 'cut');
    await next.start();
    await until(() => next.decided);
    cut = true;
    let lostAt = 0;
    let wonAt = 0;
    await until(() => {
      if (lostAt === 0 && !lost.leads) lostAt = performance.now();
      if (wonAt === 0 && next.leads) wonAt = performance.now();
      return lostAt > 0 && wonAt > 0;
    });
    expect(wonAt).toBeGreaterThanOrEqual(lostAt);
    expect(next.epoch).toBeGreaterThan(epoch);
    // Back again, it stands by.
    cut = false;
    await until(() => lost.leader?.identity === 'next');
    expect(lost.leads).toBe(false);
    expect(shared).toBe(0);
  }, 60_000);

  it('epochs grow through a deleted lease', async () => {
    const one = candidate('one', 'deleted');
    await one.start();
    await until(() => one.leads);
    const epoch = one.epoch ?? 0;
    const path = `/apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases`;
    await server().call('DELETE', `${path}/deleted`);
    // Whoever holds it puts it back, or campaigns anew.
    const found = (): Promise<boolean> =>
      server()
        .call('GET', `${path}/deleted`)
        .then(
          () => one.leads,
          () => false,
        );
    await eventually(found, (yes) => yes);
    expect(one.epoch).toBeGreaterThanOrEqual(epoch);
    await one.stop();
    const two = candidate('two', 'deleted');
    await two.start();
    await until(() => two.leads);
    expect(two.epoch).toBeGreaterThan(epoch);
    expect(shared).toBe(0);
  });

  it('says which right is missing', async () => {
    const denied = await clientOf(await server().kubeconfigFor('no-leases', []));
    const leadership = candidate('denied', 'denied', denied);
    await leadership.start();
    await eventually(
      () => leadership.problem,
      (problem) => problem !== undefined,
    );
    expect(leadership.problem?.message).toMatch(/verbs get, create, update on leases\.coordination\.k8s\.io/);
    expect(leadership.leads).toBe(false);
  });
});
