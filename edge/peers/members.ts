import { type Clock, every } from '../../shared/clock.ts';
import { describeError, isTidepoolError } from '../../shared/errors.ts';
import { type NodeName, type PoolName, parseNodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { DocumentTable } from '../index/types.ts';
import {
  LEARNED_TTL_MS,
  MAX_CANDIDATES,
  MAX_MEMBERS,
  PROBE_INTERVAL_MS,
  QUESTION_TIMEOUT_MS,
  SET_ASIDE_MS,
} from './constants.ts';
import type { Member, PeerClient } from './types.ts';
import { parseAddress } from './wire.ts';

/** Who says that a node is a member. The hub's word outlives silence, a node's own word does not. */
type Source = 'roster' | 'static' | 'learned';

interface Entry {
  readonly node: NodeName;
  address: string;
  source: Source;
  lastHeard: number;
  /** A request to it failed; it is probed, and not asked for anything else, until it answers. */
  suspect: boolean;
  setAsideUntil: number;
}

export interface MemberView extends Member {
  readonly live: boolean;
  readonly setAside: boolean;
  readonly source: Source;
}

interface MembersComponents {
  readonly client: Pick<PeerClient, 'hello'>;
  readonly documents: Pick<DocumentTable, 'get' | 'put'>;
  readonly clock: Clock;
  readonly log: Logger;
}

interface MembersInit {
  readonly self: NodeName;
  readonly pool: PoolName;
  /** `host:port` of neighbours given by hand; their names are learned at the first contact. */
  readonly peers: readonly string[];
}

const DOCUMENT = 'members';

/**
 * Who is in the pool, and who of them answers. Known from the hub's roster, from static addresses, or from a neighbour
 * that made itself known; kept on disk, so that a pool without its cloud knows itself after a reboot.
 */
export class Members implements Startable {
  readonly name = 'members';
  readonly self: NodeName;
  readonly pool: PoolName;
  readonly #client: MembersComponents['client'];
  readonly #documents: MembersComponents['documents'];
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #entries = new Map<NodeName, Entry>();
  /** Static addresses that no answer has named yet. */
  readonly #unnamed: Set<string>;
  readonly #static: ReadonlySet<string>;
  /** Addresses that were named and have not been greeted yet. */
  readonly #candidates = new Set<string>();
  #cancel: (() => void) | undefined;
  #stopping = new AbortController();
  #probing: Promise<void> | undefined;
  #version = 0;

  constructor(components: MembersComponents, init: MembersInit) {
    this.#client = components.client;
    this.#documents = components.documents;
    this.#clock = components.clock;
    this.#log = components.log;
    this.self = init.self;
    this.pool = init.pool;
    this.#unnamed = new Set(init.peers);
    this.#static = new Set(init.peers);
    this.#restore();
  }

  async start(): Promise<void> {
    this.#stopping = new AbortController();
    this.#cancel = every(this.#clock, PROBE_INTERVAL_MS, () => this.#probeSoon());
    this.#probeSoon();
  }

  async stop(): Promise<void> {
    this.#cancel?.();
    this.#stopping.abort();
    await this.#probing;
  }

  /** Members that may be asked now, this node not among them. */
  live(): Member[] {
    const now = this.#clock.mono();
    const members: Member[] = [];
    for (const entry of this.#entries.values()) {
      if (!entry.suspect && entry.setAsideUntil <= now) members.push(entry);
    }
    return members;
  }

  get(node: NodeName): Member | undefined {
    return this.#entries.get(node);
  }

  isLive(node: NodeName): boolean {
    const entry = this.#entries.get(node);
    const now = this.#clock.mono();
    return entry !== undefined && !entry.suspect && entry.setAsideUntil <= now;
  }

  /** Grows whenever a member comes, goes, or changes whether it may be asked. */
  get version(): number {
    return this.#version;
  }

  /** Nodes of the pool, this one included, whether they answer or not. */
  get rosterSize(): number {
    return this.#entries.size + 1;
  }

  /** All members' names, this node's among them. */
  names(): NodeName[] {
    return [this.self, ...this.#entries.keys()];
  }

  view(): MemberView[] {
    const now = this.#clock.mono();
    return [...this.#entries.values()].map((entry) => ({
      node: entry.node,
      address: entry.address,
      live: !entry.suspect,
      setAside: entry.setAsideUntil > now,
      source: entry.source,
    }));
  }

  /** The hub's whole roster: names that are gone leave, unless they were given by hand or make themselves known. */
  setRoster(nodes: readonly { readonly node: NodeName; readonly address?: string | undefined }[]): void {
    const named = new Set<NodeName>();
    for (const { node, address } of nodes) {
      if (node === this.self || address === undefined) continue;
      named.add(node);
      this.#put(node, address, 'roster');
    }
    for (const entry of [...this.#entries.values()]) {
      if (entry.source === 'roster' && !named.has(entry.node)) this.#remove(entry.node);
    }
    this.#persist();
  }

  /** A neighbour of this pool spoke to us: it lives, and it is where it says. */
  heard(node: NodeName, address: string): void {
    if (node === this.self) return;
    const known = this.#entries.get(node);
    if (known === undefined || known.address !== address) {
      const source = known?.source ?? (this.#static.has(address) ? 'static' : 'learned');
      this.#put(node, address, source);
      this.#persist();
      return;
    }
    known.lastHeard = this.#clock.now();
    this.#revive(known);
  }

  /**
   * Somebody may be a neighbour at this address: it is greeted, and is one when it answers as one. Nothing is known to be
   * true of it before.
   */
  consider(address: string): void {
    for (const entry of this.#entries.values()) {
      if (entry.address === address && !entry.suspect) return;
    }
    if (this.#candidates.size >= MAX_CANDIDATES) return;
    this.#candidates.add(address);
    this.#probeSoon();
  }

  /** A request to it failed on the way. */
  suspect(node: NodeName, why: unknown): void {
    const entry = this.#entries.get(node);
    if (entry === undefined) return;
    if (entry.suspect) return;
    this.#log.info({ node, why: describeError(why) }, 'neighbour does not answer');
    entry.suspect = true;
    this.#version++;
    this.#probeSoon();
  }

  /** It sent bytes unlike its own claim, or is blamed for a wrong read: not asked for minutes. */
  setAside(node: NodeName, why: string): void {
    const entry = this.#entries.get(node);
    this.#log.warn({ node, why }, 'neighbour set aside');
    if (entry !== undefined) {
      entry.setAsideUntil = this.#clock.mono() + SET_ASIDE_MS;
      this.#version++;
    }
  }

  #put(node: NodeName, address: string, source: Source): void {
    const known = this.#entries.get(node);
    this.#unnamed.delete(address);
    if (known !== undefined) {
      if (known.address !== address) this.#revive(known);
      known.address = address;
      if (source === 'roster' || known.source === 'learned') known.source = source;
      known.lastHeard = this.#clock.now();
      return;
    }
    if (this.#entries.size >= MAX_MEMBERS) {
      this.#log.warn({ node, members: this.#entries.size }, 'member table is full, a neighbour is left out');
      return;
    }
    // One address is one node: a box that was renamed or replaced must not stay as a ghost.
    for (const other of this.#entries.values()) if (other.address === address) this.#remove(other.node);
    this.#entries.set(node, {
      node,
      address,
      source,
      lastHeard: this.#clock.now(),
      suspect: false,
      setAsideUntil: 0,
    });
    this.#version++;
    this.#log.info({ node, address, source }, 'neighbour known');
  }

  #revive(entry: Entry): void {
    if (!entry.suspect) return;
    entry.suspect = false;
    this.#version++;
    this.#log.info({ node: entry.node }, 'neighbour answers again');
  }

  #remove(node: NodeName): void {
    if (this.#entries.delete(node)) this.#version++;
  }

  #probeSoon(): void {
    this.#probing ??= this.#probe().finally(() => {
      this.#probing = undefined;
    });
  }

  /** Names the static addresses and asks suspects whether they are back. */
  async #probe(): Promise<void> {
    const now = this.#clock.mono();
    const addresses = new Set([...this.#unnamed, ...this.#candidates]);
    this.#candidates.clear();
    for (const entry of [...this.#entries.values()]) {
      if (entry.suspect) addresses.add(entry.address);
      if (entry.source === 'learned' && this.#clock.now() - entry.lastHeard > LEARNED_TTL_MS) {
        this.#remove(entry.node);
      }
      if (entry.setAsideUntil > 0 && entry.setAsideUntil <= now) {
        entry.setAsideUntil = 0;
        this.#version++;
      }
    }
    await Promise.all([...addresses].map((address) => this.#greet(address)));
  }

  async #greet(address: string): Promise<void> {
    const controller = new AbortController();
    const cancel = this.#clock.after(QUESTION_TIMEOUT_MS, () =>
      controller.abort(new Error('no answer in time')),
    );
    const onStop = (): void => controller.abort(new Error('stopping'));
    this.#stopping.signal.addEventListener('abort', onStop, { once: true });
    try {
      const answer = await this.#client.hello(address, controller.signal);
      if (answer.node === this.self) {
        this.#unnamed.delete(address);
        return;
      }
      if (answer.pool !== this.pool) {
        this.#log.warn({ address, pool: answer.pool }, 'neighbour is of another pool and no member');
        return;
      }
      this.heard(answer.node, answer.address);
      const entry = this.#entries.get(answer.node);
      if (entry !== undefined) {
        this.#revive(entry);
        // The address it was reached at is the one given by hand, whatever it calls itself.
        this.#unnamed.delete(address);
      }
      for (const other of answer.members) {
        if (other.node !== this.self && !this.#entries.has(other.node))
          this.#put(other.node, other.address, 'learned');
      }
      this.#persist();
    } catch (error) {
      for (const entry of this.#entries.values()) {
        if (entry.address === address && !entry.suspect) this.suspect(entry.node, error);
      }
      if (isTidepoolError(error, 'POOL_MISMATCH'))
        this.#log.warn({ address, err: error }, 'neighbour refuses this pool');
    } finally {
      cancel();
      this.#stopping.signal.removeEventListener('abort', onStop);
    }
  }

  #persist(): void {
    this.#documents.put(
      DOCUMENT,
      [...this.#entries.values()].map(({ node, address, source }) => ({ node, address, source })),
    );
  }

  #restore(): void {
    const saved = this.#documents.get(DOCUMENT);
    if (!Array.isArray(saved)) return;
    for (const item of saved as { node?: unknown; address?: unknown; source?: unknown }[]) {
      if (typeof item?.node !== 'string' || typeof item.address !== 'string') continue;
      const source = item.source === 'roster' || item.source === 'static' ? item.source : 'learned';
      try {
        const node = parseNodeName(item.node);
        if (node !== this.self) this.#put(node, parseAddress(item.address), source);
      } catch (error) {
        this.#log.warn({ item, why: describeError(error) }, 'a saved neighbour is damaged and left out');
      }
    }
  }
}
