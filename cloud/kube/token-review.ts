import { isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { parseNodeName, quote } from '../../shared/ids.ts';
import type { ServiceAccountNode, ServiceAccountReviewer } from '../trust/types.ts';
import type { KubeApi } from './kube-client.ts';
import { isKubeError } from './kube-error.ts';
import { at, listAt, stringAt } from './objects.ts';
import { review } from './token-user.ts';

const EXTRA = 'authentication.kubernetes.io';
const MAX_TOKEN_CHARS = 16 * 1024;
const TIMEOUT_MS = 10_000;
const USER = /^system:serviceaccount:([^:]+):([^:]+)$/;
const NAME = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;

export interface TokenReviewInit {
  readonly audience: string;
  /** `namespace/name`. */
  readonly accounts: readonly string[];
}

/** Asks the cluster whose a projected token is, and on which node its pod runs. */
export class TokenReview implements ServiceAccountReviewer {
  readonly #client: Pick<KubeApi, 'json'>;
  readonly #init: TokenReviewInit;

  constructor(components: { readonly client: Pick<KubeApi, 'json'> }, init: TokenReviewInit) {
    this.#client = components.client;
    this.#init = init;
  }

  async review(token: string, signal?: AbortSignal): Promise<ServiceAccountNode> {
    const { audience, accounts } = this.#init;
    if (token === '' || token.length > MAX_TOKEN_CHARS) throw refusal('it is no token');
    const spec = { token, audiences: [audience] };
    const group = 'authentication.k8s.io';
    const status = await review(this.#client, { group, kind: 'TokenReview', spec, signal });
    if (at(status, 'authenticated') !== true)
      throw refusal('the cluster does not know it, or its time is over');
    // A server that knows nothing of audiences leaves them out, and then the token might be meant for somebody else.
    if (!listAt(status, 'audiences').includes(audience)) {
      throw refusal(`it is not meant for the audience ${quote(audience)}`);
    }
    const [, namespace = '', name = ''] = USER.exec(stringAt(status, 'user', 'username') ?? '') ?? [];
    const account = `${namespace}/${name}`;
    if (!accounts.includes(account)) {
      const message = `it is of ServiceAccount ${quote(account)}; trust.serviceAccounts of the hub says whose pods may enrol nodes`;
      throw refusal(message);
    }
    const node = extra(status, 'node-name') ?? (await this.#nodeOfPod(namespace, status, signal));
    return { node: parseNodeName(node), account };
  }

  /** Before Kubernetes 1.30 a token names its pod and not its node. */
  async #nodeOfPod(namespace: string, status: unknown, signal: AbortSignal | undefined): Promise<string> {
    const pod = extra(status, 'pod-name') ?? '';
    const uid = extra(status, 'pod-uid');
    if (!NAME.test(pod) || uid === undefined) throw refusal('it is not one that was projected into a pod');
    let found: unknown;
    try {
      const path = `/api/v1/namespaces/${namespace}/pods/${pod}`;
      found = await this.#client.json('GET', { path, timeoutMs: TIMEOUT_MS, signal });
    } catch (error) {
      if (isTidepoolError(error, 'NOT_FOUND')) throw refusal(`its pod ${namespace}/${pod} is gone`);
      if (isKubeError(error, 401, 403)) {
        const message = `the hub may not read pod ${namespace}/${pod}: give its service account get on pods there`;
        throw new TidepoolError('KUBE_ERROR', message, { cause: error });
      }
      throw error;
    }
    // A pod of the same name that came later may run elsewhere.
    if (stringAt(found, 'metadata', 'uid') !== uid) throw refusal(`its pod ${namespace}/${pod} is gone`);
    const node = stringAt(found, 'spec', 'nodeName');
    if (node === undefined) throw refusal(`its pod ${namespace}/${pod} runs on no node yet`);
    return node;
  }
}

function extra(status: unknown, key: string): string | undefined {
  const [value, ...more] = listAt(status, 'user', 'extra', `${EXTRA}/${key}`);
  return typeof value === 'string' && value !== '' && more.length === 0 ? value : undefined;
}

function refusal(why: string): TidepoolError {
  return new TidepoolError('TOKEN_REFUSED', `the ServiceAccount token is refused: ${why}`);
}
