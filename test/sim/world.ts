import type { DocumentTable, Index, RepositoryName } from '../../edge/index/types.ts';
import type { OriginBody, RegistryOrigin } from '../../edge/origin/types.ts';
import { Members } from '../../edge/peers/members.ts';
import type { Member, PeerClient, PieceAnswer } from '../../edge/peers/types.ts';
import { Manifests } from '../../edge/transfer/manifests.ts';
import { OriginReader } from '../../edge/transfer/origin-reader.ts';
import { PoolContent } from '../../edge/transfer/pool-content.ts';
import { PoolService } from '../../edge/transfer/pool-service.ts';
import { TransferStats } from '../../edge/transfer/stats.ts';
import { Swarms } from '../../edge/transfer/swarms.ts';
import { WanBudget } from '../../edge/transfer/wan-budget.ts';
import { WanGate } from '../../edge/transfer/wan-gate.ts';
import { TidepoolError } from '../../shared/errors.ts';
import {
  type BlobKey,
  type Digest,
  digestOf,
  type NodeName,
  type PoolName,
  parseNodeName,
  parsePoolName,
} from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import { pieceLength } from '../../shared/pieces.ts';
import { EVERYTHING } from '../support/everything-allowed.ts';
import { SimStore } from './sim-store.ts';
import { seeded, VirtualClock } from './virtual-clock.ts';

const CHUNK = 64 * 1024;
/** On a thin uplink flows share it packet by packet. */
const PACKET = 1448;
/** From an ask of the origin to the first byte of its answer. */
const ORIGIN_MS = 20;
const ZEROS = Buffer.alloc(CHUNK);
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
}

/** A wire that serves one chunk after the other. */
class Link {
  readonly #clock: VirtualClock;
  readonly #rate: number;
  #free = 0;
  bytes = 0;

  constructor(clock: VirtualClock, rate: number) {
    this.#clock = clock;
    this.#rate = rate;
  }

  /** When `bytes` that start now, or when the wire is free, are through. */
  reserve(bytes: number, from: number): number {
    this.bytes += bytes;
    this.#free = Math.max(this.#free, from) + (bytes / this.#rate) * 1000;
    return this.#free;
  }

  send(bytes: number): Promise<void> {
    return this.#clock.sleep(this.reserve(bytes, this.#clock.mono()) - this.#clock.mono());
  }
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
  /** Node pairs that cannot reach each other. */
  readonly cut = new Set<string>();

  constructor(init: WorldInit) {
    this.init = init;
    this.random = seeded(init.seed);
    this.uplink = new Link(this.clock, init.uplink);
    for (let i = 0; i < init.nodes; i++) this.nodes.push(new SimNode(this, i));
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

export class SimNode {
  readonly index: number;
  readonly name: NodeName;
  readonly address: string;
  readonly store = new SimStore();
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
  /** Bytes read from the origin at each instant, for caps. */
  readonly wanLog: { at: number; bytes: number }[] = [];
  /** Asks that an origin without ranges has answered from the first byte, and the byte that was asked for. */
  readonly wholeReads: { at: number; digest: Digest; asked: number }[] = [];

  constructor(world: World, index: number) {
    this.index = index;
    this.name = parseNodeName(`node-${index}`);
    this.address = `10.0.${index >> 8}.${index & 255}:6181`;
    this.up = new Link(world.clock, world.init.lan);
    this.down = new Link(world.clock, world.init.lan);
    const { clock } = world;
    const log = silentLogger();
    const documents: DocumentTable = {
      get: () => undefined,
      put: () => undefined,
      delete: () => undefined,
      list: () => [],
    };
    const client = new SimClient(world, this);
    this.members = new Members({ client, documents, clock, log }, { self: this.name, pool: POOL, peers: [] });
    this.gate = new WanGate({ clock }, { connections: 16 });
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

  /** Power off: nobody hears from it again. */
  kill(): void {
    this.alive = false;
  }
}

class SimOrigin implements RegistryOrigin {
  readonly #world: World;
  readonly #node: SimNode;

  constructor(world: World, node: SimNode) {
    this.#world = world;
    this.#node = node;
  }

  async blob(request: Parameters<RegistryOrigin['blob']>[0]): Promise<OriginBody> {
    const world = this.#world;
    const node = this.#node;
    const ranged = world.init.rangeless !== true;
    const size = node.sizes.get(request.digest);
    if (ranged && request.end === undefined) throw new Error('the simulated origin is asked for ranges only');
    const start = ranged ? request.start : 0;
    const end = ranged ? request.end : size;
    if (end === undefined) throw new Error(`${node.name} does not know the size of ${request.digest}`);
    await world.clock.sleep(ORIGIN_MS);
    if (!ranged) {
      node.wholeReads.push({ at: world.clock.mono(), digest: request.digest, asked: request.start });
      // Sent before the reader can call it off.
      if (request.end !== undefined && request.end < end) world.uplink.reserve(2 * CHUNK, world.clock.mono());
    }
    async function* body(): AsyncGenerator<Uint8Array> {
      for (let position = start; position < (end ?? 0); ) {
        request.signal?.throwIfAborted();
        if (!world.wanUp || !node.alive) {
          await world.clock.sleep(1_000);
          throw new TidepoolError('ORIGIN_UNREACHABLE', 'the uplink is down');
        }
        const length = Math.min(world.init.uplink < 1e6 ? PACKET : CHUNK, (end ?? 0) - position);
        await world.uplink.send(length);
        node.wanLog.push({ at: world.clock.mono(), bytes: length });
        position += length;
        const chunk = ZEROS.subarray(0, length);
        yield node.badMemory ? Buffer.from(chunk).fill(1) : chunk;
      }
    }
    return { ranged, start, size: undefined, body: body() };
  }

  async manifest(): Promise<never> {
    throw new TidepoolError('MANIFEST_UNKNOWN', 'no manifests here');
  }

  async blobSize(): Promise<never> {
    if (!this.#world.wanUp) throw new TidepoolError('ORIGIN_UNREACHABLE', 'the uplink is down');
    throw new TidepoolError('BLOB_UNKNOWN', 'sizes are known here');
  }

  async passThrough(): Promise<never> {
    throw new TidepoolError('NOT_FOUND', 'nothing passes through here');
  }

  downSince(): undefined {
    return undefined;
  }
}

/** Calls the other node's service after a delay; bytes pass through both ports. */
class SimClient implements PeerClient {
  readonly #world: World;
  readonly #node: SimNode;

  constructor(world: World, node: SimNode) {
    this.#world = world;
    this.#node = node;
  }

  async hello(address: string, signal: AbortSignal) {
    return this.#call(address, signal, (service) => service.hello());
  }

  join(member: Member, request: Parameters<PeerClient['join']>[1], signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.join(this.#node.name, request));
  }

  async leave(member: Member, key: BlobKey, signal: AbortSignal): Promise<void> {
    await this.#call(member.address, signal, (service) => service.leave(this.#node.name, key));
  }

  progress(member: Member, key: BlobKey, name: RepositoryName, signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.progress(key, name));
  }

  claims(member: Member, key: BlobKey, name: RepositoryName, signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.claims(key, name));
  }

  async upstream(): Promise<never> {
    throw new TidepoolError('NOT_FOUND', 'no upstream pool here');
  }

  manifest(member: Member, digest: Digest, name: RepositoryName, signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.manifest(digest, name));
  }

  tags(member: Member, name: Parameters<PeerClient['tags']>[1], signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.tags(name));
  }

  holdings(member: Member, digests: readonly Digest[], name: RepositoryName, signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.holdings(digests, name));
  }

  size(member: Member, digest: Digest, name: RepositoryName, signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.size(digest, name));
  }

  async access(): Promise<never> {
    throw new TidepoolError('NOT_FOUND', 'everything is allowed here');
  }

  async grants(): Promise<never> {
    throw new TidepoolError('NOT_FOUND', 'everything is allowed here');
  }

  lease(member: Member, request: Parameters<PeerClient['lease']>[1], signal: AbortSignal) {
    return this.#call(member.address, signal, (service) => service.lease(this.#node.name, request));
  }

  async piece(
    member: Member,
    ask: Parameters<PeerClient['piece']>[1],
    signal: AbortSignal,
    onBytes?: (count: number) => void,
  ): Promise<PieceAnswer> {
    const world = this.#world;
    const served = await this.#call(
      member.address,
      signal,
      (service) => service.piece(this.#node.name, ask, signal),
      true,
    );
    if (served.kind !== 'held') return served;
    const sender = world.at(member.address);
    const bytes = pieceLength(ask.layout, ask.piece);
    const from = world.clock.mono();
    const through = Math.max(sender?.up.reserve(bytes, from) ?? from, this.#node.down.reserve(bytes, from));
    await abortable(world.clock.sleep(through - from), signal);
    if (sender === undefined || !world.reaches(sender, this.#node)) throw unreachable(member.address);
    onBytes?.(bytes);
    return { kind: 'bytes', buffer: await this.#node.store.buffer(bytes), claim: served.claim };
  }

  /** Small messages may be late or lost; a dead node answers nothing, and its silence is noticed after a second. */
  async #call<T>(
    address: string,
    signal: AbortSignal,
    answer: (service: PoolService) => T | Promise<T>,
    held = false,
  ): Promise<T> {
    const world = this.#world;
    const target = world.at(address);
    const delay = (): Promise<void> => world.clock.sleep(0.2 + world.random() * (world.init.jitterMs ?? 1));
    await abortable(delay(), signal);
    const lost = !held && world.random() < (world.init.loss ?? 0);
    if (target === undefined || !world.reaches(this.#node, target) || lost) {
      await abortable(world.clock.sleep(1_000), signal);
      throw unreachable(address);
    }
    target.service.heard(this.#node.name, this.#node.address);
    const value = await abortable(Promise.resolve(answer(target.service)), signal, world, () =>
      world.reaches(this.#node, target),
    );
    await abortable(delay(), signal);
    if (!world.reaches(this.#node, target)) throw unreachable(address);
    return value;
  }
}

function unreachable(address: string): TidepoolError {
  return new TidepoolError('PEER_UNREACHABLE', `${address} does not answer`);
}

/** `work`, or the signal's reason; with `reaches`, also a broken connection is noticed, as keep-alives would. */
async function abortable<T>(
  work: Promise<T>,
  signal: AbortSignal,
  world?: World,
  reaches?: () => boolean,
): Promise<T> {
  signal.throwIfAborted();
  let onAbort: () => void = () => undefined;
  let settled = false;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    const watch = (): void => {
      if (settled || world === undefined || reaches === undefined) return;
      if (reaches()) world.clock.after(500, watch);
      else reject(unreachable('the neighbour'));
    };
    world?.clock.after(500, watch);
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    settled = true;
    work.catch(() => undefined);
    aborted.catch(() => undefined);
    signal.removeEventListener('abort', onAbort);
  }
}
