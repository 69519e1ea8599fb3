import * as z from 'zod';

/** Retained on `hub/state`; the will says offline. */
export const hubState = z.object({
  state: z.enum(['online', 'offline']),
  /** Grows with each start of a hub over the same data; older epochs are refused. */
  epoch: z.number().int().nonnegative(),
  at: z.number(),
});
export type HubState = z.infer<typeof hubState>;
