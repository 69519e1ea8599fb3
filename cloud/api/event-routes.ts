import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import { TidepoolError } from '../../shared/errors.ts';
import type { NodeEventView } from '../../shared/wire/api.ts';
import type { KeptEvent } from '../pools/node-events.ts';
import { parseNodeParams, unknownNode } from './node-routes.ts';
import type { ApiComponents } from './types.ts';

const MAX_EVENTS = 10_000;
const DEFAULT_EVENTS = 1_000;

const eventsQuery = z.looseObject({
  pool: z.string().optional(),
  limit: z.coerce.number().int().min(1).max(MAX_EVENTS).default(DEFAULT_EVENTS),
});

/** What happened on nodes, as they have told. */
export function addEventRoutes(
  app: FastifyInstance,
  c: Pick<ApiComponents, 'reconciler' | 'events' | 'observed'>,
): void {
  app.get('/v1/nodes/:node/events', (request): readonly NodeEventView[] => {
    const { node } = parseNodeParams(request.params);
    const known = c.reconciler.view.membership.nodes.has(node) || c.observed.get(node) !== undefined;
    if (!known) throw unknownNode(node);
    return (c.events?.of(node) ?? []).map(eventView);
  });

  app.get('/v1/events', (request): readonly NodeEventView[] => {
    const query = eventsQuery.safeParse(request.query);
    if (!query.success) {
      const issue = query.error.issues[0];
      throw new TidepoolError('INVALID_ARGUMENT', `${issue?.path.join('.')}: ${issue?.message}`);
    }
    const { pool, limit } = query.data;
    const { nodes } = c.reconciler.view.membership;
    return (c.events?.all() ?? [])
      .filter(({ node }) => pool === undefined || nodes.get(node)?.pool === pool)
      .sort((a, b) => a.heardAt - b.heardAt)
      .slice(-limit)
      .map(eventView);
  });
}

function eventView({ boot: _, seq: __, key, detail, ...event }: KeptEvent): NodeEventView {
  return { ...event, key: key ?? null, detail: detail ?? null };
}
