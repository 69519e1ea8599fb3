import type { Clock } from '../../shared/clock.ts';
import { isTidepoolError } from '../../shared/errors.ts';
import { Recent } from '../../shared/flow/recent.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { EventSink } from '../../shared/wire/events.ts';
import type { DocumentTable } from '../index/types.ts';
import { MAX_MEMBERS, PROBE_INTERVAL_MS } from './constants.ts';
import { MemberBook, type Source } from './member-book.ts';
import { MemberSearch } from './member-search.ts';
import { type KnownNode, MemberTable, type MemberView } from './member-table.ts';
import type { HelloAnswer, Member, PeerClient } from './types.ts';

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
  readonly #book: MemberBook;
  readonly #log: Logger;
  readonly #events: EventSink | undefined;
  readonly #table: MemberTable;
  readonly #search: MemberSearch;
  readonly #static: ReadonlySet<string>;
  readonly #certified: boolean;
  /** Members whose claim to another address has been looked into lately. */
  readonly #claims: Recent<true>;
  /** As the hub named them last: who has its address from somebody else's mouth is greeted until it is known. */
  #rostered: ReadonlyMap<NodeName, string> = new Map();

  constructor(components: MembersComponents, init: MembersInit) {
    this.#book = new MemberBook(components);
    this.#log = components.log;
    this.#events = components.events;
    this.self = init.self;
    this.pool = init.pool;
    this.#certified = init.certified === true;
    this.#claims = new Recent(components.clock, MAX_MEMBERS);
    this.#static = new Set(init.peers);
    this.#table = new MemberTable(components);
    this.#search = new MemberSearch(components, {
      unnamed: init.peers,
      due: () => this.#due(),
      onAnswer: (address, answer) => this.#answered(address, answer),
      onSilence: (address, why) => this.#silent(address, why),
    });
    this.#restore();
  }

  async start(): Promise<void> {
    this.#search.start();
  }

  async stop(): Promise<void> {
    await this.#search.stop();
  }

  /** Members that may be asked now, this node not among them. */
  live(): Member[] {
    return this.#table.live();
  }

  get(node: NodeName): Member | undefined {
    return this.#table.get(node);
  }

  isLive(node: NodeName): boolean {
    return this.#table.isLive(node);
  }

  /** Grows whenever a member comes, goes, or changes whether it may be asked. */
  get version(): number {
    return this.#table.version;
  }

  /** Nodes of the pool, this one included, whether they answer or not. */
  get rosterSize(): number {
    return this.#table.size + 1;
  }

  /** All members' names, this node's among them. */
  names(): NodeName[] {
    return [this.self, ...this.#table.names()];
  }

  view(): MemberView[] {
    return this.#table.view();
  }

  /** The hub's whole roster: names that are gone leave, unless they were given by hand or make themselves known. */
  setRoster(nodes: readonly { readonly node: NodeName; readonly address?: string | undefined }[]): void {
    const named = new Map<NodeName, string>();
    const unproved: string[] = [];
    for (const { node, address } of nodes) {
      if (node === this.self || address === undefined) continue;
      named.set(node, address);
      // The hub repeats what a node says of itself, so one may be named at another's address.
      if (this.#certified && this.#othersAt(node, address).length > 0) unproved.push(address);
      else this.#put(node, address, 'roster');
    }
    this.#rostered = named;
    this.#search.add(unproved);
    for (const entry of this.#table.all()) {
      if (entry.source === 'roster' && !named.has(entry.node)) this.#table.remove(entry.node);
    }
    this.#persist();
  }

  /** A neighbour of this pool spoke to us: it lives, and it is where it says. */
  heard(node: NodeName, address: string): void {
    if (node === this.self) return;
    const known = this.#table.get(node);
    if (known === undefined || known.address !== address) {
      if (this.#certified && (known !== undefined || this.#othersAt(node, address).length > 0)) {
        this.#lookInto(node, address);
        return;
      }
      this.#put(node, address, known?.source ?? this.#sourceOf(address));
      this.#persist();
      return;
    }
    this.#table.heard(node);
  }

  /**
   * Somebody may be a neighbour at this address: it is greeted, and is one when it answers as one. Nothing is known to be
   * true of it before.
   */
  consider(address: string): void {
    if (this.#table.at(address).some((entry) => !entry.suspect) || this.#search.full) return;
    this.#search.add([address]);
  }

  /** A request to it failed on the way. */
  suspect(node: NodeName, why: unknown): void {
    if (this.#table.suspect(node, why)) this.#search.soon();
  }

  /** It sent bytes unlike its own claim, or is blamed for a wrong read: not asked for minutes. */
  setAside(node: NodeName, why: string): void {
    this.#log.warn({ node, why }, 'neighbour set aside');
    this.#events?.note({ kind: 'neighbour-set-aside', key: node, detail: why });
    this.#table.setAside(node);
  }

  #othersAt(node: NodeName, address: string): KnownNode[] {
    return this.#table.at(address).filter((entry) => entry.node !== node);
  }

  #sourceOf(address: string): Source {
    return this.#static.has(address) ? 'static' : 'learned';
  }

  #put(node: NodeName, address: string, source: Source): void {
    this.#search.named(address);
    this.#table.put(node, address, source);
  }

  /** A member says that it is at an address that the table has otherwise: whoever is there says who it is. */
  #lookInto(node: NodeName, address: string): void {
    if (this.#claims.get(node) === true || this.#search.full) return;
    this.#claims.set(node, true, PROBE_INTERVAL_MS);
    this.#search.add([address]);
  }

  /** Whom to greet now: the roster's that are not known yet, and those that do not answer, before any of them is forgotten. */
  #due(): string[] {
    const addresses: string[] = [];
    for (const [node, address] of this.#rostered) {
      if (this.#table.get(node) === undefined) addresses.push(address);
    }
    for (const entry of this.#table.all()) if (entry.suspect) addresses.push(entry.address);
    this.#table.sweep();
    return addresses;
  }

  #answered(address: string, answer: HelloAnswer): void {
    if (answer.node === this.self) {
      this.#search.named(address);
      return;
    }
    if (answer.pool !== this.pool) {
      this.#log.warn({ address, pool: answer.pool }, 'neighbour is of another pool and no member');
      return;
    }
    if (this.#certified) this.#proved(address, answer);
    else this.heard(answer.node, answer.address);
    if (this.#table.get(answer.node) !== undefined) {
      this.#table.revive(answer.node);
      // The address it was reached at is the one given by hand, whatever it calls itself.
      this.#search.named(address);
    }
    for (const other of answer.members) this.#hearOf(other);
    this.#persist();
  }

  #silent(address: string, why: unknown): void {
    for (const { node } of this.#table.at(address)) this.suspect(node, why);
    if (isTidepoolError(why, 'POOL_MISMATCH')) {
      this.#log.warn({ address, err: why }, 'neighbour refuses this pool');
    }
  }

  /** The certificate at an address has named a node: there it is, and nobody else. */
  #proved(address: string, answer: HelloAnswer): void {
    const { node } = answer;
    for (const other of this.#othersAt(node, address)) {
      this.#log.warn({ node: other.node, address, proved: node }, 'neighbour is not where it was said to be');
      this.#table.remove(other.node);
    }
    const known = this.#table.get(node);
    // Somebody may pass its words on from another place: it moves by its own word, or when it is not found where it was.
    if (known !== undefined && !known.suspect && known.address !== address && answer.address !== address)
      return;
    const rostered = this.#rostered.has(node) ? 'roster' : undefined;
    this.#put(node, address, rostered ?? known?.source ?? this.#sourceOf(address));
  }

  /** What a greeted neighbour says of others. */
  #hearOf({ node, address }: Member): void {
    if (node === this.self || this.#table.get(node) !== undefined) return;
    if (this.#certified) this.consider(address);
    else this.#put(node, address, 'learned');
  }

  #persist(): void {
    this.#book.write(this.#table.all());
  }

  #restore(): void {
    for (const { node, address, source } of this.#book.read()) {
      if (node !== this.self) this.#put(node, address, source);
    }
  }
}
