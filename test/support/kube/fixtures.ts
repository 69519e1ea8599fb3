import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { type KubeApi, KubeClient } from '../../../cloud/kube/kube-client.ts';
import { KubeSource, type KubeSourceInit } from '../../../cloud/kube/kube-source.ts';
import { kubeconfigAccess } from '../../../cloud/kube/kubeconfig.ts';
import { systemClock } from '../../../shared/clock.ts';
import { silentLogger } from '../../../shared/log.ts';
import { eventually } from '../hub-fixture.ts';
import type { TestApiServer } from './api-server.ts';

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
const CHART_CRD = fileURLToPath(
  new URL('../../../charts/tidepool/crds/imageprefetches.yaml', import.meta.url),
);
export const MERGE = 'application/merge-patch+json';
export const NAMESPACE = 'kube-system';
const MAPS = `/api/v1/namespaces/${NAMESPACE}/configmaps`;
const PREFETCHES = '/apis/tidepool.dev/v1alpha1/imageprefetches';

/** What a cluster's administrator does, as calls. */
export class Cluster {
  readonly server: TestApiServer;

  constructor(server: TestApiServer) {
    this.server = server;
  }

  /** The chart's own definition. */
  async prefetchCrd(): Promise<void> {
    await this.crd(parse(readFileSync(CHART_CRD, 'utf8')), PREFETCHES);
  }

  async nodePoolCrd(versions: readonly string[] = ['v1beta2']): Promise<void> {
    const [first = ''] = versions;
    await this.crd(
      openCrd('apps.openyurt.io', 'NodePool', 'nodepools', 'Cluster', versions),
      `/apis/apps.openyurt.io/${first}/nodepools`,
    );
  }

  async yurtAppSetCrd(): Promise<void> {
    const definition = openCrd('apps.openyurt.io', 'YurtAppSet', 'yurtappsets', 'Namespaced', ['v1beta1']);
    await this.crd(definition, '/apis/apps.openyurt.io/v1beta1/yurtappsets');
  }

  /** Resolves when its objects can be listed. */
  async crd(definition: unknown, path: string): Promise<void> {
    await this.server.call('POST', CRDS, definition);
    const served = (): Promise<boolean> =>
      this.server.call('GET', path).then(
        () => true,
        () => false,
      );
    await eventually(served, (yes) => yes, 30_000);
  }

  async removeCrd(name: string): Promise<void> {
    await this.server.call('DELETE', `${CRDS}/${name}`);
  }

  async node(name: string, labels: Record<string, string> = {}, address?: string): Promise<void> {
    const metadata = { name, labels };
    await this.server.call('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata });
    if (address === undefined) return;
    const status = { addresses: [{ type: 'InternalIP', address }] };
    await this.server.call('PATCH', `/api/v1/nodes/${name}/status`, { status }, MERGE);
  }

  async patchNode(name: string, patch: object): Promise<void> {
    await this.server.call('PATCH', `/api/v1/nodes/${name}`, patch, MERGE);
  }

  async removeNode(name: string): Promise<void> {
    await this.server.call('DELETE', `/api/v1/nodes/${name}`);
  }

  async pool(name: string, version = 'v1beta2'): Promise<void> {
    const apiVersion = `apps.openyurt.io/${version}`;
    const body = { apiVersion, kind: 'NodePool', metadata: { name }, spec: { type: 'Edge' } };
    await this.server.call('POST', `/apis/${apiVersion}/nodepools`, body);
  }

  /** Creates or replaces the tuning ConfigMap. */
  async tune(data: Record<string, string>): Promise<void> {
    const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'tidepool-tuning' }, data };
    await this.server
      .call('POST', MAPS, body)
      .catch(() => this.server.call('PUT', `${MAPS}/tidepool-tuning`, body));
  }

  async untune(): Promise<void> {
    await this.server.call('DELETE', `${MAPS}/tidepool-tuning`);
  }

  async prefetch(name: string, spec: object): Promise<void> {
    const body = { apiVersion: 'tidepool.dev/v1alpha1', kind: 'ImagePrefetch', metadata: { name }, spec };
    await this.server.call('POST', PREFETCHES, body);
  }

  async prefetchObject(name: string): Promise<PrefetchObject> {
    return (await this.server.call('GET', `${PREFETCHES}/${name}`)) as PrefetchObject;
  }

  async removePrefetch(name: string): Promise<void> {
    await this.server.call('DELETE', `${PREFETCHES}/${name}`);
  }

  async events(namespace: string): Promise<readonly EventObject[]> {
    const list = await this.server.call('GET', `/api/v1/namespaces/${namespace}/events`);
    return (list as { items: EventObject[] }).items;
  }

  /** The namespaces that a controller would have made. */
  async namespaces(...names: readonly string[]): Promise<void> {
    for (const name of names) {
      const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name } };
      // The real server makes its own, sooner or later.
      await this.server.call('POST', '/api/v1/namespaces', body).catch(() => undefined);
      await eventually(
        () => this.server.call('GET', `/api/v1/namespaces/${name}`).catch(() => undefined),
        (found) => found !== undefined,
        30_000,
      );
    }
  }
}

export interface PrefetchObject {
  readonly metadata: { readonly uid: string; readonly generation: number; readonly resourceVersion: string };
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>>;
}

export interface EventObject {
  readonly involvedObject: { readonly kind: string; readonly name: string; readonly uid?: string };
  readonly reason: string;
  readonly message: string;
  readonly type: string;
}

/** Without a schema, for kinds that are not ours. */
export function openCrd(
  group: string,
  kind: string,
  plural: string,
  scope: 'Cluster' | 'Namespaced',
  versions: readonly string[],
): object {
  const openAPIV3Schema = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${plural}.${group}`,
      // The API server guards groups below kubernetes' own names; this is not one, and the note does no harm.
      annotations: { 'tidepool.dev/test': 'true' },
    },
    spec: {
      group,
      scope,
      names: { kind, plural, singular: plural.replace(/s$/, ''), listKind: `${kind}List` },
      versions: versions.map((name, index) => ({
        name,
        served: true,
        storage: index === 0,
        schema: { openAPIV3Schema },
      })),
    },
  };
}

export interface Call {
  readonly verb: string;
  readonly path: string;
  /** Monotonic ms. */
  readonly at: number;
}

/** A client whose requests are counted, and a source over it. */
export interface Followed {
  readonly source: KubeSource;
  readonly client: KubeClient;
  readonly calls: readonly Call[];
  stop(): Promise<void>;
}

/** Times fit for tests; `random` stays real. */
export const FAST = {
  absentMs: 300,
  absentConfirmMs: 100,
  retry: { baseMs: 200, maxMs: 5_000 },
  deniedRetry: { baseMs: 500, maxMs: 1_000 },
} as const;

export async function clientOf(kubeconfig: string, silentMs?: number): Promise<KubeClient> {
  const access = await kubeconfigAccess(systemClock, kubeconfig);
  const init = { userAgent: 'tidepool-hub/test', ...(silentMs === undefined ? {} : { silentMs }) };
  return new KubeClient({ clock: systemClock, access }, init);
}

export async function follow(
  kubeconfig: string,
  init: Partial<KubeSourceInit> & { readonly silentMs?: number } = {},
): Promise<Followed> {
  const { silentMs, ...rest } = init;
  const client = await clientOf(kubeconfig, silentMs);
  const calls: Call[] = [];
  const count = (verb: string, path: string): void => {
    calls.push({ verb, path, at: performance.now() });
  };
  const counted: KubeApi = {
    server: client.server,
    json: (method, request) => {
      count(method, request.path);
      return client.json(method, request);
    },
    list: (request, onItem) => {
      count('GET', request.path);
      return client.list(request, onItem);
    },
    watch: (request) => {
      count('watch', request.path);
      return client.watch(request);
    },
  };
  const source = new KubeSource(
    { clock: systemClock, log: silentLogger(), client: counted },
    { namespace: NAMESPACE, ...FAST, ...rest },
  );
  await source.start();
  return {
    source,
    client,
    calls,
    async stop() {
      await source.stop();
      await client.stop();
    },
  };
}
