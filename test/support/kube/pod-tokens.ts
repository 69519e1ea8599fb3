import { randomUUID } from 'node:crypto';
import type { Json } from './object-store.ts';

const REQUEST = /^\/api\/v1\/namespaces\/([^/]+)\/serviceaccounts\/([^/]+)\/token$/;
const REVIEWS = '/apis/authentication.k8s.io/v1/tokenreviews';

interface Issued {
  readonly namespace: string;
  readonly account: string;
  readonly audiences: readonly string[];
  readonly pod: { readonly name: string; readonly uid: string } | undefined;
}

/** TokenRequest and TokenReview of the double, as a server before 1.30 has them: tokens name their pod, not its node. */
export class PodTokens {
  readonly #issued = new Map<string, Issued>();

  /** Undefined for what is neither. */
  answer(method: string, path: string, body: unknown): Json | undefined {
    if (method !== 'POST') return undefined;
    if (path === REVIEWS) return this.#review(body);
    const [, namespace, account] = REQUEST.exec(path) ?? [];
    return namespace === undefined || account === undefined
      ? undefined
      : this.#issue(namespace, account, body);
  }

  #issue(namespace: string, account: string, body: unknown): Json {
    const { spec } = body as {
      spec: { audiences: string[]; boundObjectRef?: { name: string; uid: string } };
    };
    const token = `double.${randomUUID()}`;
    this.#issued.set(token, { namespace, account, audiences: spec.audiences, pod: spec.boundObjectRef });
    return { kind: 'TokenRequest', apiVersion: 'authentication.k8s.io/v1', status: { token } };
  }

  #review(body: unknown): Json {
    const { spec } = body as { spec: { token: string; audiences: string[] } };
    const known = this.#issued.get(spec.token);
    const audiences = spec.audiences.filter((each) => known?.audiences.includes(each));
    const answer = { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1' };
    if (known === undefined || audiences.length === 0) {
      return { ...answer, status: { authenticated: false, error: 'invalid bearer token' } };
    }
    const { namespace, account, pod } = known;
    const prefix = 'authentication.kubernetes.io';
    const extra =
      pod === undefined ? {} : { [`${prefix}/pod-name`]: [pod.name], [`${prefix}/pod-uid`]: [pod.uid] };
    const user = { username: `system:serviceaccount:${namespace}:${account}`, extra };
    return { ...answer, status: { authenticated: true, audiences, user } };
  }
}
