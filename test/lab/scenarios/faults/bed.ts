import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeView } from '../../../../shared/wire/api.ts';
import { PEER_PORT } from '../../agent.ts';
import type { Findings } from '../../checks.ts';
import type { SampleImage } from '../../image.ts';
import type { Lab } from '../../lab.ts';
import { type Host, type PoolOfHosts, wrongBlobs } from '../../pool.ts';
import { waitUntil } from '../../process.ts';
import { statusIn } from '../agent-parts.ts';
import { type HostPull, lastLine, pullOn } from '../parts.ts';
import { wrongStoredBytes } from './stored-bytes.ts';

export const UPLINK_KBIT = 20_000;
/** Bytes of an image's layers: five seconds of the uplink. */
const LAYERS = [1_500_000, 3_000_000, 7_500_000];
/** After everything is mended the hub and all agents are of one mind within this. */
const AGREE_MS = 90_000;
const STATUS_PARALLEL_MS = 500;
/** What a failed pull says of itself: where it was refused, or broken off, or that its containerd was gone before it had begun. */
const CLEAR =
  /cannot access socket|unexpected EOF|connection re(set|fused)|EOF|status|502|503|504|not found|failed|mismatch|digest|timeout|killed/i;

export interface BedInit {
  readonly lab: Lab;
  readonly findings: Findings;
  readonly pool: PoolOfHosts;
}

/** What one fault is expected to leave. */
export interface Ends {
  readonly image: SampleImage;
  readonly pulls: readonly HostPull[];
  /** Hosts that something was done to: their pulls may end in an error. */
  readonly mayFail?: readonly Host[];
  /** Seconds that no pull may take. */
  readonly within: number;
}

/** A pool with a hub, in which one fault after the other is tried, and the same three questions are asked after each. */
export class Bed {
  readonly lab: Lab;
  readonly findings: Findings;
  readonly pool: PoolOfHosts;
  readonly #document: string;
  #images = 0;

  constructor(init: BedInit) {
    this.lab = init.lab;
    this.findings = init.findings;
    this.pool = init.pool;
    this.#document = join(init.lab.gatekeeper.documents, `${init.pool.name}.yaml`);
  }

  /** Tells the hub of the pool's nodes as they are now; `gateways` are the first so many. */
  declare(gateways = 0): void {
    writeFileSync(this.#document, clusterOf(this.pool, gateways));
  }

  async close(): Promise<void> {
    rmSync(this.#document, { force: true });
  }

  /** An image that no fault before has seen. */
  async image(layers: readonly number[] = LAYERS): Promise<SampleImage> {
    this.#images += 1;
    const name = `fault-${this.#images}-${layers.reduce((sum, bytes) => sum + bytes, 0)}`;
    return await this.lab.imageOf({ name, layers });
  }

  /** Every host pulls; an agent that something is done to may be pulled from again. */
  async pulls(image: SampleImage, hosts: readonly Host[] = this.pool.hosts): Promise<HostPull[]> {
    return await Promise.all(hosts.map((host) => pullOn(host, image, { timeoutMs: 180_000 })));
  }

  /** Runs one fault; what it throws is a finding of its own, and the next fault is tried all the same. */
  async fault(name: string, work: () => Promise<Ends>): Promise<void> {
    const began = performance.now();
    const before = this.findings.checks.length;
    try {
      await this.#threeQuestions(name, await work());
    } catch (error) {
      this.findings.isTrue(name, false, error instanceof Error ? error.message : String(error));
    }
    const seconds = (performance.now() - began) / 1000;
    const wrong = this.findings.checks.slice(before).filter(({ ok }) => !ok);
    this.lab.say(
      `   ${name}: ${seconds.toFixed(1)} s${wrong.map((check) => `\n      ${check.name}: ${check.found}`).join('')}`,
    );
    this.findings.add({ [name]: { seconds, ...this.#figures } });
    this.#figures = {};
  }

  /** A figure of the fault that is being tried. */
  note(figures: Record<string, unknown>): void {
    Object.assign(this.#figures, figures);
  }

  #figures: Record<string, unknown> = {};

  async #threeQuestions(name: string, ends: Ends): Promise<void> {
    const { image, pulls, mayFail = [], within } = ends;
    const problems: string[] = [];
    for (const { host, result, seconds } of pulls) {
      if (seconds > within) problems.push(`${host.name} took ${seconds.toFixed(1)} s of ${within}`);
      if (result.code === 0) problems.push(...(await wrongBlobs(host, image)));
      else if (!mayFail.some((each) => each.name === host.name) || !CLEAR.test(result.stderr))
        problems.push(`${host.name}: ${lastLine(result.stderr)}`);
    }
    this.note({ pullSeconds: Math.max(0, ...pulls.map(({ seconds }) => seconds)) });
    this.findings.none(`${name}: every pull ends right or in a clear error within its bound`, problems);
    this.findings.none(`${name}: every stored byte verifies`, await wrongStoredBytes(this.pool));
    const apart = await this.#disagreement();
    this.findings.none(`${name}: hub and agents agree in the end`, apart);
  }

  /** Waits until there is none. */
  async #disagreement(): Promise<string[]> {
    let last: string[] = [];
    try {
      await waitUntil(
        async () => {
          last = await this.#differences().catch((error: unknown) => [String(error)]);
          return last.length === 0;
        },
        { timeoutMs: AGREE_MS, everyMs: STATUS_PARALLEL_MS, describe: () => 'they do not agree' },
      );
    } catch {
      return last;
    }
    return [];
  }

  async #differences(): Promise<string[]> {
    const views = await this.lab.gatekeeper.get<NodeView[]>('/v1/nodes');
    const found = await Promise.all(
      this.pool.hosts.map(async (host): Promise<string[]> => {
        const view = views.find(({ node }) => node === host.name);
        if (view === undefined) return [`the hub does not know ${host.name}`];
        const status = await statusIn(host.netns);
        const others = status.members.filter(({ live }) => live).length;
        return [
          ...(view.online ? [] : [`the hub takes ${host.name} for gone`]),
          ...(status.hub?.connected === true ? [] : [`${host.name} has no link`]),
          ...(view.address === status.peers
            ? []
            : [`${host.name} is at ${status.peers}, the hub says ${view.address}`]),
          ...(view.tuningHash === status.tuningHash && view.tuned !== false
            ? []
            : [`${host.name} has another tuning`]),
          ...(others >= this.pool.hosts.length - 1 ? [] : [`${host.name} finds ${others} neighbours`]),
        ];
      }),
    );
    return found.flat();
  }
}

/** Waits until the hub and all agents are of one mind, before the first fault. */
export async function settled(bed: Bed, image: SampleImage): Promise<void> {
  await bed.fault('before any fault', async () => ({ image, pulls: await bed.pulls(image), within: 60 }));
}

function clusterOf(pool: PoolOfHosts, gateways: number): string {
  const nodes = pool.hosts.map(
    (host, index) => `apiVersion: v1
kind: Node
metadata:
  name: ${host.name}
  labels: {apps.openyurt.io/nodepool: ${pool.name}, uplink: ${index < gateways ? 'fibre' : 'none'}}
  annotations: {tidepool.dev/address: "${host.address}:${PEER_PORT}"}
`,
  );
  const swarm = `  swarm: |
    - name: fibre
      settings: {gateways: [{key: uplink, operator: In, values: [fibre]}]}
`;
  return `${nodes.join('---\n')}---
apiVersion: apps.openyurt.io/v1beta2
kind: NodePool
metadata: {name: ${pool.name}}
spec: {type: Edge}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: tidepool-tuning, namespace: kube-system}
data:
  wan: |
    - {name: everyone, settings: {connections: 8}}
${gateways > 0 ? swarm : ''}`;
}
