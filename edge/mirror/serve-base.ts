import { TidepoolError } from '../../shared/errors.ts';
import type { Exchange } from './exchange.ts';
import { sendsAccountsWhenChallenged } from './request-headers.ts';

/**
 * The question whether a registry of version 2 is here. It is open to all but one kind of client.
 * @throws TidepoolError UNAUTHORIZED to a client that would otherwise never send the account it has
 */
export function serveBase(exchange: Exchange): Promise<void> {
  const { headers } = exchange.request;
  if (headers.authorization === undefined && sendsAccountsWhenChallenged(headers)) {
    throw new TidepoolError(
      'UNAUTHORIZED',
      'send the account that you have for this mirror, or an empty one; images that need none are for everybody',
    );
  }
  return exchange.send({
    status: 200,
    headers: {
      'Content-Type': 'application/json; charset=utf-8',
      'Content-Length': 2,
      'Docker-Distribution-API-Version': 'registry/2.0',
    },
    body: Buffer.from('{}'),
  });
}
