import { setMaxListeners } from 'node:events';
import { type Clock, every } from '../../shared/clock.ts';
import { describeError, isTidepoolError } from '../../shared/errors.ts';
import { Recent } from '../../shared/flow/recent.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import type { DocumentTable } from '../index/types.ts';
import {
  LEARNED_TTL_MS,
  MAX_CANDIDATES,
  MAX_MEMBERS,
  PROBE_INTERVAL_MS,
  QUESTION_TIMEOUT_MS,
  SET_ASIDE_MS,
} from './constants.ts';
import { MemberBook, type Source } from './member-book.ts';
import type { HelloAnswer, Member, PeerClient } from './types.ts';

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
  readonly events?: EventSink | undefined;
}

interface MembersInit {
  readonly self: NodeName;
  readonly pool: PoolName;
  /** `host:port` of neighbours given by hand; their names are learned at the first contact. */
  readonly peers: readonly string[];
  /** Neighbours show certificates: who answers a greeting is who it says. */
  readonly certified?: boolean;
}

/** Greetings of addresses that an answer has named, one after another, before the next interval. */
const GREETING_ROUNDS = 3;

/**
 * Who is in the pool, and who of them answers. Known from the hub's roster, from static addresses, or from a neighbour
 * that made itself known; kept on disk, so that a pool without its cloud knows itself after a reboot.
 *
 * Where neighbours show certificates, nobody's word takes an address from another, or moves a member: the address is greeted,
 * and belongs to whom the certificate there names. Every use of an address shows the certificate again.
 */
export class Members implements Startable {
  readonly name = 'members';
  readonly self: NodeName;
  readonly pool: PoolName;
  readonly #client: MembersComponents['client'];
  readonly #book: MemberBook;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #events: EventSink | undefined;
  readonly #entries = new Map<NodeName, Entry>();
  /** Static addresses that no answer has named yet. */
  readonly #unnamed: Set<string>;
  readonly #static: ReadonlySet<string>;
  /** Addresses that were named and have not been greeted yet. */
  readonly #candidates = new Set<string>();
  readonly #certified: boolean;
  /** Members whose claim to another address has been looked into lately. */
  readonly #claims: Recent<true>;
  /** As the hub named them last: who has its address from somebody else's mouth is greeted until it is known. */
  #rostered: ReadonlyMap<NodeName, string> = new Map();
  #cancel: (() => void) | undefined;
  #stopping = new AbortController();
  #probing: Promise<void> | undefined;
  #version = 0;

  constructor(components: MembersComponents, init: MembersInit) {
    this.#client = components.client;
    this.#book = new MemberBook(components);
    this.#clock = components.clock;
    this.#log = components.log;
    this.#events = components.events;
    this.self = init.self;
    this.pool = init.pool;
    this.#certified = init.certified === true;
    this.#claims = new Recent(components.clock, MAX_MEMBERS);
    this.#unnamed = new Set(init.peers);
    this.#static = new Set(init.peers);
    this.#restore();
  }

  async start(): Promise<void> {
    this.#stopping = new AbortController();
    // Each greeting listens.
    setMaxListeners(0, this.#stopping.signal);
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
    if (entry === undefined || entry.suspect) return false;
    return entry.setAsideUntil === 0 || entry.setAsideUntil <= this.#clock.mono();
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
    const named = new Map<NodeName, string>();
    for (const { node, address } of nodes) {
      if (node === this.self || address === undefined) continue;
      named.set(node, address);
      // The hub repeats what a node says of itself, so one may be named at another's address.
      if (this.#certified && this.#othersAt(node, address).length > 0) this.#candidates.add(address);
      else this.#put(node, address, 'roster');
    }
    this.#rostered = named;
    if (this.#candidates.size > 0) this.#probeSoon();
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
      if (this.#certified && (known !== undefined || this.#othersAt(node, address).length > 0)) {
        this.#lookInto(node, address);
        return;
      }
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
    this.#events?.note({ kind: 'neighbour-set-aside', key: node, detail: why });
    if (entry !== undefined) {
      entry.setAsideUntil = this.#clock.mono() + SET_ASIDE_MS;
      this.#version++;
    }
  }

  #othersAt(node: NodeName, address: string): Entry[] {
    return [...this.#entries.values()].filter((entry) => entry.address === address && entry.node !== node);
  }

  /** A member says that it is at an address that the table has otherwise: whoever is there says who it is. */
  #lookInto(node: NodeName, address: string): void {
    if (this.#claims.get(node) === true || this.#candidates.size >= MAX_CANDIDATES) return;
    this.#claims.set(node, true, PROBE_INTERVAL_MS);
    this.#candidates.add(address);
    this.#probeSoon();
  }

  /** The certificate at an address has named a node: there it is, and nobody else. */
  #proved(address: string, answer: HelloAnswer): void {
    const { node } = answer;
    for (const other of this.#othersAt(node, address)) {
      this.#log.warn({ node: other.node, address, proved: node }, 'neighbour is not where it was said to be');
      this.#remove(other.node);
    }
    const known = this.#entries.get(node);
    // Somebody may pass its words on from another place: it moves by its own word, or when it is not found where it was.
    if (known !== undefined && !known.suspect && known.address !== address && answer.address !== address)
      return;
    const rostered = this.#rostered.has(node) ? 'roster' : undefined;
    this.#put(node, address, rostered ?? known?.source ?? (this.#static.has(address) ? 'static' : 'learned'));
  }

  /** What a greeted neighbour says of others. */
  #hearOf({ node, address }: Member): void {
    if (node === this.self || this.#entries.has(node)) return;
    if (this.#certified) this.consider(address);
    else this.#put(node, address, 'learned');
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
    const addresses = new Set(this.#unnamed);
    for (const [node, address] of this.#rostered) if (!this.#entries.has(node)) addresses.add(address);
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
    for (let round = 0; round < GREETING_ROUNDS; round++) {
      for (const address of this.#candidates) addresses.add(address);
      this.#candidates.clear();
      if (addresses.size === 0 || this.#stopping.signal.aborted) return;
      await Promise.all([...addresses].map((address) => this.#greet(address)));
      addresses.clear();
    }
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
      if (this.#certified) this.#proved(address, answer);
      else this.heard(answer.node, answer.address);
      const entry = this.#entries.get(answer.node);
      if (entry !== undefined) {
        this.#revive(entry);
        // The address it was reached at is the one given by hand, whatever it calls itself.
        this.#unnamed.delete(address);
      }
      for (const other of answer.members) this.#hearOf(other);
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
    this.#book.write([...this.#entries.values()]);
  }

  #restore(): void {
    for (const { node, address, source } of this.#book.read()) {
      if (node !== this.self) this.#put(node, address, source);
    }
  }
}
