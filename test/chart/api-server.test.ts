import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { runCli } from '../../cloud/cli/program.ts';
import { type Hub, startHub } from '../../cloud/components.ts';
import { systemClock } from '../../shared/clock.ts';
import { silentLogger } from '../../shared/log.ts';
import type { ProblemView } from '../../shared/wire/api.ts';
import { eventually } from '../support/hub-fixture.ts';
import { findApiServer, kubeconfig, startApiServer, type TestApiServer } from '../support/kube/api-server.ts';
import { CHART, documentsOf, findHelm, type Manifest, PRESETS, render } from './helm.ts';

const helm = findHelm();
const binaries = findApiServer();
const why =
  helm === undefined
    ? 'no helm; test/chart/helm.sh builds it'
    : 'missing' in binaries
      ? binaries.missing
      : '';
if (why !== '') process.stdout.write(`chart against kube-apiserver: skipped, ${why}\n`);

const NAMESPACE = 'tidepool-system';
const START_MS = 150_000;

/** Kinds of the chart that a bare API server has. */
const PLURALS: Readonly<Record<string, string>> = {
  ClusterRole: 'clusterroles',
  ClusterRoleBinding: 'clusterrolebindings',
  ConfigMap: 'configmaps',
  DaemonSet: 'daemonsets',
  Deployment: 'deployments',
  Job: 'jobs',
  NetworkPolicy: 'networkpolicies',
  PersistentVolumeClaim: 'persistentvolumeclaims',
  PodDisruptionBudget: 'poddisruptionbudgets',
  Role: 'roles',
  RoleBinding: 'rolebindings',
  Service: 'services',
  ServiceAccount: 'serviceaccounts',
};

function pathOf({ apiVersion, kind, metadata }: Manifest): string {
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const namespace = metadata.namespace === undefined ? '' : `/namespaces/${metadata.namespace}`;
  const plural = PLURALS[kind];
  if (plural === undefined) throw new Error(`what is the plural of ${kind}?`);
  return `${group}${namespace}/${plural}/${metadata.name}`;
}

describe.skipIf(why !== '')('the chart on a kube-apiserver', () => {
  let server: TestApiServer;
  let directory = '';
  const apply = (object: Manifest, dryRun = false): Promise<unknown> =>
    server.call(
      'PATCH',
      `${pathOf(object)}?fieldManager=helm&force=true&fieldValidation=Strict${dryRun ? '&dryRun=All' : ''}`,
      object,
      'application/apply-patch+yaml',
    );

  const tokenOf = async (account: string): Promise<string> => {
    const answer = await server.call(
      'POST',
      `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/${account}/token`,
      { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 3600 } },
    );
    return String(Reflect.get(Object(Reflect.get(Object(answer), 'status')), 'token'));
  };

  beforeAll(async () => {
    if ('missing' in binaries) return;
    directory = mkdtempSync(join(tmpdir(), 'chart-'));
    server = await startApiServer(binaries);
    const crd: unknown = parse(readFileSync(join(CHART, 'crds/imageprefetches.yaml'), 'utf8'));
    await server.call('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', crd);
    await server.call('POST', '/api/v1/namespaces', {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: NAMESPACE },
    });
    await eventually(
      () => server.call('GET', '/apis/tidepool.dev/v1alpha1/imageprefetches').catch(() => undefined),
      (found) => found !== undefined,
      20_000,
    );
  }, START_MS);
  afterAll(async () => {
    await server?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it.each(PRESETS)('takes every object of preset %s, with no field that it does not know', async (preset) => {
    const { text } = render(helm ?? '', { preset, namespace: NAMESPACE });
    for (const object of documentsOf(text)) await apply(object, true);
  });

  it('takes every object with everything switched on', async () => {
    const values = {
      hub: {
        replicas: 2,
        followWorkloads: true,
        pullSecrets: ['harbor'],
        pushHook: { secretName: 'push', rules: [{ repository: 'team/**', pools: ['hangzhou'] }] },
        persistence: { enabled: true, accessMode: 'ReadWriteMany' },
        podDisruptionBudget: { enabled: true },
        networkPolicy: { enabled: true },
      },
      broker: { type: 'mosquitto', service: { type: 'LoadBalancer' } },
      monitoring: { dashboards: { enabled: true } },
      agent: { tuning: { wan: { download: '10Mbit' } }, seLinuxOptions: { type: 'spc_t' } },
    };
    const { text, error } = render(helm ?? '', { values, namespace: NAMESPACE });
    expect(error).toBe('');
    for (const object of documentsOf(text)) await apply(object, true);
  });

  it('takes the DaemonSet that the uninstall hook makes', async () => {
    const { text } = render(helm ?? '', { namespace: NAMESPACE });
    const map = documentsOf(text).find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.endsWith('-restore'),
    );
    const [daemonSet] = documentsOf(String(Reflect.get(Object(map?.data), 'daemonset.yaml')));
    if (daemonSet === undefined) throw new Error('no DaemonSet');
    await apply(daemonSet, true);
  });

  it('the uninstall hook does its work with the rights that it has', async () => {
    const documents = documentsOf(render(helm ?? '', { namespace: NAMESPACE }).text);
    for (const object of documents) {
      const { name } = object.metadata;
      if (object.kind === 'DaemonSet') await apply(object);
      if (name === 'tidepool-restore' && /^(ServiceAccount|Role|RoleBinding)$/.test(object.kind))
        await apply(object);
    }
    const map = documents.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'tidepool-restore',
    );
    const manifest = join(directory, 'daemonset.yaml');
    writeFileSync(manifest, String(Reflect.get(Object(map?.data), 'daemonset.yaml')));
    const config = join(directory, 'restore.kubeconfig');
    const token = await tokenOf('tidepool-restore');
    writeFileSync(config, kubeconfig(server.url, token, { 'insecure-skip-tls-verify': true }));
    const sets = `/apis/apps/v1/namespaces/${NAMESPACE}/daemonsets`;
    const run = async (): Promise<string> => {
      let text = '';
      const write = (more: string): void => {
        text += more;
      };
      const args = ['helm-hook', 'restore', `--daemonset=${manifest}`, '--instead-of=tidepool-agent'];
      const io = { stdout: { write }, stderr: { write }, signal: new AbortController().signal };
      const code = await runCli([...args, '--timeout=3s', `--kubeconfig=${config}`], '0.1.0', io);
      return `${code} ${text}`;
    };
    // Without controllers nobody puts pods on nodes: what is said must not be success.
    expect(await run()).toMatch(/^0 [\s\S]*not reached within 3s[\s\S]*The DaemonSet stays/);
    await expect(server.call('GET', `${sets}/tidepool-agent`)).rejects.toThrow('404');
    // As the controller does, in a cluster without nodes.
    await server.call(
      'PATCH',
      `${sets}/tidepool-restore/status`,
      {
        status: {
          observedGeneration: 1,
          desiredNumberScheduled: 0,
          currentNumberScheduled: 0,
          numberMisscheduled: 0,
          numberReady: 0,
        },
      },
      'application/merge-patch+json',
    );
    expect(await run()).toContain('containerd is as it was before, on all 0 nodes');
    await expect(server.call('GET', `${sets}/tidepool-restore`)).rejects.toThrow('404');
  });

  describe('with no more rights than the chart gives', () => {
    let hub: Hub | undefined;
    let config = '';
    beforeAll(async () => {
      const { text } = render(helm ?? '', { namespace: NAMESPACE });
      for (const object of documentsOf(text)) {
        const rights = /^(ServiceAccount|ConfigMap|(Cluster)?Role(Binding)?)$/.test(object.kind);
        if (rights && object.metadata.annotations?.['helm.sh/hook'] === undefined) await apply(object);
      }
      const token = await tokenOf('tidepool-hub');
      config = join(directory, 'hub.kubeconfig');
      writeFileSync(config, kubeconfig(server.url, token, { 'insecure-skip-tls-verify': true }));
    }, START_MS);
    afterAll(() => hub?.stop());

    it('a hub leads, reads its tuning, and writes status and events', async () => {
      await server.call('POST', '/apis/tidepool.dev/v1alpha1/imageprefetches', {
        apiVersion: 'tidepool.dev/v1alpha1',
        kind: 'ImagePrefetch',
        metadata: { name: 'web' },
        spec: { images: [{ image: 'registry.invalid/web:1' }], selector: { nodePools: ['nowhere'] } },
      });
      hub = await startHub(
        { clock: systemClock, log: silentLogger() },
        {
          documents: undefined,
          kubernetes: { kubeconfig: config, namespace: NAMESPACE },
          broker: 'embedded',
          mqtt: { host: '127.0.0.1', port: 0 },
          api: { host: '127.0.0.1', port: 0 },
          data: join(directory, 'data'),
          pinTags: false,
          insecure: true,
          logLevel: 'silent',
        },
      );
      const { api } = hub;
      const status = async (): Promise<unknown> => {
        const object = await server.call('GET', '/apis/tidepool.dev/v1alpha1/imageprefetches/web');
        return Reflect.get(Object(object), 'status');
      };
      await eventually(status, (found) => found !== undefined, 40_000);
      await server.call(
        'PATCH',
        `/api/v1/namespaces/${NAMESPACE}/configmaps/tidepool-tuning`,
        { data: { wan: 'wan: [{name: everyone, settings: {download: fast}}]' } },
        'application/merge-patch+json',
      );
      const problems = async (): Promise<readonly ProblemView[]> => {
        const answer = await fetch(`http://${api}/v1/problems`);
        return (await answer.json()) as ProblemView[];
      };
      const found = await eventually(
        problems,
        (all) => all.some(({ message }) => message.includes('fast')),
        40_000,
      );
      expect(found.filter(({ message }) => /forbidden|may not|denied/i.test(message))).toEqual([]);
      const events = (): Promise<unknown> => server.call('GET', `/api/v1/namespaces/${NAMESPACE}/events`);
      await eventually(events, (list) => JSON.stringify(list).includes('tidepool-tuning'), 40_000);
    }, 150_000);

    it('nobody reads secrets, other ConfigMaps or workloads, or changes nodes, by its account', async () => {
      const review = async (attributes: object): Promise<boolean> => {
        const answer = await server.call('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
          apiVersion: 'authorization.k8s.io/v1',
          kind: 'SubjectAccessReview',
          spec: { user: `system:serviceaccount:${NAMESPACE}:tidepool-hub`, resourceAttributes: attributes },
        });
        return Reflect.get(Object(Reflect.get(Object(answer), 'status')), 'allowed') === true;
      };
      const namespace = NAMESPACE;
      expect(await review({ verb: 'list', resource: 'nodes' })).toBe(true);
      expect(await review({ verb: 'get', resource: 'configmaps', name: 'tidepool-tuning', namespace })).toBe(
        true,
      );
      for (const denied of [
        { verb: 'get', resource: 'secrets', name: 'any', namespace },
        { verb: 'list', resource: 'secrets' },
        { verb: 'get', resource: 'configmaps', name: 'other', namespace },
        { verb: 'update', resource: 'configmaps', name: 'tidepool-tuning', namespace },
        { verb: 'list', resource: 'deployments', group: 'apps' },
        { verb: 'patch', resource: 'nodes', name: 'n1' },
        { verb: 'update', resource: 'leases', group: 'coordination.k8s.io', name: 'other', namespace },
        { verb: 'create', resource: 'pods', namespace },
      ]) {
        expect([denied, await review(denied)]).toEqual([denied, false]);
      }
    });
  });
});
