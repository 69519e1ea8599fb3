import type { NodeName } from '../../shared/ids.ts';
import type { ToldEvent } from '../../shared/wire/events.ts';

/** Kept of one node, and of all. */
const MAX_A_NODE = 100;
const MAX_ALL = 50_000;
/** Starts of one node whose numbers are remembered. */
const MAX_BOOTS = 8;
/** Kinds that are counted by name; agents of other versions may know others. */
const MAX_KINDS = 40;

export interface KeptEvent extends ToldEvent {
  readonly node: NodeName;
  /** When the hub had it first, by its own clock, ms. */
  readonly heardAt: number;
}

interface OfNode {
  readonly events: KeptEvent[];
  /** The last number of each boot, the boot heard of longest ago first. */
  readonly last: Map<string, number>;
  missed: number;
}

/** What nodes have told of themselves: the latest events of each, none twice, and how many never came. */
export class NodeEvents {
  readonly #maxANode: number;
  readonly #maxAll: number;
  /** The node heard of longest ago first. */
  readonly #nodes = new Map<NodeName, OfNode>();
  readonly #counts = new Map<string, number>();
  #size = 0;

  constructor(init: { readonly maxANode?: number; readonly maxAll?: number } = {}) {
    this.#maxANode = init.maxANode ?? MAX_A_NODE;
    this.#maxAll = init.maxAll ?? MAX_ALL;
  }

  /** Events heard of since the start of the hub, by kind. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  /** Those that are news, as they are kept; what was told before is left out. */
  add(node: NodeName, told: readonly ToldEvent[], heardAt: number): readonly KeptEvent[] {
    return told.flatMap((event) => {
      const kept = { ...event, node, heardAt };
      if (!this.restore(kept)) return [];
      const kind = this.#counts.size < MAX_KINDS || this.#counts.has(event.kind) ? event.kind : 'other';
      this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + event.count);
      return [kept];
    });
  }

  /** One that was kept before; false when it is here. */
  restore(event: KeptEvent): boolean {
    const of = this.#nodes.get(event.node) ?? { events: [], last: new Map<string, number>(), missed: 0 };
    const last = of.last.get(event.boot);
    if (last !== undefined && event.seq <= last) return false;
    if (last !== undefined) of.missed += event.seq - last - 1;
    of.last.delete(event.boot);
    of.last.set(event.boot, event.seq);
    for (const boot of of.last.keys()) {
      if (of.last.size <= MAX_BOOTS) break;
      of.last.delete(boot);
    }
    this.#nodes.delete(event.node);
    this.#nodes.set(event.node, of);
    of.events.push(event);
    this.#size++;
    if (of.events.length > this.#maxANode) this.#dropOldest(of);
    for (const [node, oldest] of this.#nodes) {
      if (this.#size <= this.#maxAll) break;
      while (this.#size > this.#maxAll && oldest.events.length > 0) this.#dropOldest(oldest);
      if (oldest.events.length === 0) this.#nodes.delete(node);
    }
    return true;
  }

  /** The newest last. */
  of(node: NodeName): readonly KeptEvent[] {
    return this.#nodes.get(node)?.events ?? [];
  }

  /** Numbers that a node has used and not told: it had no room to keep them. */
  missed(node: NodeName): number {
    return this.#nodes.get(node)?.missed ?? 0;
  }

  all(): readonly KeptEvent[] {
    return [...this.#nodes.values()].flatMap(({ events }) => events);
  }

  forget(node: NodeName): void {
    this.#size -= this.#nodes.get(node)?.events.length ?? 0;
    this.#nodes.delete(node);
  }

  #dropOldest(of: OfNode): void {
    if (of.events.shift() !== undefined) this.#size--;
  }
}
