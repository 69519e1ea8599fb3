import * as z from 'zod';
import { poolName } from './fields.ts';
import { MAX_EVENTS_TOLD } from './report.ts';

/** On `nodes/<node>/command`; never retained. */
export const commandMessage = z.object({
  id: z.string().min(1).max(100),
  epoch: z.number().int().nonnegative(),
  /** When it was sent and until when it may be followed, by the hub's clock. */
  at: z.number().optional(),
  expiresAt: z.number(),
  command: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('resync') }),
    /** The pool that the node's label says; followed by agents whose settings leave that to the hub. */
    z.object({ kind: z.literal('pool'), pool: poolName }),
    /** The node was moved to another pool: its next certificate names that one. */
    z.object({ kind: z.literal('renew') }),
    /** The hub has the events of these boots up to these numbers: the node need not keep them. */
    z.object({
      kind: z.literal('events-kept'),
      through: z
        .array(z.object({ boot: z.string().min(1).max(100), seq: z.number().int().positive() }))
        .max(MAX_EVENTS_TOLD),
    }),
  ]),
});
export type CommandMessage = z.infer<typeof commandMessage>;
