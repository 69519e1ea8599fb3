import { randomBytes } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type {
  NodeView,
  PoolView,
  PrefetchDetailView,
  PrefetchRequest,
  PrefetchView,
  ProblemView,
} from '../../shared/wire/api.ts';
import type { PlannedJob } from '../prefetch/plan.ts';
import { nodeRows, rollUp } from '../prefetch/roll-up.ts';
import { addTuningRoutes } from './tuning-routes.ts';
import type { ApiComponents } from './types.ts';
import { nodeView, poolViews } from './views.ts';

const MAX_NODES = 20_000;
const MAX_PROBLEMS = 1_000;

/** Shapes only; names, references and digests are checked where a job is made. */
const prefetchRequest = z.strictObject({
  id: z.string().optional(),
  images: z
    .array(
      z.strictObject({
        image: z.string(),
        digest: z.string().optional(),
        platforms: z.array(z.string()).optional(),
      }),
    )
    .min(1),
  pools: z.array(z.string()).min(1).optional(),
  nodes: z.array(z.string()).min(1).optional(),
});
const nodesQuery = z.looseObject({ pool: z.string().optional() });
const idParams = z.object({ id: z.string() });

export function addRoutes(app: FastifyInstance, c: ApiComponents): void {
  addTuningRoutes(app, c);
  const lookup = (node: Parameters<typeof c.observed.get>[0]) => c.observed.get(node);

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

  app.get('/v1/prefetches', (): readonly PrefetchView[] =>
    [...c.reconciler.view.jobs.values()].map((job) => rollUp(job, lookup)),
  );

  app.get('/v1/prefetches/:id', (request): PrefetchDetailView => {
    const job = jobOf(c, idParams.parse(request.params).id);
    return { ...rollUp(job, lookup), nodes: nodeRows(job, lookup) };
  });

  app.post('/v1/prefetches', async (request, reply): Promise<PrefetchView> => {
    const body = parseRequest(request.body);
    const id = body.id ?? newId(body);
    const existing = c.reconciler.view.jobs.get(id);
    if (existing !== undefined && !c.jobs.has(id)) {
      throw new TidepoolError(
        'CONFLICT',
        `prefetch ${id} stands in ${existing.definition.source}; change it there`,
      );
    }
    await c.jobs.add(id, body);
    await c.reconciler.now();
    reply.code(existing === undefined ? 201 : 200);
    return rollUp(jobOf(c, id), lookup);
  });

  app.delete('/v1/prefetches/:id', async (request, reply): Promise<void> => {
    const { id } = idParams.parse(request.params);
    if (!c.jobs.has(id)) {
      const job = jobOf(c, id);
      throw new TidepoolError(
        'CONFLICT',
        `prefetch ${id} stands in ${job.definition.source}; take it out there`,
      );
    }
    await c.jobs.remove(id);
    await c.reconciler.now();
    reply.code(204);
  });

  app.get('/v1/problems', (): readonly ProblemView[] => c.problems().slice(0, MAX_PROBLEMS));
}

function jobOf(c: ApiComponents, id: string): PlannedJob {
  const job = c.reconciler.view.jobs.get(id);
  if (job === undefined) throw new TidepoolError('NOT_FOUND', `there is no prefetch ${quote(id)}`);
  return job;
}

function parseRequest(body: unknown): PrefetchRequest {
  const result = prefetchRequest.safeParse(body);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'invalid'}`,
    );
  }
  const { id, images, pools, nodes } = result.data;
  return {
    ...(id === undefined ? {} : { id }),
    images: images.map(({ image, digest, platforms }) => ({
      image,
      ...(digest === undefined ? {} : { digest }),
      ...(platforms === undefined ? {} : { platforms }),
    })),
    ...(pools === undefined ? {} : { pools }),
    ...(nodes === undefined ? {} : { nodes }),
  };
}

/** The last part of the first image's name, so that lists read well, and something that makes it one of its kind. */
function newId({ images }: PrefetchRequest): string {
  const last = images[0]?.image.split('@')[0]?.split('/').at(-1) ?? '';
  const stem = last
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, 60)
    .replaceAll(/^-+|-+$/g, '');
  return `${stem === '' ? 'prefetch' : stem}-${randomBytes(4).toString('hex')}`;
}
