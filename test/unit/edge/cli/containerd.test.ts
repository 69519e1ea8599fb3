import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cli } from '../../../support/cli-capture.ts';

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
    expect(hostsOf('docker.io')).toContain('[host."http://127.0.0.1:6180"]');
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
    expect(hostsOf('docker.io')).toContain('server = "http://127.0.0.1:6180"');
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
