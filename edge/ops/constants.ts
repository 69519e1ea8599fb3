/** Largest request body. */
export const MAX_BODY_BYTES = 64 * 1024;
export const HEADERS_MS = 10_000;
/** A request's line and headers together. */
export const MAX_HEADER_BYTES = 8 * 1024;
export const KEEP_ALIVE_MS = 15_000;
export const MAX_CONNECTIONS = 64;
/** On the socket, where pulls keep theirs. */
export const MAX_ADMIN_CONNECTIONS = 32;
/** Longest that a connection may move nothing, as when its client does not read. */
export const SLOW_CLIENT_MS = 600_000;
/** Pulls that people have asked for, at a time. */
export const MAX_PULLS = 8;
/** Lines of progress of one pull: at most one in this time. */
export const PROGRESS_MS = 200;
/** Rows of `/v1/blobs` without `limit`, and at most. */
export const BLOBS_DEFAULT = 100;
export const BLOBS_MAX = 1_000;
/** Requests under way get this long when the agent stops. */
export const STOP_GRACE_MS = 1_000;
