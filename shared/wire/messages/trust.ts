import * as z from 'zod';
import { parseKeyId } from '../../trust/certificate.ts';
import { viaParser } from './fields.ts';

/** Retained on `pools/<pool>/trust`, always signed: whose word counts, and whose no longer does. */
export const trustMessage = z.object({
  epoch: z.number().int().nonnegative(),
  /** Of the hub's trust book, not of the publication: it never falls, also over restarts and epochs. */
  version: z.number().int().nonnegative(),
  /** PEM, one authority each; the first issues. */
  roots: z.array(z.string().max(8_192)).min(1).max(8),
  /** Ids of keys. */
  revoked: z.array(viaParser(parseKeyId)).max(2_000).default([]),
});
export type TrustMessage = z.infer<typeof trustMessage>;
