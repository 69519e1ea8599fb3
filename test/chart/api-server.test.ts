import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { runCli } from '../../cloud/cli/program.ts';
import { type Hub, startHub } from '../../cloud/components.ts';
import { loadHubSettings } from '../../cloud/config/settings.ts';
import { KubeClient } from '../../cloud/kube/kube-client.ts';
import { kubeconfigAccess } from '../../cloud/kube/kubeconfig.ts';
import { RootsConfigMap } from '../../cloud/kube/roots-config-map.ts';
import { AuthoritySecret } from '../../cloud/kube/secret-vault.ts';
import { Authority } from '../../cloud/trust/authority.ts';
import type { AgentFlags } from '../../edge/config/flags.ts';
import { loadSettings } from '../../edge/config/load-settings.ts';
import type { AgentIdentity } from '../../edge/identity/agent-identity.ts';
import { openIdentity } from '../../edge/identity/open-identity.ts';
import { systemClock } from '../../shared/clock.ts';
import { silentLogger } from '../../shared/log.ts';
import type { ProblemView } from '../../shared/wire/api.ts';
import { eventually } from '../support/hub-fixture.ts';
import { findApiServer, kubeconfig, startApiServer, type TestApiServer } from '../support/kube/api-server.ts';
import { CHART, documentsOf, findHelm, type Manifest, PLAIN, PRESETS, render } from './helm.ts';

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

  /** As kubelet asks for those that it projects. */
  const tokenOf = async (account: string, spec: object = {}): Promise<string> => {
    const answer = await server.call(
      'POST',
      `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/${account}/token`,
      {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: { expirationSeconds: 3600, ...spec },
      },
    );
    return String(Reflect.get(Object(Reflect.get(Object(answer), 'status')), 'token'));
  };

  /** What a hub needs of the chart; with the hooks' rights too, where they are asked for. */
  const install = async (values: unknown, hooks = false): Promise<readonly Manifest[]> => {
    const documents = documentsOf(render(helm ?? '', { values, namespace: NAMESPACE }).text);
    for (const object of documents) {
      const rights = /^(ServiceAccount|ConfigMap|(Cluster)?Role(Binding)?)$/.test(object.kind);
      if (rights && (hooks || object.metadata.annotations?.['helm.sh/hook'] === undefined))
        await apply(object);
    }
    return documents;
  };

  const may = async (account: string, attributes: object): Promise<boolean> => {
    const answer = await server.call('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SubjectAccessReview',
      spec: { user: `system:serviceaccount:${NAMESPACE}:${account}`, resourceAttributes: attributes },
    });
    return Reflect.get(Object(Reflect.get(Object(answer), 'status')), 'allowed') === true;
  };
  /** What nothing of this chart may, plain or by TLS. */
  const expectBounds = async (account: string): Promise<void> => {
    const namespace = NAMESPACE;
    for (const denied of [
      { verb: 'get', resource: 'secrets', name: 'any', namespace },
      { verb: 'get', resource: 'secrets', name: 'tidepool-hub-trust', namespace: 'default' },
      { verb: 'list', resource: 'secrets', namespace },
      { verb: 'list', resource: 'secrets' },
      { verb: 'get', resource: 'configmaps', name: 'other', namespace },
      { verb: 'update', resource: 'configmaps', name: 'tidepool-tuning', namespace },
      { verb: 'list', resource: 'deployments', group: 'apps' },
      { verb: 'patch', resource: 'nodes', name: 'n1' },
      { verb: 'update', resource: 'leases', group: 'coordination.k8s.io', name: 'other', namespace },
      { verb: 'create', resource: 'pods', namespace },
      {
        verb: 'create',
        resource: 'serviceaccounts',
        subresource: 'token',
        name: 'tidepool-agent',
        namespace,
      },
    ]) {
      expect([denied, await may(account, denied)]).toEqual([denied, false]);
    }
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
      ...PLAIN,
      hub: {
        ...PLAIN.hub,
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

  it('takes every object behind one load balancer, with a policy, by TLS', async () => {
    const values = {
      hub: { openMetrics: true, networkPolicy: { enabled: true }, trust: { hosts: ['hub.example'] } },
      broker: { service: { type: 'LoadBalancer' } },
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

  describe('with no more rights than the chart gives a plain hub', () => {
    let hub: Hub | undefined;
    let config = '';
    beforeAll(async () => {
      await install(PLAIN);
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
      await expectBounds('tidepool-hub');
      expect(await may('tidepool-hub', { verb: 'list', resource: 'nodes' })).toBe(true);
      expect(await may('tidepool-hub', { verb: 'create', resource: 'secrets', namespace: NAMESPACE })).toBe(
        false,
      );
    });
  });

  describe('by TLS, with no more rights than the chart gives', () => {
    let hub: Hub | undefined;
    let agentYaml = '';
    const stringAt = (value: unknown, ...path: readonly string[]): string =>
      String(path.reduce<unknown>((inner, key) => Reflect.get(Object(inner), key), value));
    const get = (kind: string, name: string): Promise<unknown> =>
      server.call('GET', `/api/v1/namespaces/${NAMESPACE}/${kind}/${name}`).catch(() => undefined);

    beforeAll(async () => {
      const documents = await install({}, true);
      const named = (name: string): unknown =>
        documents.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === name);
      agentYaml = stringAt(named('tidepool-agent'), 'data', 'agent.yaml');
      for (const [name, labels] of [
        ['edge-1', { 'apps.openyurt.io/nodepool': 'hangzhou' }],
        ['edge-2', {}],
      ] as const) {
        await server.call('POST', '/api/v1/nodes', {
          apiVersion: 'v1',
          kind: 'Node',
          metadata: { name, labels },
        });
      }
      const config = join(directory, 'secured.kubeconfig');
      const token = await tokenOf('tidepool-hub');
      writeFileSync(config, kubeconfig(server.url, token, { 'insecure-skip-tls-verify': true }));
      const file = join(directory, 'hub.yaml');
      writeFileSync(file, stringAt(named('tidepool-hub'), 'data', 'hub.yaml'));
      const flags = {
        kubeconfig: config,
        namespace: NAMESPACE,
        mqtt: '127.0.0.1:0',
        api: '127.0.0.1:0',
        data: join(directory, 'secured'),
        pinTags: false,
        logLevel: 'silent',
      };
      hub = await startHub({ clock: systemClock, log: silentLogger() }, await loadHubSettings(flags, file));
    }, START_MS);
    afterAll(() => hub?.stop());

    /** What kubelet projects for an agent's pod on that node, as files; the agent's own settings beside them. */
    const podOn = async (node: string): Promise<{ readonly flags: AgentFlags; readonly config: string }> => {
      const pod = await server.call('POST', `/api/v1/namespaces/${NAMESPACE}/pods`, {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: `agent-${node}` },
        spec: {
          serviceAccountName: 'tidepool-agent',
          nodeName: node,
          containers: [{ name: 'agent', image: 'registry.invalid/agent' }],
        },
      });
      const { name, uid } = Object(Reflect.get(Object(pod), 'metadata'));
      const token = await tokenOf('tidepool-agent', {
        audiences: ['tidepool-hub'],
        boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
      });
      const roots = await eventually(
        () => get('configmaps', 'tidepool-roots'),
        (found) => found !== undefined,
        20_000,
      );
      const mount = mkdtempSync(join(directory, 'pod-'));
      writeFileSync(join(mount, 'token'), token);
      writeFileSync(join(mount, 'ca.pem'), stringAt(roots, 'data', 'ca.pem'));
      const config = join(mount, 'agent.yaml');
      writeFileSync(
        config,
        agentYaml
          .replaceAll('/var/run/secrets/tidepool', mount)
          .replace('https://203.0.113.7:30190', `https://${hub?.api}`),
      );
      return { flags: { node, address: '127.0.0.1', data: join(mount, 'data') }, config };
    };
    const identityOf = async (node: string): Promise<AgentIdentity> => {
      const { flags, config } = await podOn(node);
      return openIdentity(loadSettings(flags, config), { log: silentLogger() });
    };

    it('keeps its authority in a Secret, and shows its roots and no key to agents', async () => {
      const { signal } = new AbortController();
      const identity = await identityOf('edge-1');
      await eventually(
        () =>
          identity.enrol(signal).then(
            () => true,
            () => false,
          ),
        (done) => done,
        40_000,
      );
      expect([identity.enrolled, identity.pool]).toEqual([true, 'hangzhou']);
      const secret = await get('secrets', 'tidepool-hub-trust');
      const roots = await get('configmaps', 'tidepool-roots');
      const pem = stringAt(roots, 'data', 'ca.pem');
      expect(Buffer.from(stringAt(secret, 'data', 'ca.pem'), 'base64').toString()).toBe(pem);
      expect(JSON.stringify(roots)).not.toContain('PRIVATE KEY');
      expect(await get('secrets', 'tidepool-hub-trust-book')).toBeDefined();
    }, 90_000);

    it('puts the roots back where somebody has changed them, at its next start at the latest', async () => {
      const path = `/api/v1/namespaces/${NAMESPACE}/configmaps/tidepool-roots`;
      const before = stringAt(await get('configmaps', 'tidepool-roots'), 'data', 'ca.pem');
      await server.call('PATCH', path, { data: { 'ca.pem': 'none' } }, 'application/merge-patch+json');
      const config = join(directory, 'secured.kubeconfig');
      const access = await kubeconfigAccess(systemClock, config, {});
      const client = new KubeClient({ clock: systemClock, access }, { userAgent: 'test' });
      const vault = new AuthoritySecret({ client }, { namespace: NAMESPACE, name: 'tidepool-hub-trust' });
      const authority = new Authority({ clock: systemClock, log: silentLogger(), vault });
      const roots = new RootsConfigMap(
        { clock: systemClock, log: silentLogger(), client, authority, refresh: () => authority.reload() },
        { namespace: NAMESPACE, name: 'tidepool-roots' },
      );
      try {
        await authority.start();
        await roots.start();
        const read = async (): Promise<string> =>
          stringAt(await get('configmaps', 'tidepool-roots'), 'data', 'ca.pem');
        await eventually(read, (pem) => pem === before, 20_000);
      } finally {
        await roots.stop();
        await client.stop();
      }
    }, 60_000);

    it('lets a node without a label wait, and says why', async () => {
      const identity = await identityOf('edge-2');
      await expect(identity.enrol(new AbortController().signal)).rejects.toMatchObject({
        code: 'CONFLICT',
        message: expect.stringContaining('label it'),
      });
    }, 60_000);

    it("gives the hub its own secrets and nobody else's, and its agents nothing", async () => {
      const namespace = NAMESPACE;
      const trust = { resource: 'secrets', name: 'tidepool-hub-trust', namespace };
      for (const account of ['tidepool-hub', 'tidepool-agent', 'tidepool-prefetch'])
        await expectBounds(account);
      expect(await may('tidepool-hub', { verb: 'get', ...trust })).toBe(true);
      expect(await may('tidepool-hub', { verb: 'delete', ...trust })).toBe(false);
      for (const verb of ['get', 'create', 'update']) {
        expect(await may('tidepool-agent', { verb, ...trust })).toBe(false);
        expect(await may('tidepool-agent', { verb, resource: 'hub', group: 'tidepool.dev' })).toBe(false);
      }
      expect(await may('tidepool-prefetch', { verb: 'delete', resource: 'hub', group: 'tidepool.dev' })).toBe(
        false,
      );
    });

    it('takes the upgrade hook by the right that it has, and nobody without it', async () => {
      const ca = join(directory, 'roots.pem');
      writeFileSync(ca, stringAt(await get('configmaps', 'tidepool-roots'), 'data', 'ca.pem'));
      const run = async (account: string, authority: string): Promise<string> => {
        let text = '';
        const write = (more: string): void => {
          text += more;
        };
        const file = join(directory, `${account}.token`);
        writeFileSync(file, await tokenOf(account, { audiences: ['tidepool-hub-api'] }));
        const image = 'registry.invalid/tidepool-agent:1';
        const args = ['helm-hook', 'prefetch', image, `--hub=https://${hub?.api}`, '--timeout=1s'];
        const io = { stdout: { write }, stderr: { write }, signal: new AbortController().signal };
        return `${await runCli([...args, `--ca=${authority}`, `--token-file=${file}`], '0.1.0', io)} ${text}`;
      };
      expect(await run('tidepool-prefetch', ca)).toMatch(/^0 .*: on 0 of \d+ nodes before the upgrade/);
      expect(await run('tidepool-agent', ca)).toMatch(/^0 .* is not brought ahead of the upgrade/);
      // A hub that was plain before has told no roots yet, and the upgrade goes on.
      expect(await run('tidepool-prefetch', join(directory, 'missing'))).toMatch(
        /^0 .* is not brought ahead of the upgrade.*nothing says which hub is the right one/,
      );
    }, 60_000);
  });
});
