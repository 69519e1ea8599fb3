import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import type { Clock } from '../../shared/clock.ts';
import { TidepoolError } from '../../shared/errors.ts';
import { MAX_STATEMENT_BYTES } from '../../shared/oci-layout/constants.ts';
import { type BundleSigned, bundleSignRequest, type PoolInventoryView } from '../../shared/wire/bundles.ts';
import { poolName } from '../../shared/wire/messages/fields.ts';
import { signBundle } from '../bundles/sign-bundle.ts';
import { inventoryOf } from '../prefetch/inventory.ts';
import type { TrustParts } from './trust-routes.ts';
import type { ApiComponents } from './types.ts';

/** In base64. */
const BODY_BYTES = Math.ceil((MAX_STATEMENT_BYTES / 3) * 4) + 4_096;

const poolParams = z.object({ pool: poolName });

export interface BundleRouteComponents {
  readonly clock: Clock;
  readonly reconciler: Pick<ApiComponents['reconciler'], 'view'>;
  readonly observed: Pick<ApiComponents['observed'], 'get'>;
  readonly trust?: Pick<TrustParts, 'authority'> | undefined;
}

/** The hub's word for bundles: their bytes never come here, what they say of themselves does. */
export function addBundleRoutes(app: FastifyInstance, c: BundleRouteComponents): void {
  const { clock, trust } = c;
  app.get('/v1/pools/:pool/inventory', (request): PoolInventoryView => {
    const params = poolParams.safeParse(request.params);
    if (!params.success) throw new TidepoolError('INVALID_ARGUMENT', 'that is no name of a pool');
    return inventoryOf(params.data.pool, c.reconciler.view.jobs.values(), (node) => c.observed.get(node));
  });

  app.post('/v1/bundles/sign', { bodyLimit: BODY_BYTES }, async (request): Promise<BundleSigned> => {
    if (trust === undefined) {
      throw new TidepoolError(
        'CONFLICT',
        'this hub runs with --insecure: it has nothing to sign with; make the bundle with --unsigned, and import it so',
      );
    }
    const body = bundleSignRequest.safeParse(request.body);
    if (!body.success) {
      const issue = body.error.issues[0];
      throw new TidepoolError('INVALID_ARGUMENT', `${issue?.path.join('.') || 'body'}: ${issue?.message}`);
    }
    const { lifetimeMs } = body.data;
    const statement = Buffer.from(body.data.statement, 'base64');
    const { file, expires } = await signBundle(trust, { statement, lifetimeMs, now: clock.now() });
    return { file: file.toString('base64'), expires };
  });
}
