import type { FastifyInstance } from 'fastify';
import { TidepoolError } from '../../shared/errors.ts';
import type { RegistryHookAnswer } from '../../shared/wire/api.ts';

/** One event is under 2 KiB, and registries send some together. */
const BODY_LIMIT_BYTES = 1024 * 1024;

export interface HookRouteComponents {
  readonly hook: {
    authorize(header: string | undefined, from: string): Promise<void>;
    take(body: unknown, from: string): Promise<RegistryHookAnswer>;
  };
}

/** `POST /v1/hooks/registry`: what a registry tells of pushes. */
export function addHookRoutes(app: FastifyInstance, { hook }: HookRouteComponents): void {
  // A scope of its own: other routes take no more types of bodies than before.
  app.register(async (scope) => {
    // Before the body is read: whoever has not the secret has nothing to say.
    scope.addHook('onRequest', (request) => hook.authorize(request.headers.authorization, request.ip));
    scope.removeAllContentTypeParsers();
    // Registries have types of their own, such as application/vnd.docker.distribution.events.v1+json.
    scope.addContentTypeParser(/^application\/([\w.-]+\+)?json/, { parseAs: 'string' }, parseJson);
    scope.post('/v1/hooks/registry', { bodyLimit: BODY_LIMIT_BYTES }, async (request, reply) => {
      const answer = await hook.take(request.body, request.ip);
      reply.code(answer.jobs.length > 0 ? 202 : 200);
      return answer;
    });
  });
}

async function parseJson(_request: unknown, text: string | Buffer): Promise<unknown> {
  try {
    return JSON.parse(text.toString());
  } catch (error) {
    throw new TidepoolError('INVALID_ARGUMENT', 'the body is not JSON', { cause: error });
  }
}
