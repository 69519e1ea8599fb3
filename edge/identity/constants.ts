/** For an answer of the hub's API: a certificate over a bad uplink. */
export const HUB_TIMEOUT_MS = 20_000;
/** An answer holds a certificate, a few roots and the keys that were revoked. */
export const MAX_ANSWER_BYTES = 2 * 1024 * 1024;
/** Between attempts to be enrolled. A pool that is set up at once, or gets its power back, must not arrive as one. */
export const ENROL_BACKOFF = { baseMs: 2_000, maxMs: 5 * 60_000 } as const;
export const RENEW_BACKOFF = { baseMs: 30_000, maxMs: 60 * 60_000 } as const;
/** A certificate is renewed after this part of its life, and up to {@link RENEW_JITTER} of its life later. */
export const RENEW_AFTER = 2 / 3;
export const RENEW_JITTER = 0.05;
/** Clocks jump: how long a certificate still has is looked at again at least this often. */
export const LOOK_MS = 60 * 60_000;
/** What goes on for days is told once in this time. */
export const COMPLAIN_MS = 60 * 60_000;
/** What signed things prove of the time is kept at most this often. */
export const KEEP_TIME_MS = 60_000;
/** Authorities date certificates back by a few minutes, and clocks differ by some: less than this is no wrong clock. */
export const CLOCK_TOLERANCE_MS = 60 * 60_000;
/** Certificates that were revoked longest ago have ended long since where there are more. */
export const MAX_REVOKED = 20_000;
/** Two overlap while one replaces the other. */
export const MAX_ROOTS = 8;
/** How long the start of an agent that has no certificate yet waits for one. */
export const FIRST_ENROLMENT_MS = 10_000;
