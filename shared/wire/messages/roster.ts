import * as z from 'zod';
import { nodeName } from './fields.ts';

export const rosterNode = z.object({
  node: nodeName,
  /** Literal address and peer port, `10.0.0.7:6181` or `[fd00::7]:6181`; absent until the node's first birth. */
  address: z.string().optional(),
  labels: z.record(z.string(), z.string()).default({}),
});
/** Retained on `pools/<pool>/roster/<shard>`. A pool's roster is the union of its shards of one version. */
export const rosterMessage = z.object({
  epoch: z.number().int().nonnegative(),
  version: z.number().int().nonnegative(),
  shard: z.number().int().nonnegative(),
  shards: z.number().int().positive(),
  nodes: z.array(rosterNode),
});
export type RosterMessage = z.infer<typeof rosterMessage>;
