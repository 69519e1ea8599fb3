import * as z from 'zod';
import { toldEvent } from '../events.ts';
import { nodeName } from './fields.ts';
import { prefetchProgress } from './prefetch.ts';

/** Totals of one node since its agent started. */
export const nodeCounters = z.object({
  wanBytes: z.number().nonnegative(),
  peerBytes: z.number().nonnegative(),
  servedPeerBytes: z.number().nonnegative(),
  servedRuntimeBytes: z.number().nonnegative(),
  storedBytes: z.number().nonnegative(),
  blobs: z.number().nonnegative(),
});
export type NodeCounters = z.infer<typeof nodeCounters>;

/** Whether pods of a node are pulled by way of the agent, as its last self-test through CRI found. */
export const runtimeReport = z.object({
  /** `no`: the runtime does not read its hosts directory; `not-configured`: that has nothing of ours; `unknown`: no CRI. */
  mirror: z.enum(['yes', 'no', 'not-configured', 'unknown']),
  /** Name and version. */
  runtime: z.string().max(200).optional(),
  reason: z.string().max(1000).optional(),
  /** What a person has to do. */
  fix: z.string().max(1000).optional(),
});
export type RuntimeReport = z.infer<typeof runtimeReport>;

/** Events in one report. */
export const MAX_EVENTS_TOLD = 50;

/** On `nodes/<node>/report`, QoS 1. `seq` starts at 1 with each boot; a gap makes the hub ask for everything. */
export const reportMessage = z.object({
  node: nodeName,
  bootId: z.string().min(1),
  seq: z.number().int().positive(),
  at: z.number(),
  /** True when this report carries the whole state, not what changed. */
  full: z.boolean(),
  tuningHash: z.string().optional(),
  /** Settings that the node was told of and does not have in force, in words. */
  tuningProblems: z.array(z.string().max(300)).max(10).optional(),
  counters: nodeCounters.optional(),
  runtime: runtimeReport.optional(),
  prefetches: z.array(prefetchProgress).default([]),
  /** Told again until the hub says that it has them: see `events-kept`. */
  events: z.array(toldEvent).max(MAX_EVENTS_TOLD).optional(),
});
export type ReportMessage = z.infer<typeof reportMessage>;
