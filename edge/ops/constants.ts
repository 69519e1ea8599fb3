/** Largest request body. */
export const MAX_BODY_BYTES = 64 * 1024;
export const HEADERS_MS = 10_000;
export const MAX_CONNECTIONS = 64;
/** Pulls that people have asked for, at a time. */
export const MAX_PULLS = 8;
/** Lines of progress of one pull: at most one in this time. */
export const PROGRESS_MS = 200;
/** Rows of `/v1/blobs` without `limit`, and at most. */
export const BLOBS_DEFAULT = 100;
export const BLOBS_MAX = 1_000;
/** Requests under way get this long when the agent stops. */
export const STOP_GRACE_MS = 1_000;
