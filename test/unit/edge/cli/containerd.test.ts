import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cli } from '../../../support/cli-capture.ts';
import { FakeOps, jsonAnswer } from '../../../support/fake-ops.ts';

const CONTAINERD = '/etc/containerd/config.toml';
let parent: string;
let root: string;

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'certs-'));
  root = join(parent, 'certs.d');
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

const configure = (args: string[], files: Record<string, string> = {}) =>
  cli(['containerd', 'configure', '--certs-dir', root, ...args], { files });
const restore = (...args: string[]) => cli(['containerd', 'restore', `--certs-dir=${root}`, ...args]);
const hostsOf = (directory: string): string => readFileSync(join(root, directory, 'hosts.toml'), 'utf8');

describe('containerd configure', () => {
  it('writes for each registry named, and restore takes it away', async () => {
    const { code, stdout } = await configure([
      '--registry',
      'docker.io',
      '--registry=reg.example:5000=http://10.0.0.1:5000',
    ]);
    expect(code).toBe(0);
    expect(stdout).toContain(`written  ${root}/docker.io/hosts.toml`);
    expect(hostsOf('docker.io')).toContain('[host."http://127.0.0.1:618"]');
    expect(hostsOf('reg.example_5000_')).toContain('server = "http://10.0.0.1:5000"');
    const back = await restore();
    expect(back.code).toBe(0);
    expect(back.stdout).toContain(`removed  ${root}/docker.io/hosts.toml`);
    expect(existsSync(root)).toBe(false);
    expect((await restore()).stdout).toBe(`nothing of ours is in ${root}\n`);
  });

  it('keeps what was there behind the mirror, and puts it back byte for byte', async () => {
    const old = '# ours\r\nserver = "https://registry-1.docker.io"\r\n[host."https://m.example"]';
    mkdirSync(join(root, '_default'), { recursive: true });
    writeFileSync(join(root, '_default/hosts.toml'), old);
    const { stdout } = await configure(['--default', '--mirror=http://127.0.0.1:7180/', '--json']);
    expect(JSON.parse(stdout)).toEqual([
      {
        path: join(root, '_default/hosts.toml'),
        change: 'written',
        note: expect.stringContaining('backed up'),
      },
      { path: join(root, 'tidepool.invalid/hosts.toml'), change: 'written' },
    ]);
    expect(hostsOf('_default')).toMatch(/registry-1[\s\S]*127\.0\.0\.1:7180"[\s\S]*m\.example/);
    expect((await configure(['--default', '--mirror=http://127.0.0.1:7180'])).stdout).toContain('unchanged');
    expect(JSON.parse((await restore('--json')).stdout)).toMatchObject([
      { change: 'restored' },
      { change: 'removed' },
    ]);
    expect(hostsOf('_default')).toBe(old);
  });

  it('leaves no way past the mirror with --no-fallback', async () => {
    mkdirSync(join(root, 'docker.io'), { recursive: true });
    writeFileSync(join(root, 'docker.io/hosts.toml'), '[host."https://m.example"]\n');
    await configure(['--registry=docker.io', '--no-fallback']);
    expect(hostsOf('docker.io')).toContain('server = "http://127.0.0.1:618"');
    expect(hostsOf('docker.io')).not.toContain('m.example');
    await restore();
    expect(hostsOf('docker.io')).toBe('[host."https://m.example"]\n');
  });

  it.each([
    ['there is none', {}],
    ['it names none', { [CONTAINERD]: 'version = 2\n# config_path = "PATH"\n' }],
    ['it names another', { [CONTAINERD]: '  config_path = "/etc/containerd/other.d"\n' }],
    ['it names a longer one', { [CONTAINERD]: '  config_path = "PATH.old"\n' }],
  ])('tells what config_path has to be where containerd sets no such thing: %s', async (_, files) => {
    const here = Object.fromEntries(
      Object.entries(files).map(([path, text]) => [path, text.replace('PATH', root)]),
    );
    const { code, stderr } = await configure(['--default'], here);
    expect(code).toBe(0);
    expect(stderr).toContain('[plugins."io.containerd.grpc.v1.cri".registry]\n');
    expect(stderr).toContain('[plugins."io.containerd.cri.v1.images".registry]\n');
    expect(stderr).toContain(`config_path = "${root}"`);
  });

  it.each(['"PATH"', "'PATH'", '"PATH:/etc/docker/certs.d"', '"/etc/docker/certs.d:PATH/"'])(
    'says nothing where config_path is %s',
    async (value) => {
      const text = `[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = ${value.replace('PATH', root)}\n`;
      expect((await configure(['--default'], { [CONTAINERD]: text })).stderr).toBe('');
    },
  );

  it('ends with 2 where the directory cannot be one', async () => {
    writeFileSync(root, 'a file');
    const { code, stderr } = await configure(['--default']);
    expect(code).toBe(2);
    expect(stderr).toContain(root);
  });
});

describe('containerd configure --existing', () => {
  it('points registries that stood there at the mirror, and tells the agent where they are', async () => {
    mkdirSync(join(root, 'reg.site'), { recursive: true });
    writeFileSync(join(root, 'reg.site/hosts.toml'), '[host."http://10.0.0.9:5000"]\n  skip_verify = true\n');
    const { code, stdout } = await configure(['--default', '--existing']);
    expect(code).toBe(0);
    expect(hostsOf('reg.site')).toMatch(/127\.0\.0\.1:618"[\s\S]*10\.0\.0\.9/);
    expect(hostsOf('_default')).toContain('127.0.0.1:618');
    expect(hostsOf('tidepool.invalid')).toContain('server = "http://127.0.0.1:618"');
    expect(stdout).toContain('the agent finds reg.site at http://10.0.0.9:5000 (any certificate)');
    expect((await configure(['--default', '--existing'])).stdout).not.toContain('written');
    await restore();
    expect(hostsOf('reg.site')).toBe('[host."http://10.0.0.9:5000"]\n  skip_verify = true\n');
    expect(existsSync(join(root, '.tidepool'))).toBe(false);
  });

  it('goes past the agent as the settings say, and the flag over them', async () => {
    const files = { 'a.yaml': 'originFallback: false\nmirror: 127.0.0.1:7180\n' };
    await configure(['--registry=docker.io', '--config=a.yaml'], files);
    expect(hostsOf('docker.io')).toContain('server = "http://127.0.0.1:7180"');
    await configure(['--registry=docker.io', '--config=a.yaml', '--origin-fallback'], files);
    expect(hostsOf('docker.io')).not.toContain('server =');
    await configure(['--registry=docker.io', '--no-origin-fallback'], files);
    expect(hostsOf('docker.io')).toContain('server = "http://127.0.0.1:618"');
  });

  it('works beneath a mounted root, and is undone there wherever it was done', async () => {
    const args = (...more: string[]) => ['containerd', ...more, `--root=${parent}`];
    await cli(args('configure', '--default'));
    await cli(args('configure', '--default', '--certs-dir=/opt/certs.d'));
    expect(existsSync(join(parent, 'etc/containerd/certs.d/_default/hosts.toml'))).toBe(true);
    const config = join(parent, 'etc/containerd/config.toml');
    const files = {
      [config]:
        'version = 3\n[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "/opt/certs.d"\n',
    };
    const { stdout } = await cli(args('restore', '--all'), { files });
    expect(stdout.match(/removed/g)).toHaveLength(4);
    expect(existsSync(join(parent, 'etc/containerd/certs.d'))).toBe(false);
    expect(existsSync(join(parent, 'opt/certs.d'))).toBe(false);
  });
});

describe('containerd configure --check', () => {
  const server = new FakeOps();
  beforeEach(() => server.start());
  afterEach(() => server.stop());
  const agent = (mirror: string, fix: string | null = null) => {
    server.answer = jsonAnswer(200, {
      socket: '/s',
      present: true,
      runtime: 'c',
      mirror,
      checkedAt: 1,
      reason: null,
      fix,
    });
  };
  const check = (...args: string[]) => configure(['--check', `--ops=${server.address}`, ...args]);

  it('ends with 1 before anything was configured, and changes nothing', async () => {
    agent('not-configured', 'run configure');
    const { code, stdout } = await check();
    expect(code).toBe(1);
    expect(stdout).toContain('containerd uses the mirror: no');
    expect(existsSync(root)).toBe(false);
  });

  it('says what the self-test of the agent says, and whom each registry is asked of', async () => {
    agent('yes');
    await configure(['--default']);
    mkdirSync(join(root, 'own.site'), { recursive: true });
    writeFileSync(join(root, 'own.site/hosts.toml'), 'server = "https://10.0.0.1"\n');
    const yes = await check();
    expect(yes.code).toBe(0);
    expect(yes.stdout).toMatch(/yes: the agent's self-test says so; but not for own\.site/);
    expect(yes.stdout).toMatch(/any other +http:\/\/127\.0\.0\.1:618, then/);
    agent('no', 'set config_path on line 7');
    const no = await check('--json');
    expect(no.code).toBe(1);
    expect(JSON.parse(no.stdout)).toMatchObject({ mirror: 'no', because: expect.stringContaining('line 7') });
    expect(server.asked.at(-1)?.route).toBe('POST /v1/self-test');
  });

  it('ends with 3 where neither agent nor files can tell', async () => {
    agent('unknown');
    await configure(['--default']);
    const { code, stdout } = await check();
    expect(code).toBe(3);
    expect(stdout).toContain('to be sure');
  });
});
