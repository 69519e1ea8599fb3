/** How often the disk is looked at when nothing calls for it sooner. */
export const LOOK_MS = 30_000;
/** After a round that freed too little. */
export const RETRY_MS = 5_000;
/** Share of the file system in use from which on blobs are evicted: kubelet deletes images at 85 %. */
export const HIGH_SHARE = 0.75;
/** Down to here it goes, so that not each new piece brings a round of its own. */
export const LOW_SHARE = 0.7;
/** The same of a quota. */
export const QUOTA_LOW_SHARE = 0.9;
/** A blob used within this time may be in the middle of a pull; it is not touched. */
export const IN_USE_MS = 10 * 60_000;
/** Most blobs that one round considers, those longest unused: a large index must not come into memory whole. */
export const ROUND_BLOBS = 4_096;
/** Blobs that neighbours are asked about at once. */
export const ASK_KEYS = 256;
export const ASK_TIMEOUT_MS = 5_000;
/** Reading a blob again from neighbours costs this share of reading it over the uplink. */
export const LAN_COST = 0.1;
/** Below this share of the file system, or these bytes, whichever is less, nothing more is kept. */
export const HARD_FREE_SHARE = 0.05;
export const HARD_FREE_BYTES = 512 * 1024 * 1024;
/** This many times as much has to be free before the node keeps something again. */
export const HARD_REOPEN = 1.5;
/** A node that has no room looks this often whether there is some again. */
export const REOPEN_MS = 5_000;
/** Freed at once for a write that found no room, where no mark says how much. */
export const MAKE_BYTES = 64 * 1024 * 1024;
/** Kept back on the disk: what is evicted has to be unmarked in the index first, and that is a write. */
export const RESERVE_BYTES = 8 * 1024 * 1024;
/** The runtime is waited for this long when it is asked which images it uses. */
export const PINS_ASK_MS = 3_000;
/** Most digests that are pinned. */
export const MAX_PINNED = 100_000;
/** How often rows of gone content are looked for, on average. */
export const CLEAN_MS = 60 * 60_000;
/** Rows looked at in one go, and the pause after them: others wait for the index meanwhile. */
export const CLEAN_BATCH = 64;
export const CLEAN_PAUSE_MS = 20;
/** A manifest goes when nothing has needed it for this long. */
export const IDLE_MANIFEST_MS = 7 * 24 * 60 * 60_000;
/** Manifests of its repositories that are looked through for what they share with one that goes. */
export const MAX_SIBLINGS = 500;
