import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { AgentProcess } from './agent.ts';
import { Containerd, type ContainerdRelease, type Upstream } from './containerd.ts';
import type { SampleImage } from './image.ts';
import { ORIGIN_URL } from './origin.ts';
import type { LinkCounters, PoolNetwork, Topology, UplinkState } from './topology.ts';
import { removeTree } from './workspace.ts';

export interface Host {
  readonly name: string;
  readonly netns: string;
  /** Changes only by {@link PoolOfHosts.readdress}. */
  readonly address: string;
  readonly containerd: Containerd;
  /** Undefined in a pool of plain containerds. */
  readonly agent: AgentProcess | undefined;
}

export interface PoolInit {
  readonly network: PoolNetwork;
  readonly directory: string;
  readonly release: ContainerdRelease;
  readonly upstream: Upstream;
  /** The agent's bundle; unused with upstream `origin`. */
  readonly bundle: string;
  /** Where an agent finds the registry; by default the healthy one. */
  readonly originOf?: (index: number) => string;
  readonly extraFlags?: readonly string[];
  /** How agents get their certificates; nothing: plain connections. */
  readonly trust: readonly string[];
  /** containerd serves CRI, and the agent is told of it. */
  readonly cri?: boolean;
  /** A broker of the hub that tells agents of each other. */
  readonly hub?: string;
}

const POLL_MS = 20;

/** Hosts behind one uplink, each with a containerd and, but for baselines, an agent. */
export class PoolOfHosts {
  hosts: readonly Host[];
  readonly network: PoolNetwork;
  readonly #topology: Topology;
  readonly #directory: string;

  constructor(components: { topology: Topology }, init: PoolInit) {
    this.#topology = components.topology;
    this.network = init.network;
    this.#directory = init.directory;
    const members = init.network.hosts.map((host) => host.address);
    this.hosts = init.network.hosts.map(({ netns, address }, index) => {
      // Hubs know nodes by name: no two pools have one in common.
      const name = `p${init.network.index}h${index + 1}`;
      const directory = join(init.directory, name);
      mkdirSync(directory, { recursive: true });
      const { release, upstream, cri = false } = init;
      const containerd = new Containerd({ netns, directory, release, upstream, cri });
      const agent =
        init.upstream === 'origin'
          ? undefined
          : new AgentProcess({
              bundle: init.bundle,
              netns,
              node: name,
              pool: this.name,
              address,
              members,
              directory,
              origin: init.originOf?.(index) ?? ORIGIN_URL,
              extraFlags: init.extraFlags ?? [],
              trust: init.trust,
              ...(init.hub === undefined ? {} : { hub: init.hub }),
              ...(cri ? { cri: { socket: containerd.socket, hostRoot: containerd.hostRoot } } : {}),
            });
      return { name, netns, address, containerd, agent };
    });
  }

  get name(): string {
    return `pool-${this.network.index}`;
  }

  async start(): Promise<void> {
    await Promise.all(
      this.hosts.map(async (host) => {
        await host.containerd.start();
        await host.agent?.start();
      }),
    );
  }

  /** Every host as on its first day. */
  async reset(): Promise<void> {
    await Promise.all(
      this.hosts.map(async (host) => {
        await host.containerd.reset();
        await host.agent?.reset();
      }),
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.agent?.stop()));
    await Promise.all(this.hosts.map((host) => host.containerd.stop()));
    await this.#topology.removePool(this.network);
    await removeTree(this.#directory);
  }

  /** The host of that number, from 0. @throws Error where there is none */
  host(index: number): Host {
    const host = this.hosts[index];
    if (host === undefined) throw new Error(`the pool has ${this.hosts.length} hosts, not ${index + 1}`);
    return host;
  }

  /** What went over the uplink while `work` ran. */
  async countWan<T>(work: () => Promise<T>): Promise<{ result: T; wan: LinkCounters }> {
    const before = await this.#topology.counters(this.network);
    const result = await work();
    const after = await this.#topology.counters(this.network);
    return { result, wan: { down: after.down - before.down, up: after.up - before.up } };
  }

  /** Processor seconds of all agents so far. */
  agentCpuSeconds(): number {
    return this.hosts.reduce((sum, host) => sum + (host.agent?.cpuSeconds ?? 0), 0);
  }

  /** MiB of the agent that once took most. */
  agentPeakMib(): number {
    return Math.max(0, ...this.hosts.map((host) => host.agent?.memoryMib.peak ?? 0));
  }

  /** Moves every host to other addresses of the pool's network. Nothing of theirs may run meanwhile. */
  async readdress(): Promise<void> {
    const moved = this.hosts.map((host, index) => ({
      ...host,
      address: `10.77.${this.network.index}.${101 + index}`,
    }));
    for (const [index, host] of moved.entries()) {
      await this.#topology.readdress(this.network, host.netns, this.host(index).address, host.address);
      if (host.agent !== undefined) host.agent.address = host.address;
    }
    this.hosts = moved;
  }

  /** Parts the first `count` hosts from the others, runs `work`, and lets them reach each other again. */
  async parted<T>(count: number, work: () => Promise<T>): Promise<T> {
    const sides = [this.hosts.slice(0, count), this.hosts.slice(count)] as const;
    await this.#topology.part(sides, true);
    try {
      return await work();
    } finally {
      await this.#topology.part(sides, false);
    }
  }

  async shapeUplink(kbit: number): Promise<void> {
    await this.#topology.shapeUplink(this.network, kbit);
  }

  async setUplink(state: UplinkState): Promise<void> {
    await this.#topology.setUplink(this.network, state);
  }
}

/** Seconds from the call until every blob is whole in a host's content store, or undefined once `signal` fires. */
export async function wholeAfter(
  host: Host,
  image: SampleImage,
  signal: AbortSignal,
): Promise<number | undefined> {
  const started = performance.now();
  let missing = image.blobs.map((blob) => host.containerd.blobPath(blob.digest));
  while (!signal.aborted) {
    missing = missing.filter((path) => !existsSync(path));
    if (missing.length === 0) return (performance.now() - started) / 1000;
    await delay(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
  return undefined;
}

/** Resolves when a host's containerd holds that share of the image's bytes, or `signal` fires. */
export async function untilShare(
  host: Host,
  image: SampleImage,
  share: number,
  signal: AbortSignal,
): Promise<void> {
  // What it has of other images is no part of this one.
  const enough = host.containerd.bytesHeld() + share * image.bytes;
  while (!signal.aborted && host.containerd.bytesHeld() < enough) {
    await delay(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Reads every blob of the image from the content store and names those that are missing or whose digest differs. */
export async function wrongBlobs(host: Host, image: SampleImage): Promise<string[]> {
  const wrong: string[] = [];
  for (const digest of new Set([image.digest, image.manifest, ...image.blobs.map((blob) => blob.digest)])) {
    const path = host.containerd.blobPath(digest);
    if (!existsSync(path)) {
      wrong.push(`${host.name} lacks ${digest}`);
      continue;
    }
    const hash = createHash('sha256');
    await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
    const found = `sha256:${hash.digest('hex')}`;
    if (found !== digest) wrong.push(`${host.name} holds ${found} under ${digest}`);
  }
  return wrong;
}
