/** What a member may be using of the cap, by the granter's clock. */
interface Booked {
  /** Rate of the lease that it worked with when it last asked, and until when; then its answer's, or none. */
  readonly using: number;
  readonly usingUntil: number;
  readonly rate: number;
  readonly until: number;
  readonly wants: boolean;
  /** When the lease given here ends. */
  readonly grantedUntil: number;
  /** Until when another granter may count on the lease that the member came with. */
  readonly foreignUntil: number;
}

export interface PoolCap {
  /** Bytes a second of the whole pool. */
  readonly cap: number;
  /** Every member's name, the granter's among them. */
  readonly roster: readonly string[];
}

export interface LeaseAsk {
  readonly wants: boolean;
  /** Rate that the member works with until it has the answer, bytes a second. */
  readonly using: number;
  /** How long it may still do so, ms; then it falls back to cap ÷ roster. */
  readonly usingMs: number;
}

/** Leases are kept on the books longer than their holders use them, for clocks that run apart. */
const BOOK_SLACK = 1.5;
const CLOCK_SLACK_MS = 50;

/**
 * The arithmetic of a pool's WAN cap, as the granting member keeps it. Every member of the roster counts with the most that
 * it may be using: its lease, the lease before it (an answer may be lost), or cap ÷ roster, which it may use without asking
 * anyone when it has none. A member that comes with another granter's lease gets no more than that until nobody can count on
 * it any more, and counts with its cap ÷ roster at least: the other granter may have given away what it does not use. So the
 * sum never passes the cap, whoever is cut off from whom; the rest is shared by those who want it. A grant that counts on
 * another's lease being less than its cap ÷ roster ends before that lease does.
 */
export class LeaseBook {
  readonly #booked = new Map<string, Booked>();

  /**
   * @param now the granter's monotonic clock, ms
   * @returns bytes a second for `node`, and for how many ms from when it asked
   */
  grant(
    node: string,
    ask: LeaseAsk,
    pool: PoolCap,
    now: number,
    longestMs: number,
  ): { rate: number; validMs: number } {
    for (const [name, lease] of this.#booked) if (lease.until <= now) this.#booked.delete(name);
    const mine = this.#booked.get(node);
    this.#booked.delete(node);
    const isForeign = ask.usingMs > 0 && now + ask.usingMs > (mine?.grantedUntil ?? 0) + CLOCK_SLACK_MS;
    const foreignUntil = isForeign
      ? Math.max(mine?.foreignUntil ?? 0, now + longestMs)
      : (mine?.foreignUntil ?? 0);
    const fallback = fallbackRate(pool);
    let used = 0;
    let kept = 0;
    let wanting = 1;
    let validMs = longestMs;
    for (const name of pool.roster) {
      if (name === node) continue;
      const lease = this.#booked.get(name);
      if (lease === undefined || lease.usingUntil <= now) {
        used += Math.max(lease?.rate ?? 0, fallback);
        kept += fallback;
      } else if (lease.foreignUntil > now) {
        used += Math.max(lease.using, lease.rate, fallback);
        kept += fallback;
      } else {
        const most = Math.max(lease.using, lease.rate);
        used += most;
        if (most < fallback) validMs = Math.min(validMs, lease.usingUntil - now);
      }
      if (lease?.wants === true) wanting++;
    }
    // One that left the roster keeps its lease to the end.
    for (const [name, lease] of this.#booked) {
      if (!pool.roster.includes(name)) used += Math.max(lease.using, lease.rate);
    }
    const foreign = foreignUntil > now;
    // Never less than what it may use without a lease, while there is as much.
    const even = Math.max(fallback, (pool.cap - kept) / wanting);
    const share = Math.min(pool.cap - used, even, foreign ? ask.using : pool.cap);
    const rate = ask.wants ? Math.max(0, share) : 0;
    if (rate === 0) validMs = longestMs;
    // Not held below its even share longer than the lease that it came with does.
    if (foreign && ask.wants && rate < fallback) validMs = ask.usingMs;
    this.#booked.set(node, {
      using: ask.using,
      usingUntil: now + ask.usingMs,
      rate,
      until: now + Math.max(validMs, ask.usingMs) * BOOK_SLACK,
      wants: ask.wants,
      grantedUntil: now + validMs,
      foreignUntil,
    });
    return { rate, validMs };
  }
}

/** What a member without a lease may use. */
export function fallbackRate(pool: PoolCap): number {
  return pool.cap / Math.max(1, pool.roster.length);
}
