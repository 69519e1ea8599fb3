import { randomBytes } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import { TidepoolError } from '../../shared/errors.ts';
import { type NodeName, quote } from '../../shared/ids.ts';
import type {
  PrefetchDetailView,
  PrefetchPlanView,
  PrefetchRequest,
  PrefetchView,
} from '../../shared/wire/api.ts';
import type { PlannedJob } from '../prefetch/plan.ts';
import { nodeRows, rollUp } from '../prefetch/roll-up.ts';
import type { ApiComponents } from './types.ts';

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
  retain: z.string().optional(),
});
const putRequest = z.strictObject({ spec: z.unknown() });
const suspendRequest = z.strictObject({ suspend: z.boolean() });
const idParams = z.object({ id: z.string() });

/** Jobs: those that others keep are shown, those of the API are also made, changed and taken away. */
export function addPrefetchRoutes(app: FastifyInstance, c: ApiComponents): void {
  const lookup = (node: NodeName) => c.observed.get(node);

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
    ownJob(c, id, 'take it out there');
    await c.jobs.remove(id);
    await c.reconciler.now();
    reply.code(204);
  });

  app.put('/v1/prefetches/:id', async (request, reply): Promise<PrefetchView> => {
    const { id } = idParams.parse(request.params);
    const existing = c.reconciler.view.jobs.get(id);
    if (existing !== undefined) ownJob(c, id, 'change it there');
    await c.jobs.put(id, checked(putRequest, request.body).spec);
    await c.reconciler.now();
    reply.code(existing === undefined ? 201 : 200);
    return rollUp(jobOf(c, id), lookup);
  });

  app.post('/v1/prefetches/:id/suspend', async (request): Promise<PrefetchView> => {
    const { id } = idParams.parse(request.params);
    const { suspend } = checked(suspendRequest, request.body);
    ownJob(c, id, `set spec.suspend to ${suspend} there`);
    await c.jobs.suspend(id, suspend);
    await c.reconciler.now();
    return rollUp(jobOf(c, id), lookup);
  });

  app.post('/v1/prefetch-plans', async (request, reply): Promise<PrefetchPlanView> => {
    const controller = new AbortController();
    reply.raw.once('close', () => {
      if (!reply.raw.writableFinished)
        controller.abort(new TidepoolError('ABORTED', 'whoever asked has left'));
    });
    return await c.planner.plan(parseRequest(request.body), controller.signal);
  });
}

/** @throws TidepoolError NOT_FOUND, CONFLICT for a job that is written down elsewhere */
function ownJob(c: ApiComponents, id: string, hint: string): void {
  if (c.jobs.has(id)) return;
  throw new TidepoolError('CONFLICT', `prefetch ${id} stands in ${jobOf(c, id).definition.source}; ${hint}`);
}

function checked<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new TidepoolError(
    'INVALID_ARGUMENT',
    `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'invalid'}`,
  );
}

function jobOf(c: ApiComponents, id: string): PlannedJob {
  const job = c.reconciler.view.jobs.get(id);
  if (job === undefined) throw new TidepoolError('NOT_FOUND', `there is no prefetch ${quote(id)}`);
  return job;
}

function parseRequest(body: unknown): PrefetchRequest {
  const { id, images, pools, nodes, retain } = checked(prefetchRequest, body);
  return {
    ...(id === undefined ? {} : { id }),
    images: images.map(({ image, digest, platforms }) => ({
      image,
      ...(digest === undefined ? {} : { digest }),
      ...(platforms === undefined ? {} : { platforms }),
    })),
    ...(pools === undefined ? {} : { pools }),
    ...(nodes === undefined ? {} : { nodes }),
    ...(retain === undefined ? {} : { retain }),
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
