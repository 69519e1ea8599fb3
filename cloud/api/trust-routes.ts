import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import * as z from 'zod';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { parseKeyId } from '../../shared/trust/certificate.ts';
import type { KeyId } from '../../shared/trust/types.ts';
import type {
  AuthorityView,
  JoinTokenMade,
  JoinTokenView,
  NodeMovedView,
  NodeRevokedView,
} from '../../shared/wire/api.ts';
import { nodeName, poolName } from '../../shared/wire/messages/fields.ts';
import type { Authority } from '../trust/authority.ts';
import { MAX_TOKEN_TTL_MS, MAX_TOKEN_USES, TOKEN_TTL_MS } from '../trust/constants.ts';
import type { Enrolled, Enrolment } from '../trust/enrolment.ts';
import type { HandedCredentials } from '../trust/handed-credentials.ts';
import type { TrustBook } from '../trust/trust-book.ts';
import type { TokenEntry } from '../trust/trust-state.ts';

/** A request for a certificate is about 400 bytes, a ServiceAccount's token 1 to 3 KiB. */
const ENROL_BODY_BYTES = 32 * 1024;
const MAX_PEM_CHARS = 4_096;

/** Of a hub with identities. */
export interface TrustParts {
  readonly authority: Pick<Authority, 'roots' | 'issuer' | 'hubIssuer' | 'rotate' | 'drop'>;
  readonly book: TrustBook;
  readonly enrolment: Pick<Enrolment, 'enrol' | 'renew'>;
  /** Tells a node to ask for its next certificate now. */
  readonly tellRenew: (node: NodeName) => Promise<void>;
  readonly now: () => number;
}

export interface TrustRouteComponents {
  readonly log: Logger;
  readonly trust?: TrustParts | undefined;
  readonly handed?: Pick<HandedCredentials, 'of'> | undefined;
}

const enrolBody = z.strictObject({
  node: nodeName,
  request: z.string().max(MAX_PEM_CHARS),
  token: z.string().max(256).optional(),
  serviceAccountToken: z.string().max(16_384).optional(),
  replace: z.boolean().optional(),
  platform: z.string().max(64).optional(),
});
const renewBody = z.strictObject({ request: z.string().max(MAX_PEM_CHARS) });
const tokenBody = z.strictObject({
  pool: poolName,
  ttlMs: z.number().int().positive().max(MAX_TOKEN_TTL_MS).default(TOKEN_TTL_MS),
  uses: z.number().int().positive().max(MAX_TOKEN_USES).default(1),
});
const idParams = z.object({ id: z.string().max(64) });
const nodeParams = z.object({ node: nodeName });
const rootParams = z.object({
  root: z.string().transform((text, context): KeyId => {
    try {
      return parseKeyId(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: describeError(error) });
      return z.NEVER;
    }
  }),
});
const moveBody = z.strictObject({ pool: poolName });
const dropQuery = z.looseObject({ force: z.enum(['true', 'false']).default('false') });

/** How nodes get in and stay in, and how people decide about that. */
export function addTrustRoutes(app: FastifyInstance, c: TrustRouteComponents): void {
  const { trust } = c;
  if (trust === undefined) {
    for (const url of ['/v1/enroll', '/v1/renew', '/v1/tokens']) app.post(url, refuseInsecure);
    return;
  }
  addEnrolment(app, trust);
  addTokens(app, trust);
  addAuthority(app, trust);
  addNodes(app, c, trust);
}

function addEnrolment(app: FastifyInstance, { enrolment }: TrustParts): void {
  app.post('/v1/enroll', { bodyLimit: ENROL_BODY_BYTES }, async (request, reply): Promise<Enrolled> => {
    const body = parsed(enrolBody, request.body);
    return await whileAsked(reply, (signal) => enrolment.enrol(body, signal));
  });

  app.post('/v1/renew', { bodyLimit: ENROL_BODY_BYTES }, async (request, reply): Promise<Enrolled> => {
    const { request: wanted } = parsed(renewBody, request.body);
    const { shown } = request;
    if (shown === undefined) {
      throw new TidepoolError('UNAUTHORIZED', 'a renewal takes the certificate that is to be renewed');
    }
    return await whileAsked(reply, (signal) => enrolment.renew(shown.certificate, wanted, signal));
  });
}

function addTokens(app: FastifyInstance, { book, now }: TrustParts): void {
  app.get('/v1/tokens', (): readonly JoinTokenView[] => book.tokens().map((each) => tokenView(each, now())));

  app.post('/v1/tokens', async (request, reply): Promise<JoinTokenMade> => {
    const { token, entry } = await book.createToken(parsed(tokenBody, request.body));
    reply.code(201);
    return { ...tokenView(entry, now()), token };
  });

  app.delete('/v1/tokens/:id', async (request, reply): Promise<void> => {
    await book.deleteToken(parsed(idParams, request.params).id);
    reply.code(204);
  });
}

function addAuthority(app: FastifyInstance, { authority, book }: TrustParts): void {
  const view = (): AuthorityView => {
    const issuer = authority.issuer.keyId;
    const hub = authority.hubIssuer.keyId;
    return {
      roots: authority.roots().map(({ keyId, pem, notAfter }) => ({
        id: keyId,
        issues: keyId === issuer,
        ofHub: keyId === hub,
        notAfter,
        certificates: book.issuedBy(keyId),
        pem,
      })),
    };
  };

  app.get('/v1/ca', view);

  app.post('/v1/ca/rotate', async (_request, reply): Promise<AuthorityView> => {
    await authority.rotate();
    reply.code(201);
    return view();
  });

  app.delete('/v1/ca/roots/:root', async (request, reply): Promise<void> => {
    const { root } = parsed(rootParams, request.params);
    const living = book.issuedBy(root);
    if (living > 0 && parsed(dropQuery, request.query).force !== 'true') {
      const message = `${living} certificates of nodes are of this root and have not ended; those nodes renew theirs within two thirds of its life, or cut them off: --force`;
      throw new TidepoolError('CONFLICT', message);
    }
    await authority.drop(root);
    reply.code(204);
  });
}

function addNodes(app: FastifyInstance, { handed, log }: TrustRouteComponents, trust: TrustParts): void {
  const { book, tellRenew } = trust;
  app.post('/v1/nodes/:node/revoke', async (request): Promise<NodeRevokedView> => {
    const { node } = parsed(nodeParams, request.params);
    const keys = await book.revoke(node);
    return { node, keys, credentials: handed?.of(node) ?? [] };
  });

  app.post('/v1/nodes/:node/move', async (request): Promise<NodeMovedView> => {
    const { node } = parsed(nodeParams, request.params);
    const { pool } = parsed(moveBody, request.body);
    await book.move(node, pool);
    return { node, pool, told: await told(node, pool) };
  });

  async function told(node: NodeName, pool: PoolName): Promise<boolean> {
    try {
      await tellRenew(node);
      return true;
    } catch (error) {
      log.info({ node, pool, reason: describeError(error) }, 'a moved node is told when it can be reached');
      return false;
    }
  }
}

function tokenView({ id, pool, createdAt, expiresAt, uses, used }: TokenEntry, now: number): JoinTokenView {
  return { id, pool, createdAt, expiresAt, uses, used, over: used >= uses || now >= expiresAt };
}

function refuseInsecure(_request: FastifyRequest): never {
  const message =
    'this hub runs with --insecure: it has no authority, and agents come with --insecure too; start it without to let nodes enrol';
  throw new TidepoolError('CONFLICT', message);
}

/** Who has left wants nothing any more. */
async function whileAsked<T>(reply: FastifyReply, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const onClose = (): void => controller.abort(new TidepoolError('ABORTED', 'whoever asked has left'));
  reply.raw.once('close', onClose);
  try {
    return await work(controller.signal);
  } finally {
    reply.raw.off('close', onClose);
  }
}

/** @throws TidepoolError INVALID_ARGUMENT */
function parsed<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value ?? {});
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const message = `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'invalid'}`;
  throw new TidepoolError('INVALID_ARGUMENT', message);
}
