import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { hubSettingsSchema } from '../../cloud/config/settings.ts';
import { settingsFile } from '../../edge/config/schema.ts';
import { documentsOf, findHelm, GOLDEN, lint, type Manifest, PRESETS, render } from './helm.ts';

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
  describe.each(PRESETS)('preset %s', (preset) => {
    let text = '';
    let documents: readonly Manifest[] = [];
    beforeAll(() => {
      const rendering = render(helm, { preset });
      expect(rendering.error).toBe('');
      text = rendering.text;
      documents = documentsOf(text);
    });

    it('passes helm lint', () => {
      expect(lint(helm, preset)).toContain('0 chart(s) failed');
    });

    it('renders what its golden file has', () => {
      expect(text).toBe(readFileSync(join(GOLDEN, `${preset}.yaml`), 'utf8'));
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
      expect(settings).toMatchObject({ hub: ['mqtt://203.0.113.7:30183'], insecure: true });
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
          securityContext: {
            readOnlyRootFilesystem: true,
            allowPrivilegeEscalation: false,
            capabilities: { drop: ['ALL'] },
          },
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

  it('replaces agents when their settings change, and not when the hub does', () => {
    const template = (values: unknown): unknown =>
      at(pick(documentsOf(render(helm, { values }).text), 'DaemonSet', 'tidepool-agent'), 'spec', 'template');
    const before = template({});
    expect(template({ hub: { logLevel: 'debug' } })).toEqual(before);
    expect(template({ hub: { urls: ['mqtt://198.51.100.1:30183'] } })).not.toEqual(before);
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
    expect(rules({ agent: { enabled: false } })).not.toMatch(/secrets|deployments|daemonsets/);
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

  it('puts replicas behind a broker of their own', () => {
    const values = {
      hub: { replicas: 2, podDisruptionBudget: { enabled: true } },
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

  it('adds what watches it only where that is asked for', () => {
    const kinds = (values: unknown): readonly string[] =>
      documentsOf(render(helm, { values }).text).map(({ kind }) => kind);
    expect(kinds({})).not.toContain('ServiceMonitor');
    expect(kinds({})).not.toContain('NetworkPolicy');
    const all = {
      monitoring: { serviceMonitor: { enabled: true }, dashboards: { enabled: true } },
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
      ['plain connections that nobody asked for', { insecure: false }, /say so: --set insecure=true/],
      ['images from nowhere', { imageRegistry: '' }, /no public registry has its images/],
      ['replicas with the embedded broker', { hub: { replicas: 2 } }, /embedded broker lives in one pod/],
      ['an external broker without its address', { broker: { type: 'external' } }, /set broker\.url/],
      [
        'an address of a broker that is not used',
        { broker: { url: 'mqtt://10.0.0.1:1883' } },
        /take broker\.url out/,
      ],
      [
        'replicas that share one directory',
        { hub: { replicas: 2, persistence: { enabled: true } }, broker: { type: 'mosquitto' } },
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
