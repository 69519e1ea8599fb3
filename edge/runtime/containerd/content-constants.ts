/** The directory of blobs is listed this often, in case a change of it went by unseen. */
export const RELIST_MS = 60_000;
/** The same where changes cannot be watched. */
export const RELIST_BLIND_MS = 3_000;
/** A directory that is not there is looked for this often. */
export const LOOK_FOR_MS = 5_000;
/** Files that are looked at before others get their turn. */
export const LIST_BATCH = 64;
/** Changes are gathered for this long: a commit renames a file, and touches it before and after. */
export const SETTLE_MS = 100;
/** Images are listed when no blob has come or gone for this long… */
export const QUIET_MS = 1_000;
/** …but no later than this after the first one did. */
export const QUIET_AT_MOST_MS = 5_000;
/** Images are listed this often, also when no blob has come: a name may be given to what is there. */
export const IMAGES_MS = 60_000;
/** A runtime that is not containerd is asked again this often whether it is now. */
export const IMAGES_RETRY_MS = 30_000;
/** Largest manifest that is read. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
export const MAX_NAMESPACES = 16;
/** One call. */
export const CONTENT_CALL_MS = 10_000;
export const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
