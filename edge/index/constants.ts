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
