import * as z from 'zod';
import { digest } from './fields.ts';

/** Retained on `pools/<pool>/prefetch/<id>`; an empty payload takes it back. */
export const prefetchMessage = z.object({
  epoch: z.number().int().nonnegative(),
  id: z.string().min(1).max(253),
  /** Of the publication: an earlier one that is played again is known by it. */
  version: z.number().int().nonnegative().optional(),
  /** Grows when the job's definition changes; a node runs each (id, generation) once. */
  generation: z.number().int().nonnegative(),
  /** What there is to do, as a digest: the same under another generation, as of a hub that has lost its data, is not done again. */
  work: z.string().max(64).optional(),
  images: z
    .array(
      z.object({ image: z.string(), digest: digest.optional(), platforms: z.array(z.string()).optional() }),
    )
    .min(1),
  /** Nodes of the pool that shall run it; absent means all. */
  nodes: z.array(z.string()).optional(),
  /** Further nodes get their turn: one that is not named begins nothing, and keeps what it has done of the same work. */
  more: z.boolean().optional(),
  suspend: z.boolean().default(false),
  timeoutMs: z.number().positive().default(600_000),
  retries: z.number().int().min(0).max(100).default(3),
  /** The hub has accounts for its images, by `POST /v1/node/credentials`. */
  credentials: z.boolean().optional(),
  /** For so long after it is through a node keeps the images, also when the job is gone; absent: while the job stands. */
  retainMs: z.number().nonnegative().optional(),
});
export type PrefetchMessage = z.infer<typeof prefetchMessage>;

/**
 * Retained on `pools/<pool>/prefetch-index`: every job of the pool. A job that was taken back while an agent was away
 * leaves no message behind; the agent drops what is not listed here.
 */
export const prefetchIndexMessage = z.object({
  epoch: z.number().int().nonnegative(),
  version: z.number().int().nonnegative(),
  ids: z.array(z.string().min(1).max(253)),
});
export type PrefetchIndexMessage = z.infer<typeof prefetchIndexMessage>;

export const prefetchState = z.enum(['waiting', 'active', 'succeeded', 'failed', 'skipped']);
export type PrefetchState = z.infer<typeof prefetchState>;

export const prefetchProgress = z.object({
  id: z.string(),
  generation: z.number().int().nonnegative(),
  /** As the job has it. */
  work: z.string().max(64).optional(),
  state: prefetchState,
  /** Bytes of the images on this node, once their manifests are known. */
  totalBytes: z.number().nonnegative(),
  doneBytes: z.number().nonnegative(),
  wanBytes: z.number().nonnegative(),
  peerBytes: z.number().nonnegative(),
  error: z.object({ code: z.string(), message: z.string().max(2000) }).optional(),
  /** What a job in state `waiting` waits for, in words: its pool's window. */
  waitingFor: z.string().max(500).optional(),
  /** Images as the node's container runtime has them; `imageId` is absent where the image is in the agent's store alone. */
  runtime: z
    .array(
      z.object({ image: z.string(), imageId: z.string().optional(), note: z.string().max(500).optional() }),
    )
    .max(100)
    .optional(),
});
export type PrefetchProgress = z.infer<typeof prefetchProgress>;
