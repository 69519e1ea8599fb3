/** 10,000 agents at this are 170 pings a second at the broker. */
export const KEEPALIVE_SECONDS = 60;
/**
 * All agents lose a broker that restarts in the same moment. However long it is away, they come back evenly over the 10 to
 * 30 s after it: simulated with 1,000, no second has more than 2.5 times the mean. Doubling from 1 s has up to 15 times.
 */
export const RECONNECT = { baseMs: 10_000, maxMs: 30_000, growth: 1.2, floor: 0.5 } as const;
/** The first connect, and a rebirth that every agent of a hub is asked for at once, come within this. */
export const SPREAD_MS = 2_000;
/** A node reports at most this often. */
export const REPORT_INTERVAL_MS = 500;
/** Jobs of one pool that are remembered. */
export const MAX_JOBS = 1_000;
/** Shards of one roster: 20,000 nodes. */
export const MAX_SHARDS = 200;
/** Refused messages are told one by one at most this often; the rest is counted. */
export const COMPLAIN_MS = 30_000;
/** Bytes of events in one report. */
export const EVENT_BYTES = 16_384;
/** After events were told, the next ones wait so long for others: something that happens all the time is one event. */
export const EVENT_QUIET_MS = 10_000;
/** How long the hub may take to say that it has events, ms; a hub of before never does. */
export const ACKNOWLEDGE = { baseMs: 30_000, maxMs: 600_000 } as const;
/** Commands that are remembered. */
export const MAX_COMMANDS = 256;
/** An outage of the link that the hub is told of when it is over. */
export const WORTH_TELLING_MS = 120_000;
