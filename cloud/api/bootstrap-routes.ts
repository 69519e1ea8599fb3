import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import { signMessage } from '../../shared/trust/envelope.ts';
import type { BootstrapFile } from '../../shared/wire/bootstrap.ts';
import { poolName } from '../../shared/wire/messages/fields.ts';
import { poolPrefix } from '../../shared/wire/topics.ts';
import type { ApiComponents } from './types.ts';

const poolParams = z.object({ pool: poolName });

/** What agents of a pool need at their first start where they cannot reach the hub. */
export function addBootstrapRoutes(
  app: FastifyInstance,
  c: Pick<ApiComponents, 'publisher' | 'identity' | 'clock' | 'reconciler'>,
): void {
  app.get('/v1/pools/:pool/bootstrap', async (request): Promise<BootstrapFile> => {
    const params = poolParams.safeParse(request.params);
    if (!params.success) {
      throw new TidepoolError('INVALID_ARGUMENT', params.error.issues[0]?.message ?? 'not a pool name');
    }
    const { pool } = params.data;
    // With every change that was made before the call.
    await c.reconciler.now();
    const messages = c.publisher.messages(poolPrefix(pool));
    if (messages.length === 0) {
      throw new TidepoolError('NOT_FOUND', `there is no pool ${quote(pool)}: no node is in it`);
    }
    const signer = c.identity?.current();
    return {
      tidepool: 'bootstrap',
      version: 1,
      pool,
      at: c.clock.now(),
      signed: signer !== undefined,
      messages: messages.map(([topic, body]) => ({
        topic,
        payload: (signer === undefined ? body : signMessage(topic, body, signer)).toString('base64'),
      })),
    };
  });
}
