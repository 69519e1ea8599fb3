import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type { NodeDetailView } from '../../shared/wire/api.ts';
import { nodeName } from '../../shared/wire/messages/fields.ts';
import { isOf } from '../prefetch/progress.ts';
import type { ApiComponents } from './types.ts';
import { nodeView } from './views.ts';

const MAX_PREFETCHES = 100;

const nodeParams = z.object({ node: nodeName });

/** One node: what is known of it, and how it is forgotten. */
export function addNodeRoutes(
  app: FastifyInstance,
  c: Pick<ApiComponents, 'reconciler' | 'observed' | 'forget' | 'log' | 'trust' | 'events'>,
): void {
  app.get('/v1/nodes/:node', (request): NodeDetailView => {
    const { node } = parseNodeParams(request.params);
    const { membership, tuning, jobs } = c.reconciler.view;
    const member = membership.nodes.get(node);
    if (member === undefined) throw unknownNode(node);
    const state = c.observed.get(node);
    const prefetches = [...(state?.prefetches.values() ?? [])].filter((said) => {
      const job = jobs.get(said.id);
      return job !== undefined && isOf(said, job);
    });
    return {
      ...nodeView(member, state, member.pool && tuning.get(member.pool)?.hash),
      labels: member.labels,
      tuningProblems: state?.tuningProblems ?? [],
      prefetches: prefetches.slice(-MAX_PREFETCHES),
      missedEvents: c.events?.missed(node) ?? 0,
    };
  });

  app.delete('/v1/nodes/:node', async (request, reply): Promise<void> => {
    const { node } = parseNodeParams(request.params);
    const known = c.observed.get(node);
    const isEnrolled = c.trust?.book.entry(node) !== undefined;
    if (known === undefined && !isEnrolled) {
      if (!c.reconciler.view.membership.nodes.has(node)) throw unknownNode(node);
      throw new TidepoolError(
        'CONFLICT',
        `node ${node} stands in a Node document and was never heard of; delete it there`,
      );
    }
    if (known?.online === true) {
      throw new TidepoolError(
        'CONFLICT',
        `node ${node} is online; stop its agent first, or it is back at once`,
      );
    }
    // Its certificates go with it: a name that is free again must not have two owners.
    await c.trust?.book.forget(node);
    if (!c.forget(node) && !isEnrolled) throw unknownNode(node);
    c.log.info({ audit: 'node forgotten', node, from: request.ip }, 'a node is forgotten');
    await c.reconciler.now();
    reply.code(204);
  });
}

export function unknownNode(node: string): TidepoolError {
  return new TidepoolError('NOT_FOUND', `there is no node ${quote(node)}`);
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function parseNodeParams(params: unknown): z.infer<typeof nodeParams> {
  const result = nodeParams.safeParse(params);
  if (result.success) return result.data;
  throw new TidepoolError('INVALID_ARGUMENT', result.error.issues[0]?.message ?? 'not a node name');
}
