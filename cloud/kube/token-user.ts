import { TidepoolError } from '../../shared/errors.ts';
import type { KubeApi } from './kube-client.ts';
import { isKubeError } from './kube-error.ts';
import { at, listAt, recordAt, stringAt } from './objects.ts';

/** A user or ServiceAccount as the cluster knows it. */
export interface KubeUser {
  readonly name: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

export interface Review {
  readonly group: 'authentication.k8s.io' | 'authorization.k8s.io';
  readonly kind: 'TokenReview' | 'SubjectAccessReview';
  readonly spec: unknown;
  readonly signal: AbortSignal | undefined;
}

const TIMEOUT_MS = 10_000;
const MAX_GROUPS = 200;

/**
 * Whose token it is; undefined where the cluster does not know it, or it was made for something else.
 * @param audience the token has to be for it: one that is meant for the API server must not be worth anything here, or
 * whoever it is sent to could use it there
 * @throws TidepoolError KUBE_UNREACHABLE, KUBE_ERROR
 */
export async function userOfToken(
  client: Pick<KubeApi, 'json'>,
  token: string,
  audience: string,
  signal?: AbortSignal,
): Promise<KubeUser | undefined> {
  const spec = { token, audiences: [audience] };
  const status = await review(client, { group: 'authentication.k8s.io', kind: 'TokenReview', spec, signal });
  // A server that knows no audiences names none: then nothing is proved.
  if (at(status, 'authenticated') !== true || !listAt(status, 'audiences').includes(audience))
    return undefined;
  const name = stringAt(status, 'user', 'username') ?? '';
  if (name === '') return undefined;
  const extra = Object.entries(recordAt(status, 'user', 'extra'));
  return {
    name,
    uid: stringAt(status, 'user', 'uid') ?? '',
    groups: strings(listAt(status, 'user', 'groups')).slice(0, MAX_GROUPS),
    extra: Object.fromEntries(extra.map(([key, values]) => [key, strings(values)])),
  };
}

/** The `status` of the cluster's answer. @throws TidepoolError KUBE_UNREACHABLE, KUBE_ERROR */
export async function review(
  client: Pick<KubeApi, 'json'>,
  { group, kind, spec, signal }: Review,
): Promise<unknown> {
  const path = `/apis/${group}/v1/${kind.toLowerCase()}s`;
  const body = { apiVersion: `${group}/v1`, kind, spec };
  try {
    return at(await client.json('POST', { path, body, timeoutMs: TIMEOUT_MS, signal }), 'status');
  } catch (error) {
    // It is the hub that was refused: whoever asks the hub must not take it for their own refusal.
    if (!isKubeError(error, 401, 403)) throw error;
    const message = `the hub may not ask the cluster who may do what: give its service account create on ${kind.toLowerCase()}s (the ClusterRole system:auth-delegator does)`;
    throw new TidepoolError('KUBE_ERROR', message, { cause: error });
  }
}

function strings(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((each): each is string => typeof each === 'string') : [];
}
