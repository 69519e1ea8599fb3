const DAY_MS = 86_400_000;

export const ROOT_LIFETIME_MS = 3_650 * DAY_MS;
/** Of nodes' certificates and the hub's own. */
export const CERTIFICATE_LIFETIME_MS = 90 * DAY_MS;
export const GRACE_MS = 30 * DAY_MS;
/** A certificate is renewed when this part of its life is over. */
export const RENEW_AT = 2 / 3;
/** Clocks jump, and long timers are lost in a suspended machine: the hub looks this often. */
export const LOOK_MS = 3_600_000;
/** Whose projected tokens count, unless the settings say otherwise. */
export const AUDIENCE = 'tidepool-hub';
export const TOKEN_TTL_MS = 3_600_000;
export const MAX_TOKEN_TTL_MS = 365 * DAY_MS;
export const MAX_TOKEN_USES = 100_000;
export const MAX_TOKENS = 1_000;
/** A node that asks again with the same key within this has lost the answer; that is not another use. */
export const RETRY_MS = 600_000;
/** Keys of a node that may be in use: its present one, and answers that got lost. */
export const MAX_KEYS = 32;
export const MAX_NODES = 20_000;
/** Keys in a message to a pool; with the roots they fit 64 KiB. */
export const MAX_TOLD_KEYS = 800;
/** A revoked key is remembered for this long after its certificate has ended: agents have clocks and graces of their own. */
export const REMEMBER_REVOKED_MS = 400 * DAY_MS;
/** Signatures under way at a time, and requests that wait for their turn. */
export const SIGNING = { atOnce: 4, waiting: 2_000 } as const;
