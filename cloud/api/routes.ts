import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import type { NodeView, PoolView, ProblemView } from '../../shared/wire/api.ts';
import { addBootstrapRoutes } from './bootstrap-routes.ts';
import { addEventRoutes } from './event-routes.ts';
import { addPrefetchRoutes } from './prefetch-routes.ts';
import { addTuningRoutes } from './tuning-routes.ts';
import type { ApiComponents } from './types.ts';
import { nodeView, poolViews } from './views.ts';

const MAX_NODES = 20_000;
const MAX_PROBLEMS = 1_000;

const nodesQuery = z.looseObject({ pool: z.string().optional() });

export function addRoutes(app: FastifyInstance, c: ApiComponents): void {
  addTuningRoutes(app, c);

  app.get('/v1/pools', (): readonly PoolView[] => {
    const { membership, tuning } = c.reconciler.view;
    return poolViews(membership, tuning, c.observed.all());
  });

  app.get('/v1/nodes', (request): readonly NodeView[] => {
    const { pool } = nodesQuery.parse(request.query);
    return [...c.reconciler.view.membership.nodes.values()]
      .filter((member) => pool === undefined || member.pool === pool)
      .sort((a, b) => (a.node < b.node ? -1 : 1))
      .slice(0, MAX_NODES)
      .map((member) =>
        nodeView(
          member,
          c.observed.get(member.node),
          member.pool && c.reconciler.view.tuning.get(member.pool)?.hash,
        ),
      );
  });

  addEventRoutes(app, c);
  addBootstrapRoutes(app, c);
  addPrefetchRoutes(app, c);

  app.get('/v1/problems', (): readonly ProblemView[] => c.problems().slice(0, MAX_PROBLEMS));
}
