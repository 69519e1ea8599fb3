import { TidepoolError } from '../../shared/errors.ts';
import { quote } from '../../shared/ids.ts';
import type { PullSecrets, RegistryAccount } from '../desired/types.ts';
import { accountIn } from '../registry/docker-config.ts';
import type { KubeApi } from './kube-client.ts';
import { isKubeError } from './kube-error.ts';
import { stringAt } from './objects.ts';

const TYPE = 'kubernetes.io/dockerconfigjson';
const KEY = '.dockerconfigjson';

/**
 * Accounts out of pull secrets, read by name, when they are needed, and never kept: secrets of the hub's own namespace
 * alone, and of them only the entry of the registry that is asked for.
 */
export class KubePullSecrets implements PullSecrets {
  readonly #client: KubeApi;
  readonly #namespace: string;

  constructor(components: { readonly client: KubeApi }, init: { readonly namespace: string }) {
    this.#client = components.client;
    this.#namespace = init.namespace;
  }

  async account(
    secrets: readonly string[],
    registry: string,
    signal?: AbortSignal,
  ): Promise<RegistryAccount | undefined> {
    for (const name of secrets) {
      const config = await this.#read(name, signal);
      const account = accountIn(config, registry);
      if (account !== undefined) return account;
    }
    return undefined;
  }

  async #read(name: string, signal: AbortSignal | undefined): Promise<unknown> {
    const where = `secret ${quote(name)} in namespace ${this.#namespace}`;
    const path = `/api/v1/namespaces/${this.#namespace}/secrets/${encodeURIComponent(name)}`;
    let secret: unknown;
    try {
      secret = await this.#client.json('GET', { path, signal });
    } catch (error) {
      if (isKubeError(error, 404)) {
        const message = `there is no ${where}; create it there: kubectl create secret docker-registry`;
        throw new TidepoolError('NOT_FOUND', message, { cause: error });
      }
      if (isKubeError(error, 401, 403)) {
        const message = `the hub may not read ${where}: give its service account the verb get on that secret`;
        throw new TidepoolError('UNAUTHORIZED', message, { cause: error });
      }
      throw error;
    }
    const type = stringAt(secret, 'type');
    if (type !== TYPE) {
      throw new TidepoolError('NOT_FOUND', `the ${where} is of type ${quote(type ?? '')}, not ${TYPE}`);
    }
    try {
      return JSON.parse(Buffer.from(stringAt(secret, 'data', KEY) ?? '', 'base64').toString('utf8'));
    } catch {
      // Without the parser's words: they quote what stands in it.
      throw new TidepoolError('NOT_FOUND', `the ${where} has no readable ${KEY}`);
    }
  }
}
