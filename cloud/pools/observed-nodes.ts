import type { Clock } from '../../shared/clock.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { BirthMessage, DeathMessage } from '../../shared/wire/messages/birth.ts';
import type { PrefetchProgress } from '../../shared/wire/messages/prefetch.ts';
import type { NodeCounters, ReportMessage, RuntimeReport } from '../../shared/wire/messages/report.ts';
import type { Problem } from '../desired/types.ts';

const MAX_PROBLEM_NODES = 100;

/** Nodes remembered at most; a birth beyond is refused, so that a flood of invented names ends. */
const MAX_NODES = 50_000;
/** Jobs remembered a node; the oldest reported goes first. */
const MAX_PREFETCHES = 1_000;
/** A node is asked for everything at most this often. */
const RESYNC_MS = 10_000;

/** What a node said of itself. */
export interface ObservedNode {
  readonly node: NodeName;
  readonly pool: PoolName;
  readonly address: string;
  readonly version: string;
  readonly platform: string;
  readonly online: boolean;
  /** Wall clock of the hub, ms. */
  readonly lastSeen: number;
  readonly tuningHash: string | undefined;
  /** What it was told and has not in force, in words. */
  readonly tuningProblems: readonly string[];
  readonly counters: NodeCounters | undefined;
  /** Of the boot that speaks now; undefined before it has said so. */
  readonly runtime: RuntimeReport | undefined;
  readonly prefetches: ReadonlyMap<string, PrefetchProgress>;
}

/** What of a node outlives the hub: enough to keep rosters whole while agents find their way back. */
export type RememberedNode = Pick<
  ObservedNode,
  'node' | 'pool' | 'address' | 'version' | 'platform' | 'lastSeen'
>;

interface Entry extends ObservedNode {
  bootId: string | undefined;
  session: number;
  seq: number;
  resyncAt: number;
  pool: PoolName;
  address: string;
  version: string;
  platform: string;
  online: boolean;
  lastSeen: number;
  tuningHash: string | undefined;
  tuningProblems: readonly string[];
  counters: NodeCounters | undefined;
  runtime: RuntimeReport | undefined;
  readonly prefetches: Map<string, PrefetchProgress>;
}

/** What came of a message: whether rosters must change, and whether the node is to be asked for everything. */
export interface Outcome {
  readonly accepted: boolean;
  readonly moved: boolean;
  readonly resync: boolean;
}

const IGNORED: Outcome = { accepted: false, moved: false, resync: false };

/** State of the nodes as their births, wills and reports tell it. */
export class ObservedNodes {
  readonly #clock: Clock;
  readonly #maxNodes: number;
  readonly #nodes = new Map<NodeName, Entry>();

  constructor(components: { readonly clock: Clock }, init: { readonly maxNodes?: number } = {}) {
    this.#clock = components.clock;
    this.#maxNodes = init.maxNodes ?? MAX_NODES;
  }

  get(node: NodeName): ObservedNode | undefined {
    return this.#nodes.get(node);
  }

  all(): ReadonlyMap<NodeName, ObservedNode> {
    return this.#nodes;
  }

  /** What nodes say that they were told and do not do; of the first {@link MAX_PROBLEM_NODES} of them. */
  problems(): Problem[] {
    const problems: Problem[] = [];
    let nodes = 0;
    for (const { node, tuningProblems } of this.#nodes.values()) {
      if (tuningProblems.length === 0) continue;
      if (++nodes > MAX_PROBLEM_NODES) break;
      for (const message of tuningProblems) problems.push({ source: `node ${node}, tuning`, message });
    }
    return problems;
  }

  /** Nodes of an earlier start; they are offline until they speak. */
  restore(nodes: Iterable<RememberedNode>): void {
    for (const remembered of nodes) {
      if (this.#nodes.size >= this.#maxNodes) return;
      this.#nodes.set(remembered.node, fresh(remembered));
    }
  }

  remember(): readonly RememberedNode[] {
    return [...this.#nodes.values()].map(({ node, pool, address, version, platform, lastSeen }) => ({
      node,
      pool,
      address,
      version,
      platform,
      lastSeen,
    }));
  }

  birth(message: BirthMessage): Outcome {
    const { node, pool, address, version, platform, bootId, session = 0 } = message;
    let entry = this.#nodes.get(node);
    const now = this.#clock.now();
    const moved = entry === undefined || entry.pool !== pool || entry.address !== address;
    if (entry === undefined) {
      if (this.#nodes.size >= this.#maxNodes) return IGNORED;
      entry = fresh({ node, pool, address, version, platform, lastSeen: now });
      this.#nodes.set(node, entry);
    }
    if (entry.bootId !== bootId) {
      entry.bootId = bootId;
      entry.seq = 0;
      entry.session = session;
      entry.counters = undefined;
      entry.runtime = undefined;
      entry.tuningHash = undefined;
      entry.tuningProblems = [];
    }
    // Births come in order on one connection, and a newer connection has the higher number.
    if (session < entry.session) return IGNORED;
    entry.session = session;
    Object.assign(entry, { pool, address, version, platform, online: true, lastSeen: now });
    return { accepted: true, moved, resync: false };
  }

  /** False for the will of a boot, or of a connection, that is over already. */
  death({ node, bootId, session = 0 }: DeathMessage): boolean {
    const entry = this.#nodes.get(node);
    if (entry === undefined || entry.bootId !== bootId || session < entry.session) return false;
    entry.online = false;
    entry.lastSeen = this.#clock.now();
    return true;
  }

  report(message: ReportMessage): Outcome {
    const entry = this.#nodes.get(message.node);
    // Of a node that never introduced itself nothing is kept; its answer to the resync begins with a birth.
    if (entry === undefined) return { ...IGNORED, resync: true };
    const now = this.#clock.now();
    if (entry.bootId !== message.bootId) {
      return { ...IGNORED, resync: this.#mayResync(entry) };
    }
    // Delivered twice: QoS 1 allows it.
    if (message.seq <= entry.seq) return IGNORED;
    const gap = !message.full && message.seq !== entry.seq + 1;
    entry.seq = message.seq;
    entry.online = true;
    entry.lastSeen = now;
    entry.tuningHash = message.tuningHash ?? entry.tuningHash;
    entry.tuningProblems = message.tuningProblems ?? entry.tuningProblems;
    entry.counters = message.counters ?? entry.counters;
    entry.runtime = message.runtime ?? entry.runtime;
    if (message.full) entry.prefetches.clear();
    for (const progress of message.prefetches) remember(entry.prefetches, progress);
    return { accepted: true, moved: false, resync: gap && this.#mayResync(entry) };
  }

  /** The hub was away from its broker and may have missed wills and births: every node has to speak up again. */
  doubtAll(): void {
    for (const entry of this.#nodes.values()) {
      entry.online = false;
      entry.resyncAt = Number.NEGATIVE_INFINITY;
    }
  }

  /** Takes out nodes that have been away longer than `ms` and that `keep` does not name. The answer is their number. */
  forget(ms: number, keep: (node: NodeName) => boolean): number {
    const before = this.#clock.now() - ms;
    let gone = 0;
    for (const { node, online, lastSeen } of [...this.#nodes.values()]) {
      if (online || lastSeen > before || keep(node)) continue;
      this.#nodes.delete(node);
      gone++;
    }
    return gone;
  }

  #mayResync(entry: Entry): boolean {
    const now = this.#clock.mono();
    if (now < entry.resyncAt) return false;
    entry.resyncAt = now + RESYNC_MS;
    return true;
  }
}

function fresh(remembered: RememberedNode): Entry {
  return {
    ...remembered,
    bootId: undefined,
    session: 0,
    seq: 0,
    resyncAt: Number.NEGATIVE_INFINITY,
    online: false,
    tuningHash: undefined,
    tuningProblems: [],
    counters: undefined,
    runtime: undefined,
    prefetches: new Map(),
  };
}

function remember(prefetches: Map<string, PrefetchProgress>, progress: PrefetchProgress): void {
  prefetches.delete(progress.id);
  prefetches.set(progress.id, progress);
  if (prefetches.size <= MAX_PREFETCHES) return;
  const oldest = prefetches.keys().next();
  if (oldest.done !== true) prefetches.delete(oldest.value);
}
