/** Prefetches that pushes made; the oldest makes room for the next. */
export const MAX_PUSH_JOBS = 200;
/** A tag that is pushed several times (platform by platform, then the index) makes one job: the last push counts. */
export const COALESCE_MS = 1_000;
/** No longer than that is waited for a tag to come to rest. */
export const MAX_COALESCE_MS = 10_000;
/** What could not be kept is tried again. */
export const RETRY_MS = 30_000;
/** Of one notification. */
export const MAX_EVENTS = 1_000;
/** Reasons told in one answer. */
export const MAX_TOLD = 50;
/** Shorter ones can be guessed. */
export const MIN_SECRET_CHARS = 16;
export const MAX_SECRET_BYTES = 4_096;
/** A secret that was replaced counts after so long. */
export const SECRET_FRESH_MS = 5_000;
/** Wrong secrets are logged at most this often. */
export const COMPLAIN_MS = 10_000;
