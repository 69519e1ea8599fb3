/** `POST /v1/node/credentials`: accounts for the origin requests of one prefetch, sealed to the node that runs it. */
import * as z from 'zod';
import type { NodeName, PoolName } from '../ids.ts';

export const MAX_REGISTRIES = 64;

export const credentialRequest = z.strictObject({
  /** A prefetch that the node was told to run, as it was told. */
  job: z.string().min(1).max(253),
  generation: z.number().int().nonnegative(),
  /** Of the node, for nothing else: see `shared/trust/seal.ts`. */
  sealKey: z.string().max(200),
});
export type CredentialRequest = z.infer<typeof credentialRequest>;

export const credentialAnswer = z.object({ sealed: z.string().max(512 * 1024) });
export type CredentialAnswer = z.infer<typeof credentialAnswer>;

/** What is sealed: accounts by the registry's host, as images name it. */
export const sealedAccounts = z.object({
  registries: z
    .record(z.string(), z.object({ username: z.string(), password: z.string() }))
    .refine((found) => Object.keys(found).length <= MAX_REGISTRIES, `at most ${MAX_REGISTRIES} registries`),
});
export type SealedAccounts = z.infer<typeof sealedAccounts>;

/** What they are sealed for: an answer to one node about one job opens for no other. */
export function credentialContext(about: {
  readonly pool: PoolName;
  readonly node: NodeName;
  readonly job: string;
  readonly generation: number;
}): string {
  return ['tidepool credentials', about.pool, about.node, about.job, about.generation].join('\n');
}
