const MIB = 1024 * 1024;

/** Read at a time when a file is checked. */
export const CHECK_READ_BYTES = 1 * MIB;
/** Bytes a second that are read to check files nobody has asked for yet. */
export const CHECK_BYTES_PER_SECOND = 48 * MIB;
/** Buffers that leases of borrowed bytes are read into. */
export const BORROWED_READ_BYTES = 8 * MIB;
/** A file is kept open this long after its last read: a reader comes back for the next bytes sooner, and finds them also when the name is gone. */
export const BORROWED_IDLE_MS = 10_000;
/** Borrowed blobs kept ready in memory, with their pieces' hashes. */
export const READY_BORROWED = 128;
/** Blobs that are kept twice are looked at this often, to see whether one copy can go. */
export const TWICE_LOOK_MS = 5_000;
/** All that the runtime has is looked at this often for the same. */
export const TWICE_ALL_MS = 10 * 60_000;
/** Of a sha256. */
export const HASH_BYTES = 32;
