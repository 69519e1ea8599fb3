/** Entries of repositories' content kept in memory. */
export const SCOPE_ENTRIES = 4_096;
/** Blobs of which is kept in memory whose bytes they are. */
export const PROVENANCE_ENTRIES = 4_096;
/** How long an answer of the registry on who may pull holds, before it is asked again. */
export const FRESH_MS = 5 * 60_000;
/** How long one that was found while the registry could not be asked holds: then it is tried again. */
export const OFFLINE_FRESH_MS = 60_000;
/** A refusal is remembered for this long while the registry cannot be asked: a wrong password costs one scrypt, not one a request. */
export const REFUSED_MS = 20_000;
/** How long a grant is good for while the registry cannot be asked. */
export const GRANT_LIFE_MS = 7 * 24 * 3_600_000;
/** A grant that is confirmed is written down and told again after this long. */
export const GRANT_RENEW_MS = 12 * 3_600_000;
/** Repositories and accounts whose access is kept in memory. */
export const FRESH_ENTRIES = 4_096;
/** 2^14 rounds of 8 blocks: 16 MiB and some 40 ms for each guess of whoever has stolen the grants. */
export const SCRYPT = { N: 16_384, r: 8, p: 1, maxmem: 32 * 1024 * 1024 } as const;
/** Scrypts that wait for their turn; there is one at a time. */
export const MAX_SCRYPTS_WAITING = 64;
/** A neighbour that showed nothing for an ask is not asked again for this long. */
export const UNKNOWN_MS = 5_000;
export const UNKNOWN_ENTRIES = 1_024;
