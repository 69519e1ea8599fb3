/** How long a statement waits for another process that holds the database. */
export const BUSY_TIMEOUT_MS = 5_000;
/** Page cache of the connection, KiB: the default of 16 MiB is a fifth of what an idle agent may use. */
export const CACHE_KIB = 2_000;
/** Records kept of each tag. */
export const TAG_RECORDS = 2;
/** Grants kept of what one node told. */
export const GRANTS_A_NODE = 512;
/** Bounds of what waits for the hub. */
export const OUTBOX = { rows: 1_000, bytes: 512 * 1024, dropped: 'events-dropped' } as const;
/** How often it is looked whether the index has changed since it was copied. */
export const COPY_LOOK_MS = 10_000;
/** Up to this size it is copied when the agent stops, too. */
export const COPY_AT_END_BYTES = 4 * 1024 * 1024;
/** A copy is not followed by the next before as long as writing it at this rate would take. */
export const COPY_BYTES_A_SECOND = 16 * 1024;
/** Document that is kept once every file of the store has its row: an index without it was made anew, and knows less. */
export const STORE_COMPLETE = 'store/complete';
/** Up to this size a database is looked through when it is opened; that takes some tens of milliseconds. */
export const QUICK_CHECK_BYTES = 16 * 1024 * 1024;
