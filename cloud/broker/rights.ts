/** What a certificate allows at the broker: decisions without I/O. The same policy is written for other brokers. */
import type { NodePrincipal, Principal } from '../../shared/trust/types.ts';
import { MAX_MESSAGE_BYTES, poolPrefix, topics } from '../../shared/wire/topics.ts';

export interface Publication {
  readonly topic: string;
  readonly payload: string | Uint8Array;
  readonly retain?: boolean;
}

/** Why one may not connect so; undefined where one may. */
export function connectRefusal(
  principal: Principal,
  { clientId, will }: { readonly clientId: string; readonly will: Publication | undefined },
): string | undefined {
  if (principal.kind === 'hub') return undefined;
  // Another node's id would throw that node out, for the newest connection of an id wins.
  if (clientId !== principal.node) return `${principal.node} calls itself ${JSON.stringify(clientId)}`;
  if (will !== undefined && !mayPublish(principal, will)) {
    return `${principal.node} leaves a will that it may not publish`;
  }
  return undefined;
}

/** A node says what it does itself, and nothing that stays when it is gone. */
export function mayPublish(principal: Principal, { topic, payload, retain }: Publication): boolean {
  if (principal.kind === 'hub') return true;
  if (retain === true || Buffer.byteLength(payload) > MAX_MESSAGE_BYTES) return false;
  const { node } = principal;
  return topic === topics.birth(node) || topic === topics.death(node) || topic === topics.report(node);
}

/** A filter counts by all that it could match. */
export function maySubscribe(principal: Principal, filter: string): boolean {
  if (principal.kind === 'hub') return filter.startsWith('tidepool/v1/');
  return isOwnFilter(principal, filter);
}

function isOwnFilter({ node, pool }: NodePrincipal, filter: string): boolean {
  if (filter === topics.hubState || filter === topics.command(node)) return true;
  const own = poolPrefix(pool);
  // Names have no `+` and no `#`, so everything below this is the pool's.
  return filter.startsWith(own) && filter.length > own.length;
}
