/** Numbers of the Kubernetes side. */

/** Objects in one page of a list. */
export const PAGE_LIMIT = 500;
/** Of an answer that is one object, or a refusal. */
export const MAX_BODY_BYTES = 8 * 1024 * 1024;
/** etcd keeps objects of 1.5 MiB at most; JSON makes some of them longer. */
export const MAX_EVENT_BYTES = 8 * 1024 * 1024;
export const REQUEST_TIMEOUT_MS = 30_000;
/** Watches take a connection each; some are left for everything else. */
export const MAX_CONNECTIONS = 24;

/** A watch is asked to end by itself after a time between these, so that many hubs do not come back at once. */
export const WATCH_MIN_MS = 300_000;
export const WATCH_MAX_MS = 600_000;
/** Bookmarks come about once a minute; a watch that is silent for longer hangs. */
export const WATCH_SILENT_MS = 150_000;
/** Everything is listed again this often: what a watch lost for whatever reason is found then. */
export const RELIST_MS = 600_000;
export const RETRY = { baseMs: 500, maxMs: 30_000 } as const;
/** For what a person has to mend first. */
export const DENIED_RETRY = { baseMs: 30_000, maxMs: 300_000 } as const;
/** A watch that lives this long counts as well. */
export const STABLE_MS = 10_000;
/** A resource that this cluster does not have is looked for this often. */
export const ABSENT_MS = 60_000;
/** Held objects are given up only when their kind is absent twice, this far apart. */
export const ABSENT_CONFIRM_MS = 10_000;
/** How long the start waits for the first lists. */
export const FIRST_LISTS_MS = 10_000;
/** Whether workloads are to be watched is asked this often. */
export const WORKLOADS_MS = 5_000;

/** As Kubernetes' own controllers have them: the lease outlives its holder's trust in it by 5 s. */
export const LEASE_MS = 15_000;
export const LEASE_RENEW_MS = 10_000;
export const LEASE_RETRY_MS = 2_000;
/** One request about the lease; shorter than the renewal, so that one that hangs does not cost the lease. */
export const LEASE_REQUEST_MS = 4_000;

/** Writes of status and deletions, one after the other: four a second at most. */
export const WRITE_INTERVAL_MS = 250;
/** Events: so many at once, then one in so long. */
export const EVENT_BURST = 25;
export const EVENT_REFILL_MS = 2_000;
/** An equal notice is said again after this at the earliest. */
export const EVENT_REPEAT_MS = 3_600_000;
/** Notices remembered, so that they are said once. */
export const MAX_SAID = 2_000;
/** Writes that wait; each job has one at most. */
export const MAX_WAITING_WRITES = 5_000;
/** An Event's message has 1,024 bytes at most. */
export const MAX_NOTE_CHARS = 1_000;

/** Whether the ConfigMap of the roots is still as it was written. */
export const ROOTS_LOOK_MS = 300_000;
