/** Largest manifest taken, as most registries have it. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
export const MAX_PASS_THROUGH_BYTES = 4 * 1024 * 1024;
/** Largest answer of a token endpoint. */
export const MAX_TOKEN_ANSWER_BYTES = 64 * 1024;
/** Of an error answer, as much as is read for its text. */
export const MAX_ERROR_BODY_BYTES = 16 * 1024;
export const MAX_REDIRECTS = 5;

/** Connections to one origin for blobs. Manifests and tokens have lanes of their own. */
export const DEFAULT_CONNECTIONS = 16;
export const CONTROL_CONNECTIONS = 6;
/** Requests of one domain under way or waiting for a connection. */
export const MAX_OPEN_REQUESTS = 1024;
/** Bytes that wait for a slow reader before the socket is paused. */
export const BODY_QUEUE_BYTES = 256 * 1024;
/**
 * A read brings this much at most, and packets are left to come together until it would: on a thin uplink each would cost
 * a wake-up of its own, which is most of what a byte costs then.
 */
export const READ_BYTES = 64 * 1024;
/** They are left for no longer, which is what the end of a piece may come later by. */
export const REST_MAX_MS = 30;
/** A shorter rest is none: a timer costs as much as the reads it spares. */
export const REST_MIN_MS = 3;
/** Rests end on a grid, so that one wake-up serves every stream. */
export const REST_GRID_MS = 10;
/** Below this much in the longest rest there is nothing to come together. */
export const REST_MIN_BYTES = 8 * 1024;

export const DEFAULT_CONNECT_MS = 5_000;
export const DEFAULT_ANSWER_MS = 15_000;
/** A small request that was called off after this long without an answer counts as one that was not answered. */
export const SILENCE_MS = 4_000;
export const DEFAULT_STALL_MS = 30_000;
/** Shorter than the 5 s that many servers keep an idle connection, so that we never write into one being closed. */
export const KEEP_ALIVE_MS = 4_000;

export const MAX_RETRIES = 3;
export const MAX_RETRY_AFTER_MS = 10_000;
export const RETRY_BASE_MS = 500;

/** Registries dialled without being configured, and hosts they redirect to, that are remembered. */
export const MAX_OPEN_DOMAINS = 128;
export const MAX_BREAKERS = 64;

export const MAX_TOKENS = 1024;
/** A token is renewed this long before it ends, or after four fifths of a shorter life. */
export const TOKEN_SLACK_MS = 10_000;
export const MAX_CHALLENGES_KEPT = 1024;
export const CHALLENGE_LIFE_MS = 3600_000;
export const MAX_CREDENTIALS = 512;
export const CREDENTIALS_LIFE_MS = 10 * 60_000;
export const MAX_LOCATIONS = 512;
/** Signed locations live minutes; we use one for less. */
export const LOCATION_LIFE_MS = 60_000;
/** Connections to where a registry was are kept for what began there. */
export const RETIRE_MS = 60_000;
