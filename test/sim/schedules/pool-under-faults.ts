import { every } from '../../../shared/clock.ts';
import { TidepoolError } from '../../../shared/errors.ts';
import { ByteStore, contentFrom } from '../byte-store.ts';
import { type SimNode, World } from '../world.ts';
import { MemoryDocuments } from './memory-documents.ts';
import { ALL_OFFLINE, type Fault, type Schedule } from './schedule.ts';

const LAN = 125e6;
const THIN_UPLINK = 32_000;
const FLAP_MS = 3_000;
const BEACON_MS = 5_000;
/** Members that came back offline find each other within this, before the uplink is there again. */
export const FIND_MS = 2 * BEACON_MS;

/** What lies on a node's disk. */
interface Disk {
  store: ByteStore;
  documents: MemoryDocuments;
}

/** A pool of one schedule, and what breaks and mends it. */
export class PoolUnderFaults {
  readonly world: World;
  readonly #schedule: Schedule;
  readonly #disks: Disk[] = [];
  /** Why each node is down; it comes back when nothing keeps it down any more. */
  readonly #down: number[] = [];
  readonly #lives: number[] = [];
  readonly #moved = new Set<number>();
  readonly #originTroubles = new Map<Fault, (() => Error) | 'cut'>();
  readonly #thin = new Set<Fault>();
  readonly #partitions = new Set<Fault>();
  #stopBeacons: () => void = () => undefined;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
    const { seed, nodes, uplink, jitterMs } = schedule;
    this.world = new World({
      seed,
      nodes,
      uplink,
      lan: LAN,
      jitterMs,
      content: contentFrom,
      // Replaced below, where their disks are known.
      store: (clock) => new ByteStore(clock),
    });
  }

  async start(): Promise<void> {
    const { world } = this;
    const late = this.#schedule.faults.filter(({ kind }) => kind === 'join').flatMap(({ nodes }) => nodes);
    for (const { index } of world.nodes) {
      this.#disks.push({ store: new ByteStore(world.clock), documents: new MemoryDocuments() });
      this.#down.push(0);
      this.#lives.push(0);
      await this.#boot(index);
    }
    for (const node of world.nodes) {
      const others = world.nodes.filter(({ index }) => index !== node.index && !late.includes(index));
      node.members.setRoster(others.map(({ name, address }) => ({ node: name, address })));
    }
    this.#stopBeacons = every(world.clock, BEACON_MS, () => this.#beacons());
    for (const fault of this.#schedule.faults) {
      world.clock.after(fault.at, () => void this.#breakBy(fault));
    }
  }

  async stop(): Promise<void> {
    this.#stopBeacons();
    for (const node of this.world.nodes) {
      node.kill();
      await node.stop();
    }
  }

  store(index: number): ByteStore {
    return this.#disk(index).store;
  }

  /** Grows with each of a node's lives. */
  life(index: number): number {
    return this.#lives[index] ?? 0;
  }

  /** Nodes that are up now. */
  get alive(): SimNode[] {
    return this.world.nodes.filter((node) => node.alive);
  }

  #disk(index: number): Disk {
    const disk = this.#disks[index];
    if (disk === undefined) throw new Error(`no node ${index}`);
    return disk;
  }

  async #breakBy(fault: Fault): Promise<void> {
    const mend = this.#apply(fault);
    if (fault.kind === 'leave') return;
    await this.world.clock.sleep(fault.lasts);
    await mend();
  }

  /** The answer mends it. */
  #apply(fault: Fault): () => void | Promise<void> {
    const { world } = this;
    const nodes = fault.nodes.map((index) => world.node(index));
    switch (fault.kind) {
      case 'restart':
      case 'restart half':
      case 'join':
      case 'leave':
        return this.#takeDown(fault, 'kept');
      case 'index lost':
        return this.#takeDown(fault, 'lost');
      case ALL_OFFLINE: {
        const reconnect = this.#cutOrigin(fault, 'cut');
        const boot = this.#takeDown(fault, 'kept');
        // They find each other before the uplink is there again.
        return async () => {
          await boot();
          await world.clock.sleep(FIND_MS);
          reconnect();
        };
      }
      case 'partition':
        this.#partitions.add(fault);
        this.#rewire();
        return () => {
          this.#partitions.delete(fault);
          this.#rewire();
        };
      case 'uplink cut':
        return this.#cutOrigin(fault, 'cut');
      case 'uplink flaps': {
        let up = true;
        const stop = every(world.clock, FLAP_MS, () => {
          up = !up;
          if (up) this.#originTroubles.delete(fault);
          else this.#originTroubles.set(fault, 'cut');
          this.#retune();
        });
        return () => {
          stop();
          this.#originTroubles.delete(fault);
          this.#retune();
        };
      }
      case 'thin uplink':
        this.#thin.add(fault);
        this.#retune();
        return () => {
          this.#thin.delete(fault);
          this.#retune();
        };
      case 'origin errors':
        return this.#cutOrigin(
          fault,
          () =>
            new TidepoolError('ORIGIN_ERROR', 'the registry answers 503', { details: { retryable: true } }),
        );
      case 'garbage':
      case 'lies':
        for (const node of nodes) node.sends = fault.kind;
        return () => {
          for (const node of nodes) node.sends = 'right';
        };
      case 'bad memory':
        for (const node of nodes) node.badMemory = true;
        return () => {
          for (const node of nodes) node.badMemory = false;
        };
      case 'stall':
        for (const node of nodes) node.stalled = true;
        return () => {
          for (const node of nodes) node.stalled = false;
        };
      case 'disk full':
        for (const { index } of nodes) this.store(index).full = true;
        return () => {
          for (const { index } of nodes) this.store(index).full = false;
        };
      case 'clock':
        for (const node of nodes) node.skewMs = fault.skewMs;
        return () => {
          for (const node of nodes) node.skewMs = 0;
        };
    }
  }

  #takeDown(fault: Fault, index: 'kept' | 'lost'): () => Promise<void> {
    for (const node of fault.nodes) {
      this.#down[node] = (this.#down[node] ?? 0) + 1;
      if (fault.moved) this.#moved.add(node);
      this.#powerCut(node, index);
    }
    return async () => {
      for (const node of fault.nodes) {
        this.#down[node] = (this.#down[node] ?? 0) - 1;
        if (this.#down[node] === 0) await this.#boot(node);
      }
    };
  }

  #powerCut(index: number, kept: 'kept' | 'lost'): void {
    const node = this.world.node(index);
    const disk = this.#disk(index);
    const { full } = disk.store;
    disk.store = disk.store.afterPowerCut(kept);
    disk.store.full = full;
    disk.documents = kept === 'lost' ? new MemoryDocuments() : new MemoryDocuments(disk.documents);
    if (!node.alive) return;
    node.kill();
    void node.stop();
  }

  async #boot(index: number): Promise<void> {
    const { store, documents } = this.#disk(index);
    const before = this.world.node(index);
    const life = (this.#lives[index] ?? 0) + 1;
    this.#lives[index] = life;
    const address = this.#moved.delete(index) ? `10.1.${life}.${index}:6181` : before.address;
    await this.world.replace({ index, store, documents, address, skewMs: before.skewMs });
  }

  #cutOrigin(fault: Fault, how: (() => Error) | 'cut'): () => void {
    this.#originTroubles.set(fault, how);
    this.#retune();
    return () => {
      this.#originTroubles.delete(fault);
      this.#retune();
    };
  }

  #retune(): void {
    const { world } = this;
    const troubles = [...this.#originTroubles.values()];
    world.wanUp = !troubles.includes('cut');
    world.originFails = troubles.find((trouble) => trouble !== 'cut');
    world.uplink.rate = this.#thin.size > 0 ? THIN_UPLINK : this.#schedule.uplink;
  }

  #rewire(): void {
    const { world } = this;
    world.heal();
    for (const { nodes } of this.#partitions) {
      const others = world.nodes.map(({ index }) => index).filter((index) => !nodes.includes(index));
      world.partition(nodes, others);
    }
  }

  /** What beacons on the LAN do: each says where it is to whoever it reaches. */
  #beacons(): void {
    for (const from of this.alive) {
      for (const to of this.alive) {
        if (from !== to && !from.stalled && this.world.reaches(from, to)) to.members.consider(from.address);
      }
    }
  }
}
