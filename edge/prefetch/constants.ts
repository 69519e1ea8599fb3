/** Blobs of one image that are fetched side by side, as containerd does it. */
export const BLOBS_AT_ONCE = 3;
/** Between two attempts at an image that failed; full jitter within. */
export const RETRY = { baseMs: 2_000, maxMs: 60_000 } as const;
/** Between two attempts while the origin, or the pool, is out of reach: such a job waits, it does not fail. */
export const OFFLINE_RETRY = { baseMs: 5_000, maxMs: 120_000 } as const;
/** How often a running job tells how far it is, and how often that is kept for a restart. */
export const REPORT_MS = 1_000;
export const SAVE_MS = 5_000;
/** Jobs of one pool that a node takes; more are refused with a warning. */
export const MAX_JOBS = 1_000;
/** Longest error text in a report. */
export const MAX_ERROR_CHARS = 500;
/** Images of one job that a report names as they are in the container runtime, and what is said of each: all has to fit one message. */
export const MAX_RUNTIME_IMAGES = 50;
export const MAX_NOTE_CHARS = 200;
/** Longest time between two looks at the clock: a wall clock that was set anew must not keep a window shut. */
export const WINDOW_LOOK_MS = 15 * 60_000;
/** Days whose share of the budget is kept. */
export const BUDGET_DAYS = 4;
/** The disk is told of the budget ahead, in steps; a crash loses what is left of one. */
export const BUDGET_STEP_BYTES = 16 * 1024 * 1024;
/** What may be under way to a reader that does not read on: a socket's buffers. */
export const MAX_CUT_BYTES = 4 * 1024 * 1024;
/** Jobs whose images are kept on after them; of more, those go that would be kept for the shortest time. */
export const MAX_KEPT = 1_000;
/** How often the time that images were kept is put down: a crash keeps them for so much longer. */
export const KEPT_LOOK_MS = 10 * 60_000;
/** Times that a job which found the disk full is run again, and how long it waits before it looks for room. */
export const ROOM_TRIES = 10;
export const ROOM_RETRY = { baseMs: 60_000, maxMs: 60 * 60_000 } as const;
