import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import { TidepoolError } from '../../shared/errors.ts';
import {
  type ApiTokenMade,
  type ApiTokenRequest,
  type ApiTokenView,
  type AuditEntryView,
  ROLES,
} from '../../shared/wire/api.ts';
import type { ApiTokens } from '../trust/api-tokens.ts';
import type { AuditLog } from '../trust/audit-log.ts';

const MAX_ENTRIES = 10_000;

const createBody = z.strictObject({
  name: z.string(),
  role: z.enum(ROLES),
  ttlMs: z.number().positive().optional(),
});
const nameParams = z.object({ name: z.string() });
const auditQuery = z.looseObject({
  since: z.coerce.number().optional(),
  limit: z.coerce.number().int().positive().max(MAX_ENTRIES).optional(),
});

/** Bearer tokens of this API. */
export function addTokenRoutes(
  app: FastifyInstance,
  { tokens }: { readonly tokens: Pick<ApiTokens, 'list' | 'create' | 'remove'> },
): void {
  app.get('/v1/api-tokens', (): readonly ApiTokenView[] => tokens.list());

  app.post('/v1/api-tokens', async (request, reply): Promise<ApiTokenMade> => {
    const wanted: ApiTokenRequest = stripped(parsed(createBody, request.body));
    const { token, view } = await tokens.create(wanted);
    reply.code(201);
    return { ...view, token };
  });

  app.delete('/v1/api-tokens/:name', async (request, reply): Promise<void> => {
    await tokens.remove(parsed(nameParams, request.params).name);
    reply.code(204);
  });
}

/** Who has changed what. */
export function addAuditRoutes(
  app: FastifyInstance,
  { audit }: { readonly audit: Pick<AuditLog, 'read'> },
): void {
  app.get('/v1/audit', async (request): Promise<readonly AuditEntryView[]> => {
    const { since, limit } = parsed(auditQuery, request.query);
    return await audit.read({
      ...(since === undefined ? {} : { since }),
      ...(limit === undefined ? {} : { limit }),
    });
  });
}

function stripped({ name, role, ttlMs }: z.infer<typeof createBody>): ApiTokenRequest {
  return { name, role, ...(ttlMs === undefined ? {} : { ttlMs }) };
}

/** @throws TidepoolError INVALID_ARGUMENT */
function parsed<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const message = `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'invalid'}`;
  throw new TidepoolError('INVALID_ARGUMENT', message);
}
