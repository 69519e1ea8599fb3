import { type Clock, every } from '../../shared/clock.ts';
import { describeError, isTidepoolError } from '../../shared/errors.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { first } from '../../shared/rendezvous.ts';
import type { Members } from '../peers/members.ts';
import type { LeaseAnswer, LeaseRequest, PeerClient } from '../peers/types.ts';
import { within } from './ask-all.ts';
import { fallbackRate, LeaseBook } from './lease-book.ts';
import type { WanGate } from './wan-gate.ts';

/** How long a lease lasts for its holder, counted from when it sent its request. */
const LEASE_MS = 3_000;
/** Often enough that a lease cut to what another's has left, 1 to 2 s, is renewed before it ends. */
const RENEW_MS = 700;
const ANSWER_MS = 1_000;
/** Bytes wanted within this time make a member one that wants. */
const WANT_MS = 3_000;

interface WanBudgetComponents {
  readonly gate: WanGate;
  readonly client: Pick<PeerClient, 'lease'>;
  readonly members: Pick<Members, 'self' | 'live' | 'get' | 'names' | 'suspect'>;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Lease {
  readonly rate: number;
  readonly prefetchRate: number;
  /** Monotonic ms. */
  readonly until: number;
}

/** Caps of the whole pool, bytes a second; undefined is no cap. */
export interface PoolCaps {
  readonly download: number | undefined;
  readonly prefetchDownload: number | undefined;
}

/**
 * This node's part of the pool's WAN cap. The rendezvous-first live member grants leases; whoever has none uses its even
 * share of the roster. Without a cap nothing is asked and nothing is counted.
 */
export class WanBudget implements Startable {
  readonly name = 'wan-budget';
  readonly #c: WanBudgetComponents;
  readonly #all = new LeaseBook();
  readonly #prefetch = new LeaseBook();
  #caps: PoolCaps = { download: undefined, prefetchDownload: undefined };
  /**
   * Newest last, each ending before the one before it. When a lease ends and an older one does not, that one holds again: others
   * may count on its low rate to its end, so this node may not go back to its even share before.
   */
  #leases: readonly Lease[] = [];
  #cancel: () => void = () => undefined;
  #cancelExpiry: () => void = () => undefined;
  #renewing = false;
  #granterSeen: NodeName | undefined;
  #granterSince = Number.NEGATIVE_INFINITY;

  constructor(components: WanBudgetComponents) {
    this.#c = components;
    components.gate.onWant(() => void this.#renew());
  }

  async start(): Promise<void> {
    this.#cancel = every(this.#c.clock, RENEW_MS, () => void this.#renew());
  }

  async stop(): Promise<void> {
    this.#cancel();
    this.#cancelExpiry();
  }

  setCaps(caps: PoolCaps): void {
    this.#caps = caps;
    this.#leases = [];
    this.#apply();
    void this.#renew();
  }

  /** A neighbour, or this node, asks the granter. Whoever is asked while another is first sends nobody on: it refuses. */
  grant(node: NodeName, request: LeaseRequest): LeaseAnswer {
    const { download, prefetchDownload } = this.#caps;
    const refused = { granted: false, rate: 0, prefetchRate: 0, validMs: 0 };
    if (
      (download === undefined && prefetchDownload === undefined) ||
      this.#granter() !== this.#c.members.self
    )
      return refused;
    const now = this.#c.clock.mono();
    const roster = this.#c.members.names();
    const { usingMs } = request;
    const lease = (book: LeaseBook, cap: number | undefined, wants: boolean, using: number) =>
      cap === undefined
        ? { rate: 0, validMs: LEASE_MS }
        : book.grant(node, { wants, using, usingMs }, { cap, roster }, now, LEASE_MS);
    const all = lease(this.#all, download, request.wants, request.using);
    const prefetch = lease(this.#prefetch, prefetchDownload, request.wantsPrefetch, request.usingPrefetch);
    return {
      granted: true,
      rate: all.rate,
      prefetchRate: prefetch.rate,
      validMs: Math.min(all.validMs, prefetch.validMs),
    };
  }

  #granter(): NodeName | undefined {
    const { members } = this.#c;
    const live = [members.self, ...members.live().map((member) => member.node)];
    return first(
      live.map((node) => ({ node, weight: 1 })),
      'wan-lease',
    )?.node;
  }

  async #renew(): Promise<void> {
    const capped = this.#caps.download !== undefined || this.#caps.prefetchDownload !== undefined;
    if (!capped || this.#renewing) return;
    const { members, clock } = this.#c;
    if (members.live().length === 0) {
      // A lease of its own would be no more than its even share; and an idle one would bind it when others come.
      this.#apply();
      return;
    }
    const sentAt = clock.mono();
    const wanted = this.#c.gate.wanted(WANT_MS);
    const granter = this.#granter();
    if (granter !== this.#granterSeen) this.#granterSince = sentAt;
    this.#granterSeen = granter;
    // While members still find each other the granter changes: an idle lease of one would bind this node at the next.
    if (!wanted.all && !wanted.prefetch && sentAt - this.#granterSince < LEASE_MS) {
      this.#apply();
      return;
    }
    this.#renewing = true;
    const { all, prefetch } = this.#c.gate.rates;
    const request: LeaseRequest = {
      wants: wanted.all,
      wantsPrefetch: wanted.prefetch,
      using: all ?? 0,
      usingPrefetch: prefetch ?? 0,
      usingMs: Math.max(0, (this.#current(sentAt)?.until ?? 0) - sentAt),
    };
    try {
      const member = granter === undefined ? undefined : members.get(granter);
      const answer =
        granter === members.self || member === undefined
          ? this.grant(members.self, request)
          : await within(clock, ANSWER_MS, undefined, (signal) =>
              this.#c.client.lease(member, request, signal),
            );
      if (answer.granted) {
        const { rate, prefetchRate, validMs } = answer;
        const until = sentAt + Math.min(validMs, LEASE_MS);
        const older = this.#leases
          .filter((lease) => lease.until > until)
          .map((lease) => ({
            rate: Math.min(lease.rate, rate),
            prefetchRate: Math.min(lease.prefetchRate, prefetchRate),
            until: lease.until,
          }));
        this.#leases = [...older, { rate, prefetchRate, until }];
      }
    } catch (error) {
      if (granter !== undefined && isTidepoolError(error, 'PEER_UNREACHABLE'))
        members.suspect(granter, error);
      this.#c.log.debug({ granter, why: describeError(error) }, 'no WAN lease');
    } finally {
      this.#renewing = false;
      this.#apply();
    }
  }

  #current(now: number): Lease | undefined {
    return this.#leases.findLast((lease) => lease.until > now);
  }

  #apply(): void {
    const { download, prefetchDownload } = this.#caps;
    const now = this.#c.clock.mono();
    const lease = this.#current(now);
    // The rate has to fall when the lease ends, not when the next renewal happens to look.
    this.#cancelExpiry();
    if (lease !== undefined)
      this.#cancelExpiry = this.#c.clock.after(lease.until - now + 1, () => this.#apply());
    const roster = this.#c.members.names();
    const rate = (cap: number | undefined, leased: number | undefined): number | undefined =>
      cap === undefined ? undefined : (leased ?? fallbackRate({ cap, roster }));
    this.#c.gate.setRates({
      all: rate(download, lease?.rate),
      prefetch: rate(prefetchDownload, lease?.prefetchRate),
    });
  }
}
