/**
 * What an agent is told by its hub before it can hear it: a file with the retained messages of its pool, each as the hub
 * signed it. It says nothing that the hub has not said to the pool, and whoever reads it checks it in the same way.
 */
import * as z from 'zod';
import { poolName } from './messages/fields.ts';

/** A pool of a thousand jobs is some megabytes. */
export const MAX_BOOTSTRAP_BYTES = 64 * 1024 * 1024;
const MAX_MESSAGES = 2_000;

export const bootstrapFile = z.object({
  tidepool: z.literal('bootstrap'),
  version: z.literal(1),
  pool: poolName,
  /** When it was made, by the hub's clock, ms. */
  at: z.number(),
  /** False: made by a hub that signs nothing, for agents that ask for no signatures. */
  signed: z.boolean(),
  messages: z.array(z.object({ topic: z.string().max(600), payload: z.base64() })).max(MAX_MESSAGES),
});
export type BootstrapFile = z.infer<typeof bootstrapFile>;
