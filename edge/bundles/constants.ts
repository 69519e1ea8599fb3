/** Document in the index: blobs that an import has begun and not yet given a name. */
export const BEGUN_DOCUMENT = 'bundle-import';
/** Progress is told after so many bytes. */
export const PROGRESS_BYTES = 4 * 1024 * 1024;
/** Of the file system: what an import leaves free for whatever else the node does. */
export const KEPT_FREE_SHARE = 0.05;
