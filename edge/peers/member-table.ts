import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { LEARNED_TTL_MS, MAX_MEMBERS, SET_ASIDE_MS } from './constants.ts';
import type { Source } from './member-book.ts';
import type { Member } from './types.ts';

interface Entry {
  readonly node: NodeName;
  address: string;
  source: Source;
  lastHeard: number;
  /** A request to it failed; it is probed, and not asked for anything else, until it answers. */
  suspect: boolean;
  setAsideUntil: number;
}

/** A member as the table has it. Only the table changes it. */
export type KnownNode = Readonly<Entry>;

export interface MemberView extends Member {
  readonly live: boolean;
  readonly setAside: boolean;
  readonly source: Source;
}

interface TableComponents {
  readonly clock: Clock;
  readonly log: Logger;
}

/** The members that are known, a bounded number, and which of them may be asked. One address is one node. */
export class MemberTable {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #entries = new Map<NodeName, Entry>();
  #version = 0;

  constructor({ clock, log }: TableComponents) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Grows whenever a member comes, goes, or changes whether it may be asked. */
  get version(): number {
    return this.#version;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(node: NodeName): KnownNode | undefined {
    return this.#entries.get(node);
  }

  names(): NodeName[] {
    return [...this.#entries.keys()];
  }

  all(): KnownNode[] {
    return [...this.#entries.values()];
  }

  at(address: string): KnownNode[] {
    const found: KnownNode[] = [];
    for (const entry of this.#entries.values()) if (entry.address === address) found.push(entry);
    return found;
  }

  /** Members that may be asked now. */
  live(): Member[] {
    const now = this.#clock.mono();
    const members: Member[] = [];
    for (const entry of this.#entries.values()) {
      if (!entry.suspect && entry.setAsideUntil <= now) members.push(entry);
    }
    return members;
  }

  isLive(node: NodeName): boolean {
    const entry = this.#entries.get(node);
    return entry !== undefined && !entry.suspect && entry.setAsideUntil <= this.#clock.mono();
  }

  view(): MemberView[] {
    const now = this.#clock.mono();
    return this.all().map((entry) => ({
      node: entry.node,
      address: entry.address,
      live: !entry.suspect,
      setAside: entry.setAsideUntil > now,
      source: entry.source,
    }));
  }

  put(node: NodeName, address: string, source: Source): void {
    const known = this.#entries.get(node);
    if (known !== undefined) {
      if (known.address !== address) this.revive(node);
      known.address = address;
      if (source === 'roster' || known.source === 'learned') known.source = source;
      known.lastHeard = this.#clock.now();
      return;
    }
    if (this.#entries.size >= MAX_MEMBERS) {
      this.#log.warn({ node, members: this.#entries.size }, 'member table is full, a neighbour is left out');
      return;
    }
    // A box that was renamed or replaced must not stay as a ghost.
    for (const other of this.at(address)) this.remove(other.node);
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

  remove(node: NodeName): void {
    if (this.#entries.delete(node)) this.#version++;
  }

  /** It spoke from where it is known to be. */
  heard(node: NodeName): void {
    const entry = this.#entries.get(node);
    if (entry === undefined) return;
    entry.lastHeard = this.#clock.now();
    this.revive(node);
  }

  /** It answers: it may be asked again. */
  revive(node: NodeName): void {
    const entry = this.#entries.get(node);
    if (entry === undefined || !entry.suspect) return;
    entry.suspect = false;
    this.#version++;
    this.#log.info({ node }, 'neighbour answers again');
  }

  /** A request to it failed. False when that is known, or it is no member. */
  suspect(node: NodeName, why: unknown): boolean {
    const entry = this.#entries.get(node);
    if (entry === undefined || entry.suspect) return false;
    this.#log.info({ node, why: describeError(why) }, 'neighbour does not answer');
    entry.suspect = true;
    this.#version++;
    return true;
  }

  setAside(node: NodeName): void {
    const entry = this.#entries.get(node);
    if (entry === undefined) return;
    entry.setAsideUntil = this.#clock.mono() + SET_ASIDE_MS;
    this.#version++;
  }

  /** Forgets whom only its own word had made a member, long ago, and lets those that were set aside back in. */
  sweep(): void {
    const now = this.#clock.mono();
    for (const entry of [...this.#entries.values()]) {
      if (entry.source === 'learned' && this.#clock.now() - entry.lastHeard > LEARNED_TTL_MS) {
        this.remove(entry.node);
      }
      if (entry.setAsideUntil > 0 && entry.setAsideUntil <= now) {
        entry.setAsideUntil = 0;
        this.#version++;
      }
    }
  }
}
