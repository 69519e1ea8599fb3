import type { PrefetchStatus } from '../../../cloud/desired/types.ts';
import type { RuntimeStatus } from '../../../edge/ops/api.ts';
import type { NodeView } from '../../../shared/wire/api.ts';
import type { EventObject } from '../../support/kube/fixtures.ts';
import { Findings, Skip } from '../checks.ts';
import type { SampleImage } from '../image.ts';
import { type Lab, tagOf } from '../lab.ts';
import { REGISTRY_NAME } from '../origin.ts';
import type { Host, PoolOfHosts } from '../pool.ts';
import { waitUntil } from '../process.ts';
import { statusIn } from './agent-parts.ts';
import { ControlPlane, HUB_URL, NAMESPACE } from './control-plane.ts';
import { agentCli, eachHost, failed, listImages, shown as said, selfTest } from './cri.ts';

const UPLINK_KBIT = 200_000;
const POOL_LABEL = 'apps.openyurt.io/nodepool';
const TUNING = 'tidepool-tuning';
const HOSTS = 2;
const JOB_MS = 120_000;

/**
 * A real kube-apiserver and the hub in the cloud, two pools behind uplinks of their own. `kubectl apply` of an
 * ImagePrefetch fills the pool that is there; the other one's agents come up without their uplink, are counted as
 * offline, and get the image when it returns. Then kubectl changes the tuning, and names a pool that there is not.
 */
export async function kubernetes(lab: Lab): Promise<Findings> {
  const findings = new Findings({ strict: lab.options.strict });
  const release = lab.newest();
  if (release.major < 2)
    throw new Skip(`containerd ${release.version} has no CRI of its own to ask; set CONTAINERD_BIN`);
  const image = await lab.image('medium');
  const plane = await ControlPlane.start(lab);
  try {
    const options = { hosts: HOSTS, uplinkKbit: UPLINK_KBIT, release, cri: true, hub: HUB_URL, door: plane };
    const near = await lab.pool(options);
    const far = await lab.pool(options);
    await plane.apply(...cluster([near, far]));
    const configured = await Promise.all([near, far].map((pool) => configure(lab, pool)));
    findings.none('configure succeeds', configured.flat());
    const tests = await Promise.all([near, far].map((pool) => eachHost(pool, testAgain)));
    const wrong = tests.flat().filter(({ mirror }) => mirror !== 'yes');
    findings.none('every containerd pulls by way of its agent', wrong.map(said));
    await untilNodes(plane, 'all four agents online', (nodes) => online(nodes, near, far) === 2 * HOSTS);
    const bound = await lab.bound(near, UPLINK_KBIT, image);

    // As after a power cut from which the uplink has not come back.
    await eachHost(far, async ({ agent }) => await agent?.kill());
    await untilNodes(plane, 'two agents gone', (nodes) => online(nodes, far) === 0);
    await far.setUplink('down');
    await eachHost(far, async ({ agent }) => await agent?.start());

    const first = await near.countWan(async () => {
      await plane.apply(prefetch('web', image, [near.name, far.name]));
      return await untilStatus(plane, 'web', ({ succeeded, failed }) => succeeded + failed >= HOSTS);
    });
    const { succeeded, offline, failed: failures, desired, failedNodes } = first.result;
    const counts = `${succeeded} succeeded, ${offline} offline, ${failures} failed of ${desired}`;
    findings.isTrue(
      'the pool that is away is counted apart',
      counts === '2 succeeded, 2 offline, 0 failed of 4',
      `${counts} ${failedNodes.map(({ message }) => message).join()}`,
    );
    const row = first.result.pools.find(({ name }) => name === far.name);
    findings.isTrue('and in its row', row?.offline === HOSTS && row.succeeded === 0, JSON.stringify(row));
    const table = (await plane.kubectl('get', 'imageprefetch')).stdout.trimEnd();
    lab.say(table.replace(/^/gm, '   '));
    findings.isTrue(
      'kubectl shows the columns',
      /^NAME +DESIRED +SUCCEEDED +FAILED +OFFLINE +WAITING +WAN BYTES +AGE\nweb +4 +2 +0 +2 +\d+ +\d{8} +/.test(
        table,
      ),
      table,
    );

    const second = await far.countWan(async () => {
      await far.setUplink('up');
      return await untilStatus(plane, 'web', ({ succeeded, failed }) => succeeded + failed === 2 * HOSTS);
    });
    findings.isTrue('complete once it is back', second.result.succeeded === 2 * HOSTS, shown(second.result));
    await untilStatus(plane, 'web', ({ conditions }) => holds(conditions, 'Complete'));
    for (const [pool, { wan }] of [[near, first] as const, [far, second] as const]) {
      const name = `WAN bytes of ${pool === near ? 'the pool that was there' : 'the other one'} against one stream`;
      findings.atMost(name, wan.down / bound.wanBytes, { strict: 1.02, loose: 1.06 });
      const lists = await eachHost(pool, async (host) => ({
        host: host.name,
        names: await listImages(host),
      }));
      findings.none(
        `kubelet's view has it, ${pool === near ? 'there' : 'other'}`,
        lists
          .filter(({ names }) => !names.includes(tagOf(image)))
          .map(({ host, names }) => `${host}: ${names}`),
      );
    }

    const tuned = await retune(plane, [near, far]);
    findings.atMost('tuning edit until every agent echoes it, s', tuned, { strict: 2, loose: 20 });
    await unknownPool(plane, image, findings);
    findings.add({
      containerd: release.version,
      bound,
      wan: [first.wan, second.wan],
      tunedSeconds: tuned,
      agentPeakMib: Math.max(near.agentPeakMib(), far.agentPeakMib()),
    });
    return findings;
  } finally {
    await plane.stop();
  }
}

/** A test that began before `configure` ended tells of the time before; the next one does not. */
async function testAgain(host: Host): Promise<RuntimeStatus> {
  const first = await selfTest(host);
  return first.mirror === 'yes' ? first : await selfTest(host);
}

/** Nodes, NodePools and tuning, as an administrator writes them. */
function cluster(pools: readonly PoolOfHosts[]): object[] {
  const nodes = pools.flatMap((pool) =>
    pool.hosts.map(({ name, address }) => ({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name, labels: { [POOL_LABEL]: pool.name } },
      status: { addresses: [{ type: 'InternalIP', address }] },
    })),
  );
  const nodePools = pools.map(({ name }) => ({
    apiVersion: 'apps.openyurt.io/v1beta2',
    kind: 'NodePool',
    metadata: { name },
    spec: { type: 'Edge' },
  }));
  const tuning = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: TUNING, namespace: NAMESPACE },
    data: { wan: 'wan:\n- {name: everyone, settings: {connections: 8}}' },
  };
  return [...nodes, ...nodePools, tuning];
}

function prefetch(name: string, image: SampleImage, nodePools: readonly string[]): object {
  return {
    apiVersion: 'tidepool.dev/v1alpha1',
    kind: 'ImagePrefetch',
    metadata: { name },
    spec: { images: [{ image: tagOf(image) }], selector: { nodePools } },
  };
}

async function configure(lab: Lab, pool: PoolOfHosts): Promise<string[]> {
  return failed(
    await eachHost(pool, (host) =>
      agentCli(
        lab,
        host,
        'containerd',
        'configure',
        `--registry=${REGISTRY_NAME}`,
        `--root=${host.containerd.hostRoot}`,
      ),
    ),
  );
}

/** Changes the tuning and answers how many seconds later every agent has said that it works by it; kubectl included. */
async function retune(plane: ControlPlane, pools: readonly PoolOfHosts[]): Promise<number> {
  const before = new Set((await plane.get<NodeView[]>('/v1/nodes')).map(({ tuningHash }) => tuningHash));
  const data = { wan: 'wan:\n- {name: everyone, settings: {connections: 4, download: 50Mbit}}' };
  const started = performance.now();
  const patch = JSON.stringify({ data });
  await plane.kubectl(
    'patch',
    'configmap',
    TUNING,
    `--namespace=${NAMESPACE}`,
    '--type=merge',
    `--patch=${patch}`,
  );
  const nodes = await untilNodes(plane, 'the new tuning on every node', (all) =>
    all.every(({ tuned, tuningHash }) => tuned === true && !before.has(tuningHash)),
  );
  const seconds = (performance.now() - started) / 1000;
  for (const host of pools.flatMap((pool) => pool.hosts)) {
    const own = (await statusIn(host.netns)).tuningHash;
    const told = nodes.find(({ node }) => node === host.name)?.tuningHash;
    if (own === null || own !== told)
      throw new Error(`${host.name} works by ${own}, the hub was told ${told}`);
  }
  return seconds;
}

/** A job for a pool that there is not says so, in its status and as an Event. */
async function unknownPool(plane: ControlPlane, image: SampleImage, findings: Findings): Promise<void> {
  await plane.apply(prefetch('lost', image, ['nowhere']));
  const status = await untilStatus(plane, 'lost', ({ conditions }) =>
    conditions.some(({ message }) => message.includes('nowhere')),
  );
  const said = status.conditions.find(({ message }) => message.includes('nowhere'));
  findings.isTrue('status names the unknown pool', /pool/.test(said?.message ?? ''), said?.message);
  let events: readonly EventObject[] = [];
  await waitUntil(
    async () => {
      const list = await plane.server.call('GET', '/api/v1/namespaces/default/events');
      events = parseEvents(list).filter(({ involvedObject }) => involvedObject.name === 'lost');
      return events.some(({ message }) => message.includes('nowhere'));
    },
    { timeoutMs: 30_000, everyMs: 200, describe: () => `no Event about pool nowhere; ${plane.tail()}` },
  );
  const event = events.find(({ message }) => message.includes('nowhere'));
  findings.isTrue('and so does an Event', event?.type === 'Warning', `${event?.reason}: ${event?.message}`);
}

async function untilNodes(
  plane: ControlPlane,
  what: string,
  ready: (nodes: readonly NodeView[]) => boolean,
): Promise<readonly NodeView[]> {
  let nodes: readonly NodeView[] = [];
  await waitUntil(
    async () => {
      nodes = await plane.get<NodeView[]>('/v1/nodes').catch(() => []);
      return nodes.length === 2 * HOSTS && ready(nodes);
    },
    {
      timeoutMs: 40_000,
      everyMs: 50,
      describe: () => `${what}: never; nodes ${JSON.stringify(nodes)}; ${plane.tail()}`,
    },
  );
  return nodes;
}

async function untilStatus(
  plane: ControlPlane,
  job: string,
  ready: (status: PrefetchStatus) => boolean,
): Promise<PrefetchStatus> {
  const path = `/apis/tidepool.dev/v1alpha1/imageprefetches/${job}`;
  let status: PrefetchStatus | undefined;
  await waitUntil(
    async () => {
      status = parseStatus(await plane.server.call('GET', path));
      return status !== undefined && ready(status);
    },
    {
      timeoutMs: JOB_MS,
      everyMs: 200,
      describe: () => `${job}: ${JSON.stringify(status)}; ${plane.tail()}`,
    },
  );
  if (status === undefined) throw new Error(`${job} has no status`);
  return status;
}

function online(nodes: readonly NodeView[], ...pools: readonly PoolOfHosts[]): number {
  const names = new Set(pools.flatMap((pool) => pool.hosts.map(({ name }) => name)));
  return nodes.filter((node) => node.online && names.has(node.node)).length;
}

function holds(conditions: PrefetchStatus['conditions'], type: string): boolean {
  return conditions.some((condition) => condition.type === type && condition.status === 'True');
}

function shown({ succeeded, failed: failures, offline, desired, failedNodes }: PrefetchStatus): string {
  return `${succeeded} of ${desired}, ${failures} failed, ${offline} offline; ${JSON.stringify(failedNodes)}`;
}

function parseStatus(object: unknown): PrefetchStatus | undefined {
  return (object as { status?: PrefetchStatus }).status;
}

function parseEvents(list: unknown): readonly EventObject[] {
  return (list as { items: EventObject[] }).items;
}
