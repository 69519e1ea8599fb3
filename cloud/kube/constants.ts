/** Numbers of the Kubernetes side. */

/** Objects in one page of a list. */
export const PAGE_LIMIT = 500;
/** A page of whole Nodes is some 10 MB; more than this is no page that we asked for. */
export const MAX_BODY_BYTES = 128 * 1024 * 1024;
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
