import type { DocumentTable, Index } from '../../edge/index/types.ts';
import { Members } from '../../edge/peers/members.ts';
import { Manifests } from '../../edge/transfer/manifests.ts';
import { OriginReader } from '../../edge/transfer/origin-reader.ts';
import { PoolContent } from '../../edge/transfer/pool-content.ts';
import { PoolService } from '../../edge/transfer/pool-service.ts';
import { TransferStats } from '../../edge/transfer/stats.ts';
import { Swarms } from '../../edge/transfer/swarms.ts';
import { WanBudget } from '../../edge/transfer/wan-budget.ts';
import { WanGate } from '../../edge/transfer/wan-gate.ts';
import type { Clock } from '../../shared/clock.ts';
import {
  type Digest,
  digestOf,
  type NodeName,
  type PoolName,
  parseNodeName,
  parsePoolName,
} from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import { EVERYTHING } from '../support/everything-allowed.ts';
import { SimClient } from './sim-client.ts';
import { SimOrigin } from './sim-origin.ts';
import { type NodeStore, SimStore } from './sim-store.ts';
import { seeded, VirtualClock } from './virtual-clock.ts';
import { Link } from './wires.ts';

/** Reads from the origin that a node has at a time. */
export const ORIGIN_SLOTS = 16;
const POOL: PoolName = parsePoolName('sim');

export interface WorldInit {
  readonly seed: number;
  readonly nodes: number;
  /** Bytes a second of the pool's uplink, and of each node's LAN port. */
  readonly uplink: number;
  readonly lan: number;
  /** Upper bound of a message's random delay, ms. */
  readonly jitterMs?: number;
  /** Share of small messages that are lost without a word. */
  readonly loss?: number;
  readonly gateways?: readonly number[];
  readonly wanCap?: number;
  /** The origin sends every blob from its first byte, whatever range is asked. */
  readonly rangeless?: boolean;
  /** A node's store at first; one without bytes where nothing is said. */
  readonly store?: (clock: VirtualClock) => NodeStore;
  /** Up to `most` bytes of a blob from `start`; zeros where nothing is said. */
  readonly content?: (digest: Digest, start: number, most: number) => Uint8Array;
}

/** What a node begins its life with, and what a life before may have left it. */
export interface NodeInit {
  readonly index: number;
  readonly address?: string;
  readonly store: NodeStore;
  readonly documents?: DocumentTable;
  readonly sizes?: ReadonlyMap<Digest, number>;
  readonly skewMs?: number;
}

/** One pool behind one uplink, made of the real decision code of each agent over simulated wires and time. */
export class World {
  readonly clock = new VirtualClock();
  readonly random: () => number;
  readonly uplink: Link;
  readonly nodes: SimNode[] = [];
  readonly init: WorldInit;
  /** Set false to cut the origin off. */
  wanUp = true;
  /** What each read from the origin fails with meanwhile. */
  originFails: (() => Error) | undefined;
  /** Small questions between nodes that have no answer yet. */
  questions = 0;
  /** Node pairs that cannot reach each other. */
  readonly cut = new Set<string>();

  constructor(init: WorldInit) {
    this.init = init;
    this.random = seeded(init.seed);
    this.uplink = new Link(this.clock, init.uplink);
    for (let index = 0; index < init.nodes; index++) {
      const store = init.store?.(this.clock) ?? new SimStore();
      this.nodes.push(new SimNode(this, { index, store }));
    }
    for (const node of this.nodes) {
      node.members.setRoster(this.nodes.map((other) => ({ node: other.name, address: other.address })));
    }
  }

  async start(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.start()));
  }

  at(address: string): SimNode | undefined {
    return this.nodes.find((node) => node.address === address);
  }

  reaches(a: SimNode, b: SimNode): boolean {
    return (
      a.alive && b.alive && !this.cut.has(`${a.index}-${b.index}`) && !this.cut.has(`${b.index}-${a.index}`)
    );
  }

  partition(left: readonly number[], right: readonly number[]): void {
    for (const a of left) for (const b of right) this.cut.add(`${a}-${b}`);
  }

  /** A node's next life. */
  async replace(init: NodeInit): Promise<SimNode> {
    const node = new SimNode(this, init);
    this.nodes[init.index] = node;
    await node.start();
    return node;
  }

  heal(): void {
    this.cut.clear();
  }

  node(index: number): SimNode {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`no node ${index}`);
    return node;
  }
}

/** Blob `n` of a given size; content is zeros. */
export function blobOf(n: number): Digest {
  return digestOf(Buffer.from(`blob ${n}`));
}

const FORGETFUL: DocumentTable = {
  get: () => undefined,
  put: () => undefined,
  delete: () => undefined,
  list: () => [],
};

function skewed(clock: Clock, ms: () => number): Clock {
  return {
    now: () => clock.now() + ms(),
    mono: () => clock.mono(),
    after: (wait, fn) => clock.after(wait, fn),
  };
}

export class SimNode {
  readonly index: number;
  readonly name: NodeName;
  readonly address: string;
  readonly store: NodeStore;
  readonly documents: DocumentTable;
  readonly stats = new TransferStats();
  readonly members: Members;
  readonly swarms: Swarms;
  readonly gate: WanGate;
  readonly budget: WanBudget;
  readonly service: PoolService;
  readonly content: PoolContent;
  readonly sizes = new Map<Digest, number>();
  readonly up: Link;
  readonly down: Link;
  alive = true;
  /** Reads from the origin come out wrong, and are hashed that way. */
  badMemory = false;
  /** By how much its own idea of the time of day is wrong. */
  skewMs: number;
  /** It takes connections and answers nothing. */
  stalled = false;
  /** It sends other bytes than it holds: without claiming so, or hashed as if they were right. */
  sends: 'right' | 'garbage' | 'lies' = 'right';
  /** Bytes read from the origin at each instant, for caps. */
  readonly wanLog: { at: number; bytes: number }[] = [];
  /** Asks that an origin without ranges has answered from the first byte, and the byte that was asked for. */
  readonly wholeReads: { at: number; digest: Digest; asked: number }[] = [];

  constructor(world: World, init: NodeInit) {
    const { index } = init;
    this.index = index;
    this.store = init.store;
    this.name = parseNodeName(`node-${index}`);
    this.address = init.address ?? `10.0.${index >> 8}.${index & 255}:6181`;
    for (const [digest, size] of init.sizes ?? []) this.sizes.set(digest, size);
    this.up = new Link(world.clock, world.init.lan);
    this.down = new Link(world.clock, world.init.lan);
    this.skewMs = init.skewMs ?? 0;
    const clock = skewed(world.clock, () => this.skewMs);
    const log = silentLogger();
    const documents = init.documents ?? FORGETFUL;
    this.documents = documents;
    const client = new SimClient(world, this);
    this.members = new Members({ client, documents, clock, log }, { self: this.name, pool: POOL, peers: [] });
    this.gate = new WanGate({ clock }, { connections: ORIGIN_SLOTS });
    const origin = new SimOrigin(world, this);
    const reader = new OriginReader(
      {
        origin,
        upstream: undefined,
        store: this.store,
        gate: this.gate,
        stats: this.stats,
        clock,
        log,
        random: world.random,
      },
      { self: this.name },
    );
    this.swarms = new Swarms({
      store: this.store,
      client,
      members: this.members,
      reader,
      gate: this.gate,
      stats: this.stats,
      clock,
      log,
    });
    this.swarms.configure({ gateways: new Set(world.init.gateways?.map((i) => `node-${i}`)), weight: 1 });
    this.budget = new WanBudget({ gate: this.gate, client, members: this.members, clock, log });
    const index_: Index = {
      manifests: { get: () => undefined, put: () => undefined },
      sizes: {
        get: (digest) => this.sizes.get(digest),
        put: (sizes) => {
          for (const [digest, size] of sizes) this.sizes.set(digest, size);
        },
      },
      tags: { list: () => [], put: () => undefined },
      documents,
    };
    const manifests = new Manifests({
      ...EVERYTHING,
      index: index_,
      store: this.store,
      origin,
      client,
      members: this.members,
      stats: this.stats,
      clock,
      log,
    });
    this.content = new PoolContent({
      ...EVERYTHING,
      index: index_,
      store: this.store,
      origin,
      client,
      members: this.members,
      manifests,
      swarms: this.swarms,
      clock,
    });
    this.service = new PoolService(
      {
        ...EVERYTHING,
        store: this.store,
        members: this.members,
        manifests,
        swarms: this.swarms,
        budget: this.budget,
        content: this.content,
        log,
      },
      { address: this.address, weight: () => 1 },
    );
    if (world.init.wanCap !== undefined)
      this.budget.setCaps({ download: world.init.wanCap, prefetchDownload: undefined });
  }

  async start(): Promise<void> {
    await this.members.start();
    await this.swarms.start();
    await this.budget.start();
  }

  /** Pulls blobs side by side, as a runtime does; the answer is when it was done, in virtual ms. */
  async pull(clock: VirtualClock, blobs: readonly { digest: Digest; size: number }[]): Promise<number> {
    await Promise.all(
      blobs.map(async ({ digest, size }) => {
        this.sizes.set(digest, size);
        const view = await this.content.blob({ registry: 'sim.example', repository: 'app', digest });
        let got = 0;
        for await (const lease of view.read({ start: 0, end: size, mode: 'whole' })) {
          got += lease.bytes.length;
          lease.release();
        }
        if (got !== size) throw new Error(`${this.name} read ${got} of ${size} bytes`);
      }),
    );
    return clock.mono();
  }

  async stop(): Promise<void> {
    await this.budget.stop();
    await this.swarms.stop();
    await this.members.stop();
  }

  /** Power off: nobody hears from it again. */
  kill(): void {
    this.alive = false;
  }
}
