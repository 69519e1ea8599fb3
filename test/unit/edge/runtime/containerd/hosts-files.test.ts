import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HostsFiles } from '../../../../../edge/runtime/containerd/hosts-files.ts';

const options = { mirror: 'http://127.0.0.1:6180', fallback: true };
const hub = { registry: 'docker.io' };
let parent: string;
let root: string;

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'hosts-'));
  root = join(parent, 'certs.d');
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

function put(path: string, text: string): void {
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), text);
}
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** Every file below the root with its bytes and mode. */
function snapshot(directory = parent): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()) {
    const stat = lstatSync(join(directory, name));
    found[name] = stat.isFile()
      ? `${stat.mode.toString(8)} ${readFileSync(join(directory, name), 'hex')}`
      : 'd';
  }
  return found;
}

describe('HostsFiles', () => {
  it('makes what is missing, and takes it away again', () => {
    const before = snapshot();
    const files = new HostsFiles(root);
    const [change] = files.configure([{ registry: 'reg.example:5000' }], options);
    expect(change).toEqual({ path: join(root, 'reg.example_5000_/hosts.toml'), change: 'written' });
    expect(read('reg.example_5000_/hosts.toml')).toContain('[host."http://127.0.0.1:6180"]');
    expect(files.restore().map(({ change: kind }) => kind)).toEqual(['removed']);
    expect(snapshot()).toEqual(before);
  });

  it('puts back what was, byte for byte, with its mode', () => {
    put(
      'docker.io/hosts.toml',
      'server = "https://registry-1.docker.io"\r\n\n[host."https://m.example"]\n\tcapabilities=["pull"]',
    );
    chmodSync(join(root, 'docker.io/hosts.toml'), 0o640);
    const before = snapshot();
    const files = new HostsFiles(root);
    files.configure(
      [hub, { registry: undefined }, { registry: 'a.example', server: 'http://10.0.0.1' }],
      options,
    );
    expect(read('docker.io/hosts.toml')).toMatch(/127\.0\.0\.1:6180[\s\S]*m\.example/);
    expect(lstatSync(join(root, 'docker.io/hosts.toml')).mode & 0o777).toBe(0o640);
    expect(read('a.example/hosts.toml')).toContain('server = "http://10.0.0.1"');
    expect(existsSync(join(root, '_default/hosts.toml'))).toBe(true);
    files.restore();
    expect(snapshot()).toEqual(before);
    expect(files.restore()).toEqual([]);
  });

  it('changes nothing when asked again, and starts from what was when asked for something else', () => {
    put('docker.io/hosts.toml', '[host."https://m.example"]\n');
    const before = snapshot();
    const files = new HostsFiles(root);
    files.configure([hub], options);
    const after = snapshot();
    expect(files.configure([hub], options)).toEqual([
      { path: join(root, 'docker.io/hosts.toml'), change: 'unchanged' },
    ]);
    expect(snapshot()).toEqual(after);
    files.configure([hub], { ...options, mirror: 'http://127.0.0.1:7000' });
    expect(read('docker.io/hosts.toml')).not.toContain(':6180');
    expect(read('docker.io/hosts.toml')).toContain('m.example');
    files.restore();
    expect(snapshot()).toEqual(before);
  });

  it('leaves a file alone that names the mirror and is not its own', () => {
    put('docker.io/hosts.toml', '[host."http://127.0.0.1:6180"]\n');
    const [change] = new HostsFiles(root).configure([hub], options);
    expect(change?.change).toBe('kept');
    expect(read('docker.io/hosts.toml')).toBe('[host."http://127.0.0.1:6180"]\n');
  });

  it('takes what a person wrote since for what was', () => {
    const files = new HostsFiles(root);
    files.configure([hub], options);
    writeFileSync(join(root, 'docker.io/hosts.toml'), '[host."https://new.example"]\n');
    files.configure([hub], options);
    expect(read('docker.io/hosts.toml')).toContain('new.example');
    files.restore();
    expect(read('docker.io/hosts.toml')).toBe('[host."https://new.example"]\n');
  });

  it('keeps a version that was changed by hand when it puts back the older one', () => {
    put('docker.io/hosts.toml', 'old\n');
    const files = new HostsFiles(root);
    files.configure([hub], options);
    const edited = `${read('docker.io/hosts.toml')}# by hand\n`;
    writeFileSync(join(root, 'docker.io/hosts.toml'), edited);
    expect(files.restore()[0]?.note).toContain('changed by hand');
    expect(read('docker.io/hosts.toml')).toBe('old\n');
    expect(read('docker.io/hosts.toml.before-restore')).toBe(edited);
  });

  it('puts back after a power cut between the ledger and the file', () => {
    put('docker.io/hosts.toml', 'old = 1\n');
    const before = snapshot();
    const files = new HostsFiles(root);
    files.configure([hub], options);
    writeFileSync(join(root, 'docker.io/hosts.toml'), 'old = 1\n');
    expect(files.configure([hub], options)[0]?.change).toBe('written');
    writeFileSync(join(root, 'docker.io/hosts.toml'), 'old = 1\n');
    files.restore();
    expect(snapshot()).toEqual(before);
  });

  it('stays with a directory that is there under the other name', () => {
    put('reg.example:5000/ca.crt', 'PEM');
    const [change] = new HostsFiles(root).configure([{ registry: 'reg.example:5000' }], options);
    expect(change?.path).toBe(join(root, 'reg.example:5000/hosts.toml'));
    expect(read('reg.example:5000/hosts.toml')).toContain(
      `ca = [${JSON.stringify(join(root, 'reg.example:5000/ca.crt'))}]`,
    );
  });

  it('takes along what _default says of a registry that gets a directory of its own', () => {
    put('_default/hosts.toml', '[host."https://site.example"]\n');
    const files = new HostsFiles(root);
    files.configure([hub], options);
    expect(read('docker.io/hosts.toml')).toMatch(/6180[\s\S]*site\.example/);
    expect(files.configure([hub], options)[0]?.change).toBe('unchanged');
  });

  it('refuses a link, which it could not put back', () => {
    put('elsewhere.toml', 'x');
    mkdirSync(join(root, 'docker.io'));
    symlinkSync(join(root, 'elsewhere.toml'), join(root, 'docker.io/hosts.toml'));
    expect(() => new HostsFiles(root).configure([hub], options)).toThrow('symbolic link');
    expect(read('elsewhere.toml')).toBe('x');
  });

  it('refuses a ledger or a copy that was changed', () => {
    put('docker.io/hosts.toml', 'old\n');
    const files = new HostsFiles(root);
    files.configure([hub], options);
    const copy = readdirSync(join(root, '.tidepool')).find((name) => name.startsWith('docker.io'));
    writeFileSync(join(root, '.tidepool', copy ?? ''), 'other');
    expect(() => files.restore()).toThrow('has been changed');
    writeFileSync(join(root, '.tidepool/ledger.json'), '{}');
    expect(() => files.restore()).toThrow('is not a ledger');
    unlinkSync(join(root, '.tidepool/ledger.json'));
    expect(files.restore()).toEqual([]);
    expect(existsSync(join(root, '.tidepool', copy ?? ''))).toBe(true);
  });
});
