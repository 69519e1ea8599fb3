import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import { TidepoolError } from '../../shared/errors.ts';
import { SingleFlight } from '../../shared/flow/single-flight.ts';
import { quote } from '../../shared/ids.ts';
import { parseImageRef } from '../../shared/image-ref.ts';
import { parseSealKey, seal } from '../../shared/trust/seal.ts';
import type { NodePrincipal } from '../../shared/trust/types.ts';
import type { HandedCredentialView } from '../../shared/wire/api.ts';
import {
  type CredentialAnswer,
  type CredentialRequest,
  credentialContext,
  credentialRequest,
  MAX_REGISTRIES,
  type SealedAccounts,
} from '../../shared/wire/credentials.ts';
import { nodeName } from '../../shared/wire/messages/fields.ts';
import type { PullSecrets, RegistryAccount } from '../desired/types.ts';
import type { PlannedJob } from '../prefetch/plan.ts';
import type { HandedAccount, HandedCredentials } from '../trust/handed-credentials.ts';

const nodeParams = z.object({ node: nodeName });

export interface CredentialRouteComponents {
  readonly reconciler: { readonly view: { readonly jobs: ReadonlyMap<string, PlannedJob> } };
  /** Undefined outside of Kubernetes: then nodes get no accounts. */
  readonly secrets: PullSecrets | undefined;
  readonly handed: Pick<HandedCredentials, 'of' | 'record'>;
}

/** Accounts out of pull secrets, for nodes that run a prefetch of private images; and who has had which. */
export function addCredentialRoutes(app: FastifyInstance, c: CredentialRouteComponents): void {
  const reading = new SingleFlight<string, RegistryAccount | undefined>();

  app.post('/v1/node/credentials', async (request): Promise<CredentialAnswer> => {
    const { caller } = request;
    if (caller.kind !== 'node') throw new TidepoolError('DENIED', 'this is for nodes');
    const wanted = parsed(credentialRequest, request.body);
    const sealKey = parseSealKey(wanted.sealKey);
    const job = jobOf(c.reconciler.view.jobs, wanted, caller.principal);
    const registries: SealedAccounts['registries'] = {};
    const handed: HandedAccount[] = [];
    for (const registry of registriesOf(job)) {
      for (const secret of job.definition.pullSecrets ?? []) {
        // Nodes of a pool ask at the same moment, and all of them for the same.
        const account = await reading.run(
          JSON.stringify([secret, registry]),
          async (signal) => await c.secrets?.account([secret], registry, signal),
        );
        if (account === undefined) continue;
        registries[registry] = account;
        handed.push({ secret, registry, username: account.username });
        break;
      }
    }
    const { pool, node } = caller.principal;
    await c.handed.record(node, handed);
    const content: SealedAccounts = { registries };
    const context = credentialContext({ pool, node, job: wanted.job, generation: wanted.generation });
    return { sealed: seal(Buffer.from(JSON.stringify(content)), sealKey, context) };
  });

  app.get('/v1/nodes/:node/credentials', (request): readonly HandedCredentialView[] =>
    c.handed.of(parsed(nodeParams, request.params).node),
  );
}

/**
 * The job, where this node was told to run it as it is now.
 * @throws TidepoolError NOT_FOUND, also for a job of others: it is none of the node's business
 */
function jobOf(
  jobs: ReadonlyMap<string, PlannedJob>,
  wanted: CredentialRequest,
  { pool, node }: NodePrincipal,
): PlannedJob {
  const job = jobs.get(wanted.job);
  const told = job?.messages.get(pool);
  const named = told?.nodes === undefined || told.nodes.includes(node);
  if (job === undefined || told === undefined || !named || told.suspend) {
    throw new TidepoolError('NOT_FOUND', `node ${node} has no prefetch ${quote(wanted.job)} to run`);
  }
  if (told.generation !== wanted.generation) {
    throw new TidepoolError(
      'CONFLICT',
      `prefetch ${wanted.job} is another one by now; its message is under way`,
    );
  }
  return job;
}

function registriesOf({ definition }: PlannedJob): readonly string[] {
  const found = new Set(definition.images.map(({ image }) => parseImageRef(image).registry));
  return [...found].slice(0, MAX_REGISTRIES);
}

/** @throws TidepoolError INVALID_ARGUMENT */
function parsed<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const message = `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'invalid'}`;
  throw new TidepoolError('INVALID_ARGUMENT', message);
}
