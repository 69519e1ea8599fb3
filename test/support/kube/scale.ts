import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PoolView } from '../../../shared/wire/api.ts';
import { Daemon, waitUntil } from '../../lab/process.ts';
import type { Cleanup } from '../cleanup.ts';
import type { Cluster } from './fixtures.ts';
import { type KubeHub, startKubeHub } from './hub-process.ts';

const POOL_LABEL = 'apps.openyurt.io/nodepool';
const AGENTS_A_PROCESS = 500;
const CREATING_LANES = 16;
const POLL_MS = 100;
/** A hub that has just taken everybody in collects its garbage a little later. */
const SETTLE_MS = 3_000;

export interface ScaleInit {
  readonly agents: number;
  readonly pools: number;
  readonly hubBundle: string;
  readonly directory: string;
  /** Of each wait, ms. */
  readonly timeoutMs: number;
}

/** A hub with a broker of its own on a cluster of many nodes, each with a simulated agent. */
export interface ScaledHub {
  readonly hub: KubeHub;
  /** Seconds from the agents' start until the hub knows all of them and the tuning that each has. */
  readonly gatheredSeconds: number;
  /** Changes the tuning; the answer is the seconds until every agent has echoed the new one. */
  retune(data: Record<string, string>): Promise<number>;
  /** Waits until every agent works by a tuning other than the one in `before`. */
  untilTuned(before: ReadonlyMap<string, string>, timeoutMs?: number): Promise<void>;
  /** By pool. */
  hashes(): Promise<ReadonlyMap<string, string>>;
}

export function simulatedNode(index: number): string {
  return `sim-${index}`;
}

export function simulatedPool(index: number, pools: number): string {
  return `sim-pool-${index % pools}`;
}

/** The cluster has both CRDs already. Everything started ends by `cleanup`. */
export async function startScaledHub(
  cluster: Cluster,
  cleanup: Cleanup,
  init: ScaleInit,
): Promise<ScaledHub> {
  await makeNodes(cluster, init);
  await cluster.tune({ wan: 'wan:\n- {name: everyone, settings: {connections: 8}}' });
  const { directory, hubBundle: bundle, agents, pools, timeoutMs } = init;
  const { kubeconfig } = cluster.server;
  const hub = await startKubeHub(cleanup, { bundle, directory, name: 'scaled-hub', kubeconfig });
  const views = async (): Promise<PoolView[]> =>
    (await hub.get<PoolView[]>('/v1/pools')).filter(({ pool }) => pool.startsWith('sim-pool-'));
  let last = '';
  const until = async (what: string, ms: number, ready: (view: PoolView) => boolean): Promise<void> => {
    await waitUntil(
      async () => {
        const found = await views().catch((error: unknown) => {
          last = String(error);
          return [];
        });
        const done = found.filter(ready);
        if (found.length > 0) last = `${done.length} of ${found.length} pools`;
        return found.length === pools && done.length === pools;
      },
      { timeoutMs: ms, everyMs: POLL_MS, describe: () => `${what}: ${last}` },
    );
  };
  const perPool = agents / pools;
  await until('the hub sees the nodes', timeoutMs, ({ nodes }) => nodes === perPool);
  const started = performance.now();
  startAgents(cleanup, { ...init, broker: brokerOf(hub) });
  const isTuned = ({ online, tuned }: PoolView): boolean => online === perPool && tuned === perPool;
  await until('every agent is online', timeoutMs, isTuned);
  const gatheredSeconds = (performance.now() - started) / 1000;
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const hashes = async (): Promise<ReadonlyMap<string, string>> =>
    new Map((await views()).map(({ pool, tuningHash }) => [pool, tuningHash]));
  const untilTuned: ScaledHub['untilTuned'] = (before, ms = timeoutMs) =>
    until(
      'every agent has the new tuning',
      ms,
      (view) => isTuned(view) && view.tuningHash !== before.get(view.pool),
    );
  return {
    hub,
    gatheredSeconds,
    hashes,
    untilTuned,
    async retune(data) {
      const before = await hashes();
      const from = performance.now();
      await cluster.tune(data);
      await untilTuned(before);
      return (performance.now() - from) / 1000;
    },
  };
}

/** With addresses and about what kubelet writes besides, of which the hub keeps nothing. */
async function makeNodes(cluster: Cluster, { agents, pools }: ScaleInit): Promise<void> {
  const images = Array.from({ length: 40 }, (_, index) => ({
    names: [`registry.test/some/quite/long/name-${index}@sha256:${'0'.repeat(64)}`],
    sizeBytes: index * 1_000_000,
  }));
  const make = async (index: number): Promise<void> => {
    const addresses = [{ type: 'InternalIP', address: `10.2.${index >> 8}.${index & 255}` }];
    await cluster.server.call('POST', '/api/v1/nodes', {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: simulatedNode(index), labels: { [POOL_LABEL]: simulatedPool(index, pools) } },
      status: { addresses, images },
    });
    if (index < pools) await cluster.pool(simulatedPool(index, pools));
  };
  const lane = async (from: number): Promise<void> => {
    for (let index = from; index < agents; index += CREATING_LANES) await make(index);
  };
  await Promise.all(Array.from({ length: CREATING_LANES }, (_, from) => lane(from)));
}

function startAgents(cleanup: Cleanup, init: ScaleInit & { readonly broker: string }): void {
  const file = fileURLToPath(new URL('simulated-agents.ts', import.meta.url));
  for (let first = 0; first < init.agents; first += AGENTS_A_PROCESS) {
    const count = Math.min(AGENTS_A_PROCESS, init.agents - first);
    const daemon = new Daemon({
      label: `agents from ${first} on`,
      logFile: join(init.directory, `agents-${first}.log`),
      command: [
        process.execPath,
        '--import',
        import.meta.resolve('tsx'),
        file,
        init.broker,
        ...[first, count, init.pools].map(String),
      ],
    });
    cleanup.addProcess(daemon.label, () => daemon.stop());
  }
}

function brokerOf(hub: KubeHub): string {
  const address = /"mqtt":"([^"]+)"/.exec(hub.log())?.[1];
  if (address === undefined) throw new Error('the hub does not say where its broker is');
  return `mqtt://${address}`;
}
