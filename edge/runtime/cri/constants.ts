/** Calls that only ask. */
export const CALL_MS = 10_000;
/** A pull of what the store holds already: the time goes into unpacking. */
export const PULL_MS = 15 * 60_000;
/** A node with some thousand images answers a list of a few MiB; kubelet takes as much. */
export const MAX_MESSAGE_BYTES = 16 * 2 ** 20;

/** A registry that cannot exist (RFC 6761): whoever asks the mirror for it was sent by a self-test. */
export const SELF_TEST_REGISTRY = 'tidepool.invalid';
export const SELF_TEST_REPOSITORY = 'self-test';
/** A runtime that reads certs.d asks the mirror in milliseconds; this is for one that asks a name server first. */
export const SELF_TEST_MS = 30_000;
/** The first self-test comes within this after the start, so that a pool does not test in step. */
export const FIRST_TEST_SPREAD_MS = 5_000;
/** Between self-tests, by what the last one found. */
export const RETEST_MS = { yes: 60 * 60_000, no: 10 * 60_000, unknown: 60_000 } as const;
/** Share of the time between two tests that is left to chance. */
export const RETEST_JITTER = 0.1;
