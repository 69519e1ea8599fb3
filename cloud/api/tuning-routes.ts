import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type { NodeTuningView, PoolTuningView, TuningCheckView } from '../../shared/wire/api.ts';
import { nodeName, poolName } from '../../shared/wire/messages/fields.ts';
import { explain, tuningChanges } from '../pools/tuning-explain.ts';
import { parseTuning } from '../pools/tuning-parse.ts';
import type { ApiComponents } from './types.ts';

const MAX_ROWS = 1_000;
/** A ConfigMap holds 1 MiB; JSON writes some characters as two. */
const CHECK_BODY_BYTES = 3 * 1024 * 1024;

const nodeParams = z.object({ node: nodeName });
const poolParams = z.object({ pool: poolName });
const checkBody = z.strictObject({ data: z.record(z.string(), z.string()) });

/** Where each setting comes from, and what another tuning would change. */
export function addTuningRoutes(app: FastifyInstance, c: ApiComponents): void {
  app.get('/v1/nodes/:node/tuning', (request): NodeTuningView => {
    const { node } = parsed(nodeParams, request.params);
    const { membership, tuning } = c.reconciler.view;
    const member = membership.nodes.get(node);
    if (member === undefined) throw new TidepoolError('NOT_FOUND', `there is no node ${quote(node)}`);
    const pool = member.pool === undefined ? undefined : tuning.get(member.pool);
    const state = c.observed.get(node);
    return {
      node,
      pool: member.pool ?? null,
      gateway: pool?.gateways.includes(node) ?? false,
      tuningHash: pool?.hash ?? null,
      applied: state?.tuningHash ?? null,
      settings: explain(c.reconciler.tuning.table, member.labels),
      problems: state?.tuningProblems ?? [],
    };
  });

  app.get('/v1/pools/:pool/tuning', (request): PoolTuningView => {
    const { pool } = parsed(poolParams, request.params);
    const { membership, tuning } = c.reconciler.view;
    const members = membership.pools.get(pool);
    const effective = tuning.get(pool);
    if (members === undefined || effective === undefined) {
      throw new TidepoolError('NOT_FOUND', `there is no pool ${quote(pool)}`);
    }
    return {
      pool,
      tuningHash: effective.hash,
      nodes: members.length,
      tuned: members.filter(({ node }) => c.observed.get(node)?.tuningHash === effective.hash).length,
      gateways: effective.gateways,
      settings: effective.settings,
      byNode: Object.fromEntries(Object.entries(effective.nodes).slice(0, MAX_ROWS)),
    };
  });

  app.post('/v1/tuning-checks', { bodyLimit: CHECK_BODY_BYTES }, (request): TuningCheckView => {
    const { data } = parsed(checkBody, request.body);
    const { table, texts } = c.reconciler.tuning;
    const checked = parseTuning({ data, source: 'tuning' }, texts);
    const changes = tuningChanges(table, checked.table, c.reconciler.view.membership);
    return {
      problems: checked.problems.slice(0, MAX_ROWS),
      changes: changes.slice(0, MAX_ROWS),
      changeCount: changes.length,
    };
  });
}

/** @throws TidepoolError INVALID_ARGUMENT */
function parsed<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const message = `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'invalid'}`;
  throw new TidepoolError('INVALID_ARGUMENT', message);
}
