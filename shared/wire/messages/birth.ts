import * as z from 'zod';
import { nodeName, poolName } from './fields.ts';

export const birthMessage = z.object({
  node: nodeName,
  pool: poolName,
  /** New with each start of the agent: a late will of an older start must not kill a newer one. */
  bootId: z.string().min(1),
  /** Counts the connections of one boot: the will of a lost connection must not kill the next one either. */
  session: z.number().int().nonnegative().optional(),
  address: z.string(),
  version: z.string(),
  platform: z.string(),
  at: z.number(),
});
export type BirthMessage = z.infer<typeof birthMessage>;

export const deathMessage = z.object({
  node: nodeName,
  bootId: z.string().min(1),
  session: z.number().int().nonnegative().optional(),
});
export type DeathMessage = z.infer<typeof deathMessage>;
