/** A request's line and headers together. Multi-range requests of lazy-loading snapshotters are the longest seen: 8 KiB. */
export const MAX_HEADER_BYTES = 16 * 1024;
export const MAX_URL_BYTES = 8 * 1024;
/** Parts of one multipart/byteranges answer; more is 400, which makes stargz-snapshotter ask for single ranges. */
export const MAX_RANGES = 256;
/** Leases that one response holds at a time: one on the wire, one behind it. */
export const MAX_LENT_LEASES = 2;

/** Longest wait for the first word on a request, before any byte is sent. */
export const ANSWER_MS = 60_000;
/** Longest wait for a byte of a body. Shorter than the shortest progress time-out of a runtime (containerd 1.7.0: 1 min). */
export const STALL_MS = 25_000;
/** Longest that a client may leave what was written to it unread. */
export const SLOW_CLIENT_MS = 600_000;
/**
 * The same while others wait for a stream: readers that do not read must not keep the node from its images. Half of what
 * those in line wait at most; a runtime that was cut off resumes where it was.
 */
export const CROWDED_CLIENT_MS = 30_000;
/** Above the 60 s of stargz-snapshotter's liveness checks and of common HTTP clients: the client closes first. */
export const KEEP_ALIVE_MS = 75_000;
/** Longest that a request's line and headers may take to arrive. */
export const HEADERS_MS = 15_000;
/** What `stop` gives to responses under way. */
export const STOP_GRACE_MS = 3_000;
/** What bytes already written have to reach the client when its connection is broken off. */
export const LINGER_MS = 1_000;

export const MAX_CONNECTIONS = 1_024;
export const MAX_REQUESTS = 1_024;
/** Blob bodies at a time; each holds up to {@link MAX_LENT_LEASES} leases of 1 MiB. The others wait in line. */
export const MAX_STREAMS = 64;
/** Exists nowhere (RFC 6761): nobody is asked for its images, but that they are asked for here is noticed. */
export const SELF_TEST_REGISTRY = 'tidepool.invalid';
