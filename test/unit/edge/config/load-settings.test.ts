import { describe, expect, it } from 'vitest';
import type { AgentFlags } from '../../../../edge/config/flags.ts';
import { loadSettings, type Machine, opsAddress } from '../../../../edge/config/load-settings.ts';
import { TEST_CERT } from '../../../support/tls-fixture.ts';

function machine(files: Record<string, string> = {}, environment: Record<string, string> = {}): Machine {
  return {
    environment,
    readFile: (path) => {
      const text = files[path];
      if (text === undefined) throw new Error(`ENOENT: no such file, open '${path}'`);
      return text;
    },
    hostname: () => 'Edge-7.Site.example',
    networkInterfaces: () => ({ eth0: [{ address: '10.0.0.7', family: 'IPv4', internal: false }] }),
  };
}

const load = (flags: AgentFlags, yaml?: string) =>
  loadSettings(flags, yaml === undefined ? undefined : 'agent.yaml', machine({ 'agent.yaml': yaml ?? '' }));

describe('loadSettings', () => {
  it('has a default for everything', () => {
    expect(load({})).toEqual({
      node: 'edge-7.site.example',
      pool: 'default',
      poolFromHub: false,
      address: '10.0.0.7',
      data: '/var/lib/tidepool',
      mirror: { host: '127.0.0.1', port: 618 },
      peerPort: 6181,
      ops: { host: '127.0.0.1', port: 6182 },
      hub: [],
      peers: [],
      registries: {},
      openRegistries: true,
      allowAddresses: [],
      defaultRegistry: 'docker.io',
      runtime: {
        criSocket: '/run/containerd/containerd.sock',
        containerdContent: null,
        certsDir: '/etc/containerd/certs.d',
        hostRoot: '/',
      },
      originFallback: true,
      tuning: {},
      insecure: false,
      trust: { replace: false, graceMs: 30 * 86_400_000, beacon: { host: '239.255.61.81', port: 6184 } },
      logLevel: 'info',
    });
  });

  it('begins in the pool that the hub said last, else in the one given, else alone', () => {
    const begin = (flags: AgentFlags, kept?: string): string =>
      loadSettings({ node: 'n1', data: '/data', ...flags }, undefined, {
        ...machine(),
        readIfThere: (path) => (path === '/data/pool' ? kept : undefined),
      }).pool;
    expect(begin({ poolFromHub: true }, 'hangzhou\n')).toBe('hangzhou');
    expect(begin({ poolFromHub: true, pool: 'first' }, 'hangzhou\n')).toBe('hangzhou');
    expect(begin({ poolFromHub: true, pool: 'first' })).toBe('first');
    expect(begin({ poolFromHub: true, pool: 'first' }, '\0\0\0')).toBe('first');
    expect(begin({ poolFromHub: true })).toBe('alone.n1');
    expect(begin({ pool: 'first' }, 'hangzhou\n')).toBe('first');
  });

  it('takes what a broker that is not the hub proves itself by', () => {
    const read = (flags: AgentFlags, yaml = '') =>
      loadSettings(
        flags,
        'agent.yaml',
        machine({ 'agent.yaml': yaml, '/site.pem': TEST_CERT, '/bad.pem': 'x' }),
      );
    const hub = ['mqtts://a.example:8883', 'mqtts://b.example:8883'];
    expect(read({ hub, hubCa: '/site.pem' }).hubTrust).toEqual({ ca: TEST_CERT });
    expect(read({ hub }, 'hubNode: b1').hubTrust).toEqual({ node: 'b1' });
    expect(read({ hub }, 'hubCa: /site.pem').hubTrust).toEqual({ ca: TEST_CERT });
    expect(read({ hub }).hubTrust).toBeUndefined();
    const refuses = (flags: AgentFlags, message: RegExp): void =>
      expect(() => read({ hub, ...flags })).toThrow(message);
    refuses({ hubCa: '/site.pem', hubNode: 'b1' }, /--hub-ca and --hub-node .* choose one/);
    refuses({ hubCa: '/site.pem', hub: [...hub, 'mqtt://c.example'] }, /"mqtt:\/\/c\.example" is a plain/);
    refuses({ hubCa: '/site.pem', hub: [] }, /about a broker elsewhere, and none is named/);
    refuses({ hubNode: 'b1', insecure: true }, /--hub-node needs the certificates of nodes/);
    refuses({ hubNode: 'B/1' }, /--hub-node: /);
    refuses({ hubCa: '/no.pem' }, /--hub-ca: cannot read "\/no\.pem"/);
    refuses({ hubCa: '/bad.pem' }, /--hub-ca: "\/bad\.pem" is no authority's certificate: there is no PEM/);
  });

  it('is frozen, all the way down', () => {
    const settings = load({}, 'tuning: {wan: {download: 10Mbit}}');
    expect(() => Object.assign(settings, { pool: 'x' })).toThrow(TypeError);
    expect(() => Object.assign(settings.tuning.wan ?? {}, { download: '1Mbit' })).toThrow(TypeError);
    expect(() => Object.assign(settings.mirror, { port: 1 })).toThrow(TypeError);
  });

  it('reads one file', () => {
    const settings = load(
      {},
      `
node: n1
pool: hangzhou
address: fd00::7
hub: mqtt://hub.example:6183
peers: [10.0.0.8:6181, "[fd00::9]:6181"]
registries:
  docker.io: https://mirror.example
  reg.example:5000: {url: http://10.0.0.1:5000, caFile: /etc/ca.pem}
tuning: {wan: {download: 10Mbit}}
insecure: true
`,
    );
    expect(settings).toMatchObject({
      node: 'n1',
      pool: 'hangzhou',
      address: 'fd00::7',
      hub: ['mqtt://hub.example:6183'],
      peers: [
        { host: '10.0.0.8', port: 6181 },
        { host: 'fd00::9', port: 6181 },
      ],
      registries: {
        'docker.io': { url: 'https://mirror.example' },
        'reg.example:5000': { url: 'http://10.0.0.1:5000', caFile: '/etc/ca.pem' },
      },
      openRegistries: false,
      tuning: { wan: { download: '10Mbit' } },
      insecure: true,
    });
  });

  it('puts flags over the file; registries of both are known', () => {
    const settings = load(
      {
        pool: 'b',
        peerPort: '7000',
        peers: '10.0.0.9:6181,',
        hub: ['mqtt://a:1', 'mqtt://b:2'],
        registry: ['reg.example=http://10.0.0.2:5000'],
        mirror: '[::1]:6180',
      },
      'pool: a\npeerPort: 6999\npeers: [10.0.0.8:6181]\nregistries: {docker.io: "https://m.example"}\n',
    );
    expect(settings.pool).toBe('b');
    expect(settings.peerPort).toBe(7000);
    expect(settings.peers).toEqual([{ host: '10.0.0.9', port: 6181 }]);
    expect(settings.hub).toEqual(['mqtt://a:1', 'mqtt://b:2']);
    expect(Object.keys(settings.registries)).toEqual(['docker.io', 'reg.example']);
    expect(settings.mirror).toEqual({ host: '::1', port: 6180 });
  });

  it('is found by the environment where no flag says where', () => {
    const there = machine(
      { '/etc/tp.yaml': 'pool: site\nops: 127.0.0.1:7182' },
      { TIDEPOOL_CONFIG: '/etc/tp.yaml' },
    );
    expect(loadSettings({}, undefined, there).pool).toBe('site');
    expect(opsAddress(undefined, undefined, there)).toEqual({ host: '127.0.0.1', port: 7182 });
    expect(opsAddress('127.0.0.1:9', undefined, there)).toEqual({ host: '127.0.0.1', port: 9 });
  });

  it.each([
    ['pol: x', 'agent.yaml:1: unknown key "pol"; did you mean "pool"?'],
    [
      'pool: a\ntuning:\n  wan:\n    dowload: 1Mbit',
      'agent.yaml:4: tuning.wan: unknown key "dowload"; did you mean "download"?',
    ],
    ['tuning: {wan: {download: fast}}', 'agent.yaml:1: tuning: not a rate: "fast"'],
    ['peers: [node-2:6181]', 'agent.yaml:1: peers[0]: not an address and port'],
    ['node: Not_a_name', 'agent.yaml:1: node: not a node name'],
    ['registries: {reg.example: ftp://x}', 'agent.yaml:1: registries'],
    ['hub: http://hub', 'agent.yaml:1: hub'],
    ['peerPort: 70000', 'agent.yaml:1: peerPort'],
  ])('tells what is wrong with %j, and where', (yaml, message) => {
    expect(() => load({}, yaml)).toThrow(message);
  });

  it.each([
    [{ node: 'A B' }, '--node: not a node name'],
    [{ address: 'host' }, '--address: not an address'],
    [{ peerPort: '7e3' }, '--peer-port: not a port'],
    [{ peers: '10.0.0.8' }, '--peers: not an address and port'],
    [{ registry: ['reg.example'] }, '--registry: not a registry'],
    [{ registry: ['reg.example=10.0.0.1'] }, '--registry: "10.0.0.1": not a base URL'],
    [{ registry: ['a b=http://x'] }, '--registry: "a b": not a registry host'],
    [{ hub: ['hub.example'] }, '--hub: "hub.example": not a broker'],
    [{ logLevel: 'loud' }, '--log-level: not a log level'],
  ] as [AgentFlags, string][])('names the flag that is wrong: %j', (flags, message) => {
    expect(() => load(flags)).toThrow(message);
  });

  it('tells which file cannot be read', () => {
    expect(() => loadSettings({}, '/nowhere.yaml', machine())).toThrow(
      'cannot read the settings file "/nowhere.yaml"',
    );
  });

  it('asks for a name where the host has none that can be one', () => {
    expect(() => loadSettings({}, undefined, { ...machine(), hostname: () => 'my_host' })).toThrow('--node');
  });

  it('takes the socket of the container runtime from a flag or the file, or none', () => {
    expect(load({ cri: 'unix:///run/k3s/containerd/containerd.sock' }).runtime.criSocket).toBe(
      '/run/k3s/containerd/containerd.sock',
    );
    expect(load({ cri: 'none' }).runtime.criSocket).toBeNull();
    expect(() => load({ cri: 'containerd.sock' })).toThrow(/--cri: .*not a socket's path/);
  });
});
