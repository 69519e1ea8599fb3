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
