import type { Clock } from '../../shared/clock.ts';
import { describeError, isTidepoolError, TidepoolError } from '../../shared/errors.ts';
import { Backoff } from '../../shared/flow/backoff.ts';
import type { Startable } from '../../shared/lifecycle.ts';
import type { Logger } from '../../shared/log.ts';
import type { Root } from '../../shared/trust/types.ts';
import { DENIED_RETRY, RETRY, ROOTS_LOOK_MS } from './constants.ts';
import type { KubeApi } from './kube-client.ts';
import { isKubeError } from './kube-error.ts';
import { stringAt } from './objects.ts';

const KEY = 'ca.pem';

export interface RootsConfigMapComponents {
  readonly clock: Clock;
  readonly log: Logger;
  readonly client: Pick<KubeApi, 'json'>;
  readonly authority: { roots(): readonly Root[]; onChange(listener: () => void): () => void };
  /** Reads what another hub may have written of the authority, so that nothing older is put over it here. */
  readonly refresh: () => Promise<unknown>;
  /** In [0, 1), for jitter. */
  readonly random?: () => number;
}

export interface RootsConfigMapInit {
  readonly namespace: string;
  readonly name: string;
}

/**
 * The roots, which are public, in a ConfigMap: pods that enrol their nodes mount it, and know by it that the hub is the
 * hub. Put right again whenever it differs; what cannot be written is tried again and stops nothing else.
 */
export class RootsConfigMap implements Startable {
  readonly name = 'roots ConfigMap';
  readonly #c: RootsConfigMapComponents;
  readonly #init: RootsConfigMapInit;
  #stopping = new AbortController();
  #running: Promise<void> | undefined;
  #unsubscribe: (() => void) | undefined;
  #wake: (() => void) | undefined;
  #changed = false;

  constructor(components: RootsConfigMapComponents, init: RootsConfigMapInit) {
    this.#c = components;
    this.#init = init;
  }

  start(): Promise<void> {
    this.#stopping = new AbortController();
    this.#unsubscribe = this.#c.authority.onChange(() => {
      this.#changed = true;
      this.#wake?.();
    });
    this.#running = this.#run(this.#stopping.signal);
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    this.#stopping.abort(new Error('the hub is stopping'));
    await this.#running;
  }

  /** Never rejects. */
  async #run(signal: AbortSignal): Promise<void> {
    const { log, random = Math.random } = this.#c;
    const retry = new Backoff({ ...RETRY, random });
    const deniedRetry = new Backoff({ ...DENIED_RETRY, random });
    while (!signal.aborted) {
      this.#changed = false;
      try {
        await this.#publish(signal);
        retry.reset();
        deniedRetry.reset();
        await this.#wait(ROOTS_LOOK_MS, signal);
      } catch (error) {
        if (signal.aborted) return;
        const waitMs = (isTidepoolError(error, 'DENIED') ? deniedRetry : retry).next();
        log.warn(
          { reason: describeError(error), retryInMs: Math.round(waitMs) },
          'the roots could not be put where nodes find them',
        );
        await this.#wait(waitMs, signal);
      }
    }
  }

  async #publish(signal: AbortSignal): Promise<void> {
    const { authority, client, log, refresh } = this.#c;
    const { namespace, name } = this.#init;
    const collection = `/api/v1/namespaces/${namespace}/configmaps`;
    const path = `${collection}/${name}`;
    try {
      // In this order: whoever writes in between makes the version at hand an old one.
      const found = await this.#read(path, signal);
      await refresh();
      const pem = authority
        .roots()
        .map((root) => root.pem)
        .join('');
      if (stringAt(found, 'data', KEY) === pem) return;
      const resourceVersion = stringAt(found, 'metadata', 'resourceVersion');
      const labels = { 'app.kubernetes.io/managed-by': 'tidepool-hub' };
      const body = {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { namespace, name, labels, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
        data: { [KEY]: pem },
      };
      await (resourceVersion === undefined
        ? client.json('POST', { path: collection, body, signal })
        : client.json('PUT', { path, body, signal }));
      log.info({ configMap: `${namespace}/${name}` }, 'the roots are where nodes find them');
    } catch (error) {
      throw this.#explained(error);
    }
  }

  async #read(path: string, signal: AbortSignal): Promise<unknown> {
    try {
      return await this.#c.client.json('GET', { path, signal });
    } catch (error) {
      if (isKubeError(error, 404)) return undefined;
      throw error;
    }
  }

  #explained(error: unknown): unknown {
    if (!isKubeError(error, 401, 403)) return error;
    const { namespace, name } = this.#init;
    const message = `the hub may not write ConfigMap ${namespace}/${name}: give its service account get, update and create there (the chart does)`;
    return new TidepoolError('DENIED', message, { cause: error });
  }

  #wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        cancel();
        signal.removeEventListener('abort', done);
        this.#wake = undefined;
        resolve();
      };
      const cancel = this.#c.clock.after(ms, done);
      this.#wake = done;
      if (signal.aborted || this.#changed) done();
      else signal.addEventListener('abort', done, { once: true });
    });
  }
}
