/** Jobs in force at once; each is a retained message a pool. */
export const MAX_FOLLOW_JOBS = 100;
/** Templates remembered; a cluster with more of them is told so. */
export const MAX_TEMPLATES = 5_000;
/** Of a job that a workload made. */
export const PULL_TIMEOUT_MS = 600_000;
export const PULL_RETRIES = 3;
/** Nodes report all the time; whether a pool is through is looked at this often. */
export const LOOK_MS = 10_000;
