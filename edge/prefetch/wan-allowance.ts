import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { NodeName } from '../../shared/ids.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import { isOpen, localDay, nextChange, nextDay, type TimeWindow } from '../../shared/time-window.ts';
import { formatBytes } from '../../shared/units.ts';
import type { DocumentTable } from '../index/types.ts';
import type { PrefetchGuard, PrefetchPass } from '../transfer/wan-gate.ts';
import { BUDGET_DAYS, BUDGET_STEP_BYTES, MAX_CUT_BYTES, WINDOW_LOOK_MS } from './constants.ts';

export interface WanAllowanceComponents {
  readonly documents: Pick<DocumentTable, 'get' | 'put'>;
  /** Names of all members, this node's among them. */
  readonly members: { readonly self: NodeName; names(): readonly string[] };
  readonly clock: Clock;
  readonly log: Logger;
}

export interface PrefetchRules {
  /** Always when there are none. */
  readonly windows: readonly TimeWindow[];
  /** Bytes of the whole pool a day; undefined is no budget. */
  readonly dailyBudget: number | undefined;
  readonly timezone: string;
  /** The pool's gateways; empty when every node goes over the WAN. */
  readonly gateways: ReadonlySet<string>;
}

/** One day's account of this node. */
interface Account {
  readonly day: number;
  spent: number;
  /** Largest number of nodes that had a part in the budget this day. */
  sharers: number;
  /** What the disk has for `spent`: at least as much, so that a crash can lose some of the budget but never double it. */
  kept: number;
}

const DOCUMENT = 'prefetch-budget';
const saved = z.array(
  z.object({ day: z.number().int(), spent: z.number().nonnegative(), sharers: z.number().int().positive() }),
);

/**
 * When this node may prefetch over the WAN, and how much: the pool's windows and its daily budget. Nobody has to be asked,
 * so it also holds while the pool is cut in two: each node that goes over the WAN has its even share of the budget, by the
 * largest number of such nodes that it has seen that day. A node that joins a pool within a day brings its share along.
 */
export class WanAllowance implements Startable, PrefetchGuard {
  readonly name = 'wan-allowance';
  readonly #c: WanAllowanceComponents;
  readonly #listeners = new Set<() => void>();
  readonly #accounts: Account[] = [];
  #rules: PrefetchRules = { windows: [], dailyBudget: undefined, timezone: 'UTC', gateways: new Set() };
  #reserved = 0;
  #minute: number | undefined;
  /** When it was last looked. */
  #sharers = 1;
  #open = true;
  #over = false;
  #cancel: () => void = () => undefined;

  constructor(components: WanAllowanceComponents) {
    this.#c = components;
    this.#restore();
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.#over = true;
    this.#cancel();
    for (const account of this.#accounts) account.kept = account.spent;
    this.#save();
  }

  configure(rules: PrefetchRules): void {
    this.#rules = rules;
    this.#minute = undefined;
    this.#look();
  }

  /** Runs when the windows open or close; the answer takes the listener off. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Why no prefetch may run now, for people; undefined when they may. */
  closed(): string | undefined {
    if (this.#open) return undefined;
    const next = nextChange(this.#rules.windows, this.#c.clock.now());
    const when = next === undefined ? '' : `, which opens at ${new Date(next).toISOString()}`;
    return `waits for the prefetch window${when}`;
  }

  /** This node's part of the day's budget, bytes; undefined without a budget. */
  budget(): { readonly share: number; readonly spent: number } | undefined {
    const { dailyBudget } = this.#rules;
    if (dailyBudget === undefined) return undefined;
    const account = this.#today();
    return { share: this.#share(dailyBudget, account), spent: account.spent };
  }

  begin(bytes: number): PrefetchPass {
    const closed = this.closed();
    if (closed !== undefined) throw heldBack(`a prefetch ${closed}`);
    const { dailyBudget } = this.#rules;
    if (dailyBudget !== undefined) this.#admit(bytes, dailyBudget);
    let left = bytes;
    this.#reserved += bytes;
    return {
      spend: (count) => {
        const paid = Math.min(left, count);
        left -= paid;
        this.#reserved -= paid;
        this.#today().spent += count;
      },
      end: () => {
        this.#reserved -= left;
        // A read that broke off was on its way further than it was read: what fits into sockets has crossed the uplink.
        if (left < bytes) this.#today().spent += Math.min(left, MAX_CUT_BYTES);
        left = 0;
      },
    };
  }

  /** @throws TidepoolError OVERLOADED */
  #admit(bytes: number, dailyBudget: number): void {
    const account = this.#today();
    const share = this.#share(dailyBudget, account);
    // What was set aside the day before is read on this one.
    const need = account.spent + this.#reserved + bytes;
    if (need > share) {
      const again = new Date(nextDay(this.#rules.timezone, this.#c.clock.now())).toISOString();
      throw heldBack(
        share === 0
          ? 'prefetches go over the WAN by the gateways alone, and those give nothing now'
          : `${formatBytes(account.spent)} of this node's ${formatBytes(share)} of the daily prefetch budget of ${formatBytes(dailyBudget)} are used; more from ${again}`,
      );
    }
    if (need > account.kept) {
      account.kept = Math.min(share, need + Math.min(BUDGET_STEP_BYTES, Math.ceil(share / 16)));
      this.#save();
    }
  }

  #share(dailyBudget: number, account: Account): number {
    const { gateways } = this.#rules;
    const { self } = this.#c.members;
    this.#sharers = gateways.size > 0 ? gateways.size : this.#c.members.names().length;
    if (this.#sharers > account.sharers) {
      account.sharers = this.#sharers;
      this.#save();
    }
    return gateways.size > 0 && !gateways.has(self) ? 0 : Math.floor(dailyBudget / account.sharers);
  }

  /** Accounts of other days are kept for a while: a clock that jumps there and back must not bring the budget anew. */
  #today(): Account {
    const now = this.#c.clock.now();
    const last = this.#accounts[0];
    // Asked for each chunk that comes; calendars turn on whole minutes.
    const minute = Math.floor(now / 60_000);
    if (last !== undefined && minute === this.#minute) return last;
    this.#minute = minute;
    const day = localDay(this.#rules.timezone, now);
    if (last?.day === day) return last;
    const index = this.#accounts.findIndex((each) => each.day === day);
    const known = index < 0 ? undefined : this.#accounts.splice(index, 1)[0];
    const account = known ?? { day, spent: 0, sharers: this.#sharers, kept: 0 };
    this.#accounts.unshift(account);
    this.#accounts.length = Math.min(this.#accounts.length, BUDGET_DAYS);
    return account;
  }

  /** Looks at the clock, and again when the windows change, and now and then: wall clocks jump. */
  #look(): void {
    this.#cancel();
    if (this.#over) return;
    const { windows, dailyBudget } = this.#rules;
    const now = this.#c.clock.now();
    const open = isOpen(windows, now);
    // Also without a job: a node that leaves later today has had its part of the budget.
    if (dailyBudget !== undefined) this.#share(dailyBudget, this.#today());
    if (windows.length > 0 || dailyBudget !== undefined) {
      const next = nextChange(windows, now) ?? Number.POSITIVE_INFINITY;
      this.#cancel = this.#c.clock.after(Math.min(next - now, WINDOW_LOOK_MS), () => this.#look());
    }
    if (open === this.#open) return;
    this.#open = open;
    this.#c.log.info({ open }, open ? 'the prefetch window is open' : 'the prefetch window is closed');
    for (const listener of this.#listeners) listener();
  }

  #save(): void {
    const days = this.#accounts.map(({ day, kept, sharers }) => ({ day, spent: kept, sharers }));
    try {
      this.#c.documents.put(DOCUMENT, days);
    } catch (error) {
      // It holds in this process; a restart may give the day's share again.
      this.#c.log.error({ why: describeError(error) }, 'the prefetch budget could not be kept');
    }
  }

  #restore(): void {
    const value = this.#c.documents.get(DOCUMENT);
    if (value === undefined) return;
    const result = saved.safeParse(value);
    if (!result.success) {
      this.#c.log.warn({}, 'the kept prefetch budget cannot be read; the day begins anew');
      return;
    }
    for (const { day, spent, sharers } of result.data.slice(0, BUDGET_DAYS)) {
      this.#accounts.push({ day, spent, sharers, kept: spent });
    }
  }
}

function heldBack(why: string): TidepoolError {
  return new TidepoolError('OVERLOADED', why, { details: { prefetch: true } });
}
