import type { FastifyInstance, FastifyRequest } from 'fastify';
import * as z from 'zod';
import { isTidepoolError } from '../../shared/errors.ts';
import { parseJoinToken } from '../../shared/trust/join-token.ts';
import { callerName } from '../trust/access.ts';
import type { AuditEnd, AuditedChange, AuditFacts, AuditLog } from '../trust/audit-log.ts';
import { accessOf } from './route-access.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Of a change that is under way. */
    change: AuditedChange | undefined;
    /** What the answer says that the change was about: an id that the hub has chosen. */
    made: string | undefined;
  }
}

const MAX_IMAGES = 5;
/** What of a body says what a change is about. Nothing else of it is written: there may be secrets in it. */
const telling = z
  .looseObject({
    id: z.string(),
    name: z.string(),
    node: z.string(),
    pool: z.string(),
    role: z.string(),
    job: z.string(),
    suspend: z.boolean(),
    replace: z.boolean(),
    uses: z.number(),
    images: z.array(z.looseObject({ image: z.string() })),
  })
  .partial();
const TELLING = ['id', 'name', 'node', 'pool', 'role', 'job', 'suspend', 'replace', 'uses'] as const;

/** Writes down every change that a route makes, before it is made; see {@link RouteAccess.audit}. */
export function addAudit(app: FastifyInstance, audit: AuditLog): void {
  app.decorateRequest('change');
  app.decorateRequest('made');
  app.addHook('preHandler', async (request) => {
    if (whenOf(request) === 'before') request.change = await audit.begin(factsOf(request));
  });
  app.addHook('preSerialization', async (request, _reply, payload) => {
    if (whenOf(request) !== undefined) request.made = tellingOf(payload);
    return payload;
  });
  // Before the answer leaves: whoever has it finds the change in the log.
  app.addHook('onSend', async (request, reply, payload) => {
    const end = endOf(reply.statusCode);
    const { change } = request;
    if (change !== undefined) {
      request.change = undefined;
      await change.end(end, withMade(change.facts.object, request.made));
    } else if (whenOf(request) === 'after' && end.outcome === 'done') {
      const facts = factsOf(request);
      await audit.note({ ...facts, object: withMade(facts.object, request.made) }, end);
    }
    return payload;
  });
}

function whenOf(request: FastifyRequest): 'before' | 'after' | undefined {
  return request.is404 ? undefined : accessOf(request.method, request.routeOptions.url ?? '').audit;
}

function factsOf(request: FastifyRequest): AuditFacts {
  const path = request.url.split('?')[0] ?? '';
  const about = tellingOf(request.body);
  return {
    who: whoOf(request),
    from: request.ip,
    action: `${request.method} ${request.routeOptions.url ?? path}`,
    object: about === undefined ? path : `${path} ${about}`,
  };
}

/** An enrolment is told by its join token's id, which is no secret. */
function whoOf({ caller, body }: FastifyRequest): string {
  if (caller.kind !== 'nobody' || typeof body !== 'object' || body === null) return callerName(caller);
  if (!('token' in body) || typeof body.token !== 'string') return 'service account';
  try {
    return `join-token:${parseJoinToken(body.token).id}`;
  } catch (error) {
    if (isTidepoolError(error, 'INVALID_ARGUMENT')) return callerName(caller);
    throw error;
  }
}

function tellingOf(value: unknown): string | undefined {
  const result = telling.safeParse(value);
  if (!result.success) return undefined;
  const { images = [] } = result.data;
  const words = [
    ...TELLING.flatMap((key) => (result.data[key] === undefined ? [] : [`${key}=${result.data[key]}`])),
    ...images.slice(0, MAX_IMAGES).map(({ image }) => `image=${image}`),
  ];
  return words.length === 0 ? undefined : words.join(' ');
}

function withMade(object: string, made: string | undefined): string {
  const more = made?.split(' ').filter((word) => !object.includes(word)) ?? [];
  return [object, ...more].join(' ');
}

function endOf(status: number): AuditEnd {
  if (status < 400) return { outcome: 'done', status };
  return { outcome: status < 500 ? 'refused' : 'failed', status };
}
