import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { hubSettingsSchema } from '../../cloud/config/settings.ts';
import { trustOf } from '../../cloud/config/trust-settings.ts';
import { settingsFile } from '../../edge/config/schema.ts';
import {
  documentsOf,
  findHelm,
  GOLDEN,
  GOLDENS,
  lint,
  type Manifest,
  PLAIN,
  PRESETS,
  render,
} from './helm.ts';

const found = findHelm();
const helm = found ?? '';
if (found === undefined) process.stdout.write('chart: skipped, no helm; test/chart/helm.sh builds it\n');

/** One object, by kind and name's end. */
function pick(documents: readonly Manifest[], kind: string, name: string): Manifest {
  const object = documents.find((each) => each.kind === kind && each.metadata.name === name);
  if (object === undefined) throw new Error(`no ${kind} ${name}`);
  return object;
}

/** A field deep inside, by path; undefined where there is none. */
function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (inner, key) => (typeof inner === 'object' && inner !== null ? Reflect.get(inner, key) : undefined),
    value,
  );
}

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

describe.skipIf(found === undefined)('the chart', () => {
  it.each(GOLDENS)('renders what golden file $file has', ({ file, ...options }) => {
    expect(render(helm, options).text).toBe(readFileSync(join(GOLDEN, file), 'utf8'));
  });

  describe.each(PRESETS)('preset %s', (preset) => {
    let documents: readonly Manifest[] = [];
    beforeAll(() => {
      const rendering = render(helm, { preset });
      expect(rendering.error).toBe('');
      documents = documentsOf(rendering.text);
    });

    it('passes helm lint', () => {
      expect(lint(helm, preset)).toContain('0 chart(s) failed');
    });

    it('gives every object one place and the labels of the release', () => {
      const names = documents.map(({ kind, metadata }) => `${kind} ${metadata.namespace} ${metadata.name}`);
      expect(new Set(names).size).toBe(names.length);
      for (const { metadata } of documents) {
        expect(metadata.labels).toMatchObject({
          'app.kubernetes.io/name': 'tidepool',
          'app.kubernetes.io/instance': 'tidepool',
        });
      }
    });

    it('gives agents settings that agents take', () => {
      const config = pick(documents, 'ConfigMap', 'tidepool-agent');
      const settings = settingsFile.parse(parse(String(at(config, 'data', 'agent.yaml'))));
      const port = preset === 'ack' ? 6190 : 30190;
      expect(settings).toMatchObject({
        hub: ['mqtts://203.0.113.7:30183'],
        insecure: false,
        mirror: { host: '127.0.0.1', port: 618 },
        trust: { enrollUrl: `https://203.0.113.7:${port}` },
      });
    });

    it('gives the hub settings that the hub takes, and enrols its own agents', () => {
      const config = pick(documents, 'ConfigMap', 'tidepool-hub');
      const settings = hubSettingsSchema.parse(parse(String(at(config, 'data', 'hub.yaml'))));
      expect(settings).toMatchObject({
        trust: {
          secret: 'tidepool-hub-trust',
          rootsConfigMap: 'tidepool-roots',
          serviceAccounts: ['tidepool-system/tidepool-agent'],
          hosts: expect.arrayContaining(['tidepool-api.tidepool-system.svc', '203.0.113.7']),
        },
      });
      const pod = at(pick(documents, 'DaemonSet', 'tidepool-agent'), 'spec', 'template', 'spec');
      expect(at(pod, 'serviceAccountName')).toBe('tidepool-agent');
      pick(documents, 'ServiceAccount', 'tidepool-agent');
      const roles = documents.filter(({ kind }) => /RoleBinding$/.test(kind));
      expect(JSON.stringify(roles.flatMap((role) => at(role, 'subjects')))).not.toContain('tidepool-agent');
    });

    it('speaks TLS everywhere', () => {
      const hub = at(pick(documents, 'Deployment', 'tidepool-hub'), 'spec', 'template', 'spec');
      expect(at(hub, 'containers', 0, 'args')).not.toContain('--insecure');
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
        expect(at(hub, 'containers', 0, probe, 'httpGet', 'scheme')).toBe('HTTPS');
      }
      const hook = at(pick(documents, 'Job', 'tidepool-prefetch'), 'spec', 'template', 'spec');
      expect(at(hook, 'containers', 0, 'args')).toEqual(
        expect.arrayContaining([
          '--hub=https://tidepool-api.tidepool-system.svc:6190',
          '--ca=/var/run/secrets/tidepool/ca.pem',
          '--token-file=/var/run/secrets/tidepool/token',
        ]),
      );
    });

    it('runs agents as good citizens', () => {
      const daemonSet = pick(documents, 'DaemonSet', 'tidepool-agent');
      const pod = at(daemonSet, 'spec', 'template', 'spec');
      expect(pod).toMatchObject({
        hostNetwork: true,
        dnsPolicy: 'ClusterFirstWithHostNet',
        priorityClassName: 'system-node-critical',
        automountServiceAccountToken: false,
        tolerations: [{ operator: 'Exists' }],
      });
      for (const container of [...list(at(pod, 'containers')), ...list(at(pod, 'initContainers'))]) {
        expect(container).toMatchObject({
          imagePullPolicy: 'IfNotPresent',
          securityContext: { readOnlyRootFilesystem: true, allowPrivilegeEscalation: false },
        });
        // The mirror's port is under 1024, and nobody else listens.
        const isAgent = at(container, 'name') === 'agent';
        expect(at(container, 'securityContext', 'capabilities')).toEqual({
          drop: ['ALL'],
          ...(isAgent ? { add: ['NET_BIND_SERVICE'] } : {}),
        });
      }
      expect(at(pod, 'containers', 0, 'livenessProbe', 'httpGet', 'host')).toBe('127.0.0.1');
      const paths = list(at(pod, 'volumes')).map((volume) => at(volume, 'hostPath', 'path'));
      expect(paths).toContain('/run/containerd');
      expect(paths.filter((path) => String(path).endsWith('.sock'))).toEqual([]);
    });

    it('keeps the hub away from root and from secrets of others', () => {
      const pod = at(pick(documents, 'Deployment', 'tidepool-hub'), 'spec', 'template', 'spec');
      expect(at(pod, 'securityContext')).toMatchObject({ runAsNonRoot: true });
      for (const role of documents.filter(({ kind }) => kind === 'ClusterRole')) {
        const resources = list(at(role, 'rules')).flatMap((rule) => list(at(rule, 'resources')));
        expect(resources).not.toContain('secrets');
        expect(resources).not.toContain('configmaps');
        expect(resources).not.toContain('*');
      }
    });
  });

  it('replaces agents by YurtManager where there is one, and by Kubernetes elsewhere', () => {
    const daemonSet = (preset: string): Manifest =>
      pick(documentsOf(render(helm, { preset }).text), 'DaemonSet', 'tidepool-agent');
    expect(daemonSet('openyurt').metadata.annotations).toEqual({
      'apps.openyurt.io/update-strategy': 'AdvancedRollingUpdate',
      'apps.openyurt.io/max-unavailable': '10%',
    });
    expect(at(daemonSet('openyurt'), 'spec', 'updateStrategy', 'type')).toBe('OnDelete');
    expect(at(daemonSet('plain'), 'spec', 'updateStrategy', 'type')).toBe('RollingUpdate');
  });

  it('shares containerd’s content store only when told where it is, and without a right to write there', () => {
    const contentDir = '/var/lib/containerd/io.containerd.content.v1.content';
    const parts = (values: unknown): { settings: string; pod: unknown } => {
      const documents = documentsOf(render(helm, { values }).text);
      return {
        settings: String(at(pick(documents, 'ConfigMap', 'tidepool-agent'), 'data', 'agent.yaml')),
        pod: at(pick(documents, 'DaemonSet', 'tidepool-agent'), 'spec', 'template', 'spec'),
      };
    };
    const without = parts({});
    expect(without.settings).not.toContain('containerdContent');
    expect(JSON.stringify(without.pod)).not.toContain('containerd-content');
    const { settings, pod } = parts({ agent: { containerd: { contentDir } } });
    expect(settings).toContain(`containerdContent: ${contentDir}`);
    expect(list(at(pod, 'containers', 0, 'volumeMounts'))).toContainEqual({
      name: 'containerd-content',
      mountPath: contentDir,
      readOnly: true,
    });
    expect(list(at(pod, 'volumes'))).toContainEqual({
      name: 'containerd-content',
      hostPath: { path: contentDir, type: 'DirectoryOrCreate' },
    });
  });

  it('replaces agents when their settings change, and not when the hub does', () => {
    const template = (values: unknown): unknown =>
      at(pick(documentsOf(render(helm, { values }).text), 'DaemonSet', 'tidepool-agent'), 'spec', 'template');
    const before = template({});
    expect(template({ hub: { logLevel: 'debug' } })).toEqual(before);
    expect(template({ hub: { urls: ['mqtts://198.51.100.1:30183'] } })).not.toEqual(before);
  });

  it('says no fallback to containerd and to the agent alike', () => {
    const documents = documentsOf(render(helm, { values: { agent: { originFallback: false } } }).text);
    const pod = at(pick(documents, 'DaemonSet', 'tidepool-agent'), 'spec', 'template', 'spec');
    expect(at(pod, 'initContainers', 0, 'args')).toContain('--no-origin-fallback');
    expect(at(pick(documents, 'ConfigMap', 'tidepool-agent'), 'data', 'agent.yaml')).toContain(
      'originFallback: false',
    );
  });

  it('writes tuning as the hub reads it, from entries and from text', () => {
    const wan = [{ name: 'everyone', settings: { download: '50Mbit' } }];
    const { text } = render(helm, { values: { tuning: { data: { wan, cache: 'cache: []' } } } });
    const data = at(pick(documentsOf(text), 'ConfigMap', 'tidepool-tuning'), 'data');
    expect(parse(String(at(data, 'wan')))).toEqual({ wan });
    expect(parse(String(at(data, 'cache')))).toEqual({ cache: [] });
    const none = documentsOf(render(helm, { values: { tuning: { create: false } } }).text);
    expect(none.map(({ metadata }) => metadata.name)).not.toContain('tidepool-tuning');
  });

  it('lets the hub read workloads and secrets only where that is asked for', () => {
    const rules = (values: unknown): string =>
      JSON.stringify(
        documentsOf(render(helm, { values }).text)
          .filter(({ kind }) => kind === 'Role' || kind === 'ClusterRole')
          .flatMap((role) => list(at(role, 'rules'))),
      );
    expect(rules({ ...PLAIN, agent: { enabled: false } })).not.toMatch(/secrets|deployments|daemonsets/);
    expect(rules({ agent: { enabled: false } })).not.toMatch(/deployments|daemonsets/);
    // Those of its own trust, and no others.
    expect(rules({})).toContain(
      '"resources":["secrets"],"resourceNames":["tidepool-hub-trust","tidepool-hub-trust-book"],"verbs":["get","update"]',
    );
    expect(rules({}).match(/"secrets"/g)).toHaveLength(2);
    expect(rules({ hub: { followWorkloads: true } })).toContain('"deployments"');
    expect(rules({ hub: { pullSecrets: ['harbor'] } })).toContain(
      '"resources":["secrets"],"resourceNames":["harbor"],"verbs":["get"]',
    );
  });

  it('gives the hub rules for pushes that the hub takes, with a secret', () => {
    const pushHook = {
      secretName: 'push',
      rules: [{ repository: 'team/**', tags: ['v*'], pools: ['hangzhou'] }],
    };
    const documents = documentsOf(render(helm, { values: { hub: { pushHook } } }).text);
    const text = String(at(pick(documents, 'ConfigMap', 'tidepool-hub'), 'data', 'hub.yaml'));
    expect(hubSettingsSchema.parse(parse(text))).toMatchObject({
      hooks: { registry: { secretFile: '/etc/tidepool-push-hook/authorization', rules: pushHook.rules } },
    });
    const pod = at(pick(documents, 'Deployment', 'tidepool-hub'), 'spec', 'template', 'spec');
    expect(at(pod, 'containers', 0, 'args')).toContain('--config=/etc/tidepool/hub.yaml');
    const bare = { hub: { pushHook: { rules: pushHook.rules } } };
    expect(render(helm, { values: bare }).error).toContain('need hub.pushHook.secretName');
  });

  it('has the hub issue by an authority that somebody else makes', () => {
    const authority = { secretName: 'our-ca', rootsConfigMap: 'our-roots' };
    const documents = documentsOf(render(helm, { values: { hub: { trust: { authority } } } }).text);
    const text = String(at(pick(documents, 'ConfigMap', 'tidepool-hub'), 'data', 'hub.yaml'));
    const { trust } = hubSettingsSchema.parse(parse(text));
    expect(trust).toMatchObject({
      caCert: '/etc/tidepool-authority/tls.crt',
      caKey: '/etc/tidepool-authority/tls.key',
      roots: '/etc/tidepool-roots/ca.pem',
    });
    expect(trustOf(trust).external).toBeDefined();
    const pod = at(pick(documents, 'Deployment', 'tidepool-hub'), 'spec', 'template', 'spec');
    const files = list(at(pod, 'containers', 0, 'volumeMounts')).map((mount) => [
      at(mount, 'name'),
      at(mount, 'mountPath'),
      at(mount, 'readOnly'),
    ]);
    expect(files).toContainEqual(['authority', '/etc/tidepool-authority', true]);
    expect(files).toContainEqual(['more-roots', '/etc/tidepool-roots', true]);
    const volumes = list(at(pod, 'volumes'));
    expect(volumes).toContainEqual(
      expect.objectContaining({
        name: 'authority',
        secret: expect.objectContaining({ secretName: 'our-ca', defaultMode: 0o440 }),
      }),
    );
    expect(volumes).toContainEqual({ name: 'more-roots', configMap: { name: 'our-roots' } });
    // The Secret of an authority of its own is none of its business then.
    const rules = JSON.stringify(list(at(pick(documents, 'Role', 'tidepool-hub'), 'rules')));
    expect(rules).toContain('"resourceNames":["tidepool-hub-trust-book"]');
    const alone = { hub: { trust: { authority: { rootsConfigMap: 'our-roots' } } } };
    expect(render(helm, { values: alone }).error).toContain('goes with hub.trust.authority.secretName');
    const insecure = { ...PLAIN, hub: { ...PLAIN.hub, trust: { authority } } };
    expect(render(helm, { values: insecure }).error).toContain('there is no authority');
  });

  it('puts replicas behind a broker of their own', () => {
    const values = {
      ...PLAIN,
      hub: { ...PLAIN.hub, replicas: 2, podDisruptionBudget: { enabled: true } },
      broker: { type: 'mosquitto' },
    };
    const documents = documentsOf(render(helm, { values }).text);
    expect(at(pick(documents, 'Deployment', 'tidepool-hub'), 'spec', 'strategy', 'type')).toBe(
      'RollingUpdate',
    );
    expect(at(pick(documents, 'Service', 'tidepool-mqtt'), 'spec', 'selector')).toMatchObject({
      'app.kubernetes.io/component': 'mosquitto',
    });
    pick(documents, 'PodDisruptionBudget', 'tidepool-hub');
    pick(documents, 'Deployment', 'tidepool-mosquitto');
    expect(
      at(pick(documentsOf(render(helm).text), 'Deployment', 'tidepool-hub'), 'spec', 'strategy', 'type'),
    ).toBe('Recreate');
  });

  it('asks for metrics by TLS, with a token or without', () => {
    const endpoint = (values: object): unknown =>
      at(
        pick(documentsOf(render(helm, { values }).text), 'ServiceMonitor', 'tidepool-hub'),
        'spec',
        'endpoints',
        0,
      );
    const serviceMonitor = { enabled: true, tokenSecret: { name: 'metrics' } };
    expect(endpoint({ monitoring: { serviceMonitor } })).toMatchObject({
      scheme: 'https',
      tlsConfig: {
        serverName: 'tidepool-api.tidepool-system.svc',
        ca: { configMap: { name: 'tidepool-roots', key: 'ca.pem' } },
      },
      authorization: { type: 'Bearer', credentials: { name: 'metrics', key: 'token' } },
    });
    const open = { hub: { openMetrics: true }, monitoring: { serviceMonitor: { enabled: true } } };
    expect(endpoint(open)).not.toHaveProperty('authorization');
    const hub = pick(documentsOf(render(helm, { values: open }).text), 'Deployment', 'tidepool-hub');
    expect(at(hub, 'spec', 'template', 'spec', 'containers', 0, 'args')).toContain('--open-metrics');
    expect(endpoint({ ...PLAIN, monitoring: { serviceMonitor: { enabled: true } } })).toEqual({
      port: 'api',
      path: '/metrics',
      interval: '30s',
    });
  });

  it.each([
    ['a node port', {}, 'NodePort', 'https://203.0.113.7:30190'],
    [
      'one load balancer for both',
      { broker: { service: { type: 'LoadBalancer' } } },
      'ClusterIP',
      'https://203.0.113.7:6190',
    ],
    [
      'an address that was given',
      { hub: { enrollUrl: 'https://hub.example:443/', api: { service: { type: 'LoadBalancer' } } } },
      'LoadBalancer',
      'https://hub.example:443',
    ],
    ['IPv6', { hub: { urls: ['mqtts://[2001:db8::7]:30183'] } }, 'NodePort', 'https://[2001:db8::7]:30190'],
  ] as const)('leads nodes to the API by %s', (_name, values, type, url) => {
    const documents = documentsOf(render(helm, { values }).text);
    expect(at(pick(documents, 'Service', 'tidepool-api'), 'spec', 'type')).toBe(type);
    const text = String(at(pick(documents, 'ConfigMap', 'tidepool-agent'), 'data', 'agent.yaml'));
    expect(settingsFile.parse(parse(text)).trust?.enrollUrl).toBe(url);
    const ports = list(at(pick(documents, 'Service', 'tidepool-mqtt'), 'spec', 'ports'));
    expect(ports.map((port) => at(port, 'name'))).toEqual(url.endsWith(':6190') ? ['mqtt', 'api'] : ['mqtt']);
  });

  it('tells containerd the port that the agent has', () => {
    const seen = (values: unknown): unknown => {
      const documents = documentsOf(render(helm, { values }).text);
      const pod = at(pick(documents, 'DaemonSet', 'tidepool-agent'), 'spec', 'template', 'spec');
      const text = String(at(pick(documents, 'ConfigMap', 'tidepool-agent'), 'data', 'agent.yaml'));
      const args = list(at(pod, 'initContainers', 0, 'args'));
      return [
        args.find((arg) => String(arg).startsWith('--mirror=')),
        settingsFile.parse(parse(text)).mirror?.port,
        at(pod, 'containers', 0, 'securityContext', 'capabilities', 'add') ?? [],
      ];
    };
    expect(seen({})).toEqual(['--mirror=http://127.0.0.1:618', 618, ['NET_BIND_SERVICE']]);
    expect(seen(PLAIN)).toEqual(['--mirror=http://127.0.0.1:6180', 6180, []]);
    expect(seen({ agent: { ports: { mirror: 7000 } } })).toEqual([
      '--mirror=http://127.0.0.1:7000',
      7000,
      [],
    ]);
  });

  it('lets nodes from outside to the API where a policy bounds it, unless they are named', () => {
    const from = (values: object): unknown => {
      const documents = documentsOf(render(helm, { values }).text);
      return at(pick(documents, 'NetworkPolicy', 'tidepool-hub'), 'spec', 'ingress', 1, 'from');
    };
    const cidr = [{ ipBlock: { cidr: '203.0.113.0/24' } }];
    expect(from({ hub: { networkPolicy: { enabled: true } } })).toBeUndefined();
    expect(from({ hub: { networkPolicy: { enabled: true, apiFrom: cidr } } })).toHaveLength(2);
    const plain = { ...PLAIN, hub: { ...PLAIN.hub, networkPolicy: { enabled: true } } };
    expect(from(plain)).toHaveLength(1);
  });

  it('adds what watches it only where that is asked for', () => {
    const kinds = (values: unknown): readonly string[] =>
      documentsOf(render(helm, { values }).text).map(({ kind }) => kind);
    expect(kinds({})).not.toContain('ServiceMonitor');
    expect(kinds({})).not.toContain('NetworkPolicy');
    const all = {
      monitoring: {
        serviceMonitor: { enabled: true, tokenSecret: { name: 'metrics' } },
        dashboards: { enabled: true },
      },
      hub: { networkPolicy: { enabled: true }, persistence: { enabled: true } },
    };
    expect(kinds(all)).toEqual(
      expect.arrayContaining(['ServiceMonitor', 'NetworkPolicy', 'PersistentVolumeClaim']),
    );
  });

  it('draws only metrics that the hub has', () => {
    const source = readFileSync(join(import.meta.dirname, '../../cloud/api/metrics.ts'), 'utf8');
    const board = readFileSync(
      join(import.meta.dirname, '../../charts/tidepool/files/dashboards/tidepool.json'),
      'utf8',
    );
    const used = [...board.matchAll(/tidepool_hub_(\w+)/g)].map(([, name = '']) => name);
    expect(used.length).toBeGreaterThan(5);
    for (const name of used) {
      expect(source.includes(`'${name}'`) || source.includes(`'tidepool_hub_${name}'`), name).toBe(true);
    }
  });

  it('restores containerd at uninstall by a DaemonSet on the same nodes as the agents', () => {
    const documents = documentsOf(render(helm, { preset: 'openyurt' }).text);
    const agent = pick(documents, 'DaemonSet', 'tidepool-agent');
    const restore: unknown = parse(
      String(at(pick(documents, 'ConfigMap', 'tidepool-restore'), 'data', 'daemonset.yaml')),
    );
    for (const field of ['nodeSelector', 'affinity', 'tolerations']) {
      expect(at(restore, 'spec', 'template', 'spec', field)).toEqual(
        at(agent, 'spec', 'template', 'spec', field),
      );
    }
    const hooks = documents.filter(({ metadata }) => metadata.name === 'tidepool-restore');
    expect(hooks.map(({ metadata }) => metadata.annotations?.['helm.sh/hook'])).toEqual(
      hooks.map(() => 'pre-delete'),
    );
  });

  describe('refuses', () => {
    const cases: readonly (readonly [name: string, values: unknown, words: RegExp])[] = [
      ['no hub.urls', { hub: { urls: [] } }, /hub\.urls is required/],
      [
        'a plain address where nodes speak TLS',
        { hub: { urls: ['mqtt://10.0.0.1:1883'] } },
        /write mqtts:\/\/10\.0\.0\.1:1883[\s\S]*insecure=true/,
      ],
      ['an address with TLS of a broker without', { insecure: true }, /the hub's broker has no TLS/],
      [
        'a Mosquitto whose rules nobody keeps',
        { broker: { type: 'mosquitto' } },
        /tidepool-hub broker acl[\s\S]*broker\.type to external/,
      ],
      [
        'a plain way to an external broker',
        { broker: { type: 'external', url: 'mqtt://broker.example:1883' } },
        /write mqtts:\/\/broker\.example:1883/,
      ],
      [
        'agents that cannot know where they are enrolled',
        { broker: { type: 'external', url: 'mqtts://broker.example:8883' } },
        /hub\.enrollUrl is required/,
      ],
      [
        'metrics that nobody may read',
        { monitoring: { serviceMonitor: { enabled: true } } },
        /api-token create[\s\S]*hub\.openMetrics=true/,
      ],
      ['a plain address to be enrolled at', { hub: { enrollUrl: 'http://10.0.0.1' } }, /hub\/enrollUrl/],
      ['images from nowhere', { imageRegistry: '' }, /no public registry has its images/],
      ['replicas with the embedded broker', { hub: { replicas: 2 } }, /embedded broker lives in one pod/],
      ['an external broker without its address', { broker: { type: 'external' } }, /set broker\.url/],
      [
        'an address of a broker that is not used',
        { broker: { url: 'mqtts://10.0.0.1:1883' } },
        /take broker\.url out/,
      ],
      [
        'replicas that share one directory',
        {
          ...PLAIN,
          hub: { ...PLAIN.hub, replicas: 2, persistence: { enabled: true } },
          broker: { type: 'mosquitto' },
        },
        /needs accessMode ReadWriteMany/,
      ],
      [
        'no fallback where containerd is left alone',
        { agent: { originFallback: false, containerd: { enabled: false } } },
        /agent\.originFallback false/,
      ],
      ['a value that does not exist', { hub: { replica: 1 } }, /additional properties 'replica' not allowed/],
      ['a part that does not exist', { agents: {} }, /additional properties 'agents' not allowed/],
      ['a URL that is no broker', { hub: { urls: ['http://10.0.0.1'] } }, /hub\/urls\/0/],
      ['a neighbour without a port', { agent: { peers: ['10.0.0.1'] } }, /agent\/peers\/0/],
      [
        'an update strategy that does not exist',
        { agent: { update: { type: 'OTA' } } },
        /agent\/update\/type/,
      ],
      ['a number as text', { hub: { replicas: '1' } }, /hub\/replicas/],
      ['a path that is not absolute', { agent: { dataDir: 'data' } }, /agent\/dataDir/],
    ];
    it.each(cases)('%s', (_name, values, words) => {
      const { ok, error } = render(helm, { values });
      expect(ok).toBe(false);
      expect(error).toMatch(words);
    });

    it('a Kubernetes that is too old', () => {
      const { ok, error } = render(helm, { arguments: ['--kube-version', '1.24.0'] });
      expect(ok).toBe(false);
      expect(error).toContain('>=1.25.0');
    });
  });
});
