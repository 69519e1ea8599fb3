const KIB = 1024;
const MIB = 1024 * KIB;

/**
 * Sizes that buffers come in: the piece sizes, and a small one so that a config of 2 KiB does not hold a piece's worth.
 * A length takes the smallest that holds it.
 */
export const BUFFER_CLASSES: readonly number[] = [32 * KIB, 256 * KIB, 1 * MIB, 4 * MIB, 8 * MIB];
/** Pieces that arrive and pieces that just have, together. */
export const CACHE_BYTES = 24 * MIB;
/** Buffers that pieces are read from disk into. */
export const READ_BYTES = 8 * MIB;
/** Largest lease that is read from disk. */
export const READ_MAX_BYTES = 1 * MIB;
/** Written data is made durable when this much has come together, or after this long. */
export const FLUSH_BYTES = 64 * MIB;
export const FLUSH_MS = 1_000;
/** After a failed batch: a full disk or a sick one is not asked again at once. */
export const FLUSH_RETRY_MS = 5_000;
/** Buffers are given back to the system when nobody has asked for one in this long. */
export const IDLE_MS = 30_000;
/** Files kept open; those in use are not counted out. */
export const OPEN_FILES = 64;
/** Blobs kept ready in memory; those that somebody holds stay known beyond it. */
export const READY_BLOBS = 128;
/** `last_used` is kept this exactly. */
export const TOUCH_MS = 60_000;
/** How long a piece that was found right on the disk is lent out without another look. */
export const CHECK_AGAIN_MS = 600_000;
/** How fast a lost index is brought back: files are read in the background while the agent serves. */
export const REBUILD_BYTES_A_SECOND = 64 * MIB;
/** A pass over all pieces that looks for damage takes about a week, within these rates; a small store is through sooner. */
export const SCRUB_PASS_MS = 7 * 24 * 3_600_000;
export const SCRUB_MAX_BYTES_A_SECOND = 4 * MIB;
export const SCRUB_MIN_BYTES_A_SECOND = 64 * KIB;
/** From the start of the agent, and after a pass, to the next look. */
export const SCRUB_START_MS = 60_000;
/** How often it is kept how far it came. */
export const SCRUB_BLOBS_A_NOTE = 16;
/** A claim as packed: 32 bytes of sha256, 3 bytes of reader number, 1 byte of flags. */
export const CLAIM_BYTES = 36;
export const CLAIMS_PER_CHUNK = 64;
/** Times that a piece is written, where room has been made for it in between. */
export const WRITE_ATTEMPTS = 4;
