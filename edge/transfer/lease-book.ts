/** What a member may be using of the cap, until a moment of the granter's clock. */
interface Booked {
  readonly rate: number;
  readonly until: number;
  readonly wants: boolean;
}

export interface PoolCap {
  /** Bytes a second of the whole pool. */
  readonly cap: number;
  /** Every member's name, the granter's among them. */
  readonly roster: readonly string[];
}

/** The granter keeps a lease on its books longer than its holder uses it, for clocks that run apart. */
const BOOK_SLACK = 1.5;

/**
 * The arithmetic of a pool's WAN cap, as the granting member keeps it. Every member of the roster counts with one of: a
 * valid lease (its rate), or none (cap ÷ roster, which it may use without asking anyone). So the sum never passes the cap,
 * whoever is cut off from whom; what is left is shared by those who want it.
 */
export class LeaseBook {
  readonly #booked = new Map<string, Booked>();

  /**
   * @param asked `using` is the rate that the member works with until it has this answer: an answer may be lost, so the
   * larger of the two stays on the books until its next request
   * @param now the granter's monotonic clock, ms
   * @returns bytes a second for `node`
   */
  grant(
    node: string,
    asked: { readonly wants: boolean; readonly using: number },
    pool: PoolCap,
    now: number,
    validMs: number,
  ): number {
    for (const [name, lease] of this.#booked) if (lease.until <= now) this.#booked.delete(name);
    this.#booked.delete(node);
    const fallback = fallbackRate(pool);
    let used = 0;
    let kept = 0;
    let wanting = 1;
    for (const name of pool.roster) {
      if (name === node) continue;
      const lease = this.#booked.get(name);
      used += lease?.rate ?? fallback;
      if (lease === undefined) kept += fallback;
      if (lease?.wants === true) wanting++;
    }
    // One that left the roster keeps its lease to the end.
    for (const [name, lease] of this.#booked) if (!pool.roster.includes(name)) used += lease.rate;
    const rate = asked.wants ? Math.max(0, Math.min(pool.cap - used, (pool.cap - kept) / wanting)) : 0;
    this.#booked.set(node, {
      rate: Math.max(rate, asked.using),
      until: now + validMs * BOOK_SLACK,
      wants: asked.wants,
    });
    return rate;
  }
}

/** What a member without a lease may use. */
export function fallbackRate(pool: PoolCap): number {
  return pool.cap / Math.max(1, pool.roster.length);
}
