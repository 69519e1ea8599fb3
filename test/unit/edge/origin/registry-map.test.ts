import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RegistryMap } from '../../../../edge/origin/registry-map.ts';
import { isTidepoolError } from '../../../../shared/errors.ts';
import { errorOf, originFixture, REGISTRY, REPOSITORY } from '../../../support/origin-fixture.ts';

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (isTidepoolError(error)) return error.code;
    throw error;
  }
  return 'none';
}

describe('RegistryMap', () => {
  it('dials what is configured, and nothing else unless that is allowed', () => {
    const map = new RegistryMap({ 'registry.example:5000': { url: 'http://10.0.0.1:5000' } }, false);
    expect(map.resolve('registry.example:5000').base.href).toBe('http://10.0.0.1:5000/');
    expect(map.resolve('Registry.Example:5000').base.href).toBe('http://10.0.0.1:5000/');
    for (const other of ['registry.example', 'docker.io', '127.0.0.1:22', 'metadata.internal']) {
      expect(codeOf(() => map.resolve(other))).toBe('REGISTRY_NOT_CONFIGURED');
    }
    expect(() => map.resolve('quay.io')).toThrow('--registry quay.io=URL');
  });

  it('goes where the hub chooses, through doors that its owner opened', () => {
    const map = new RegistryMap(
      {
        'docker.io': { url: 'http://10.0.0.1:5000/hub' },
        'mirror.example': { url: 'https://10.0.0.2:5000' },
      },
      false,
    );
    const first = map.choose({
      'index.docker.io': 'https://10.0.0.2:5000/proxy',
      'ghcr.io': 'http://10.0.0.1:5000',
      'quay.io': 'https://evil.example',
      'gcr.io': 'http://10.0.0.2:5000',
      'a b': 'https://10.0.0.2:5000',
    });
    expect(first.moved).toEqual(['docker.io', 'ghcr.io']);
    expect(first.refused).toEqual([
      'registry quay.io stays where it is: this node may not dial https://evil.example; start the agent with --registry NAME=https://evil.example to allow it',
      expect.stringContaining(
        'registry gcr.io stays where it is: this node may not dial http://10.0.0.2:5000',
      ),
      expect.stringContaining('not a registry'),
    ]);
    expect(map.resolve('docker.io').base.href).toBe('https://10.0.0.2:5000/proxy');
    expect(map.resolve('ghcr.io').base.href).toBe('http://10.0.0.1:5000/');
    expect(codeOf(() => map.resolve('quay.io'))).toBe('REGISTRY_NOT_CONFIGURED');
    expect(map.choose({ 'docker.io': 'https://10.0.0.2:5000/proxy' })).toEqual({
      moved: ['ghcr.io'],
      refused: [],
    });
    expect(map.choose({}).moved).toEqual(['docker.io']);
    expect(map.resolve('docker.io').base.href).toBe('http://10.0.0.1:5000/hub');
    expect(codeOf(() => map.resolve('ghcr.io'))).toBe('REGISTRY_NOT_CONFIGURED');
  });

  it('may be sent anywhere by https where any registry may be dialled', () => {
    const map = new RegistryMap({}, true);
    const { moved, refused } = map.choose({
      'docker.io': 'https://m.example',
      'quay.io': 'http://m.example',
    });
    expect(moved).toEqual(['docker.io']);
    expect(refused).toHaveLength(1);
    expect(map.resolve('docker.io').base.href).toBe('https://m.example/');
  });

  it('knows where docker.io lives, and takes any host over https where that is allowed', () => {
    const map = new RegistryMap({}, true);
    for (const name of ['docker.io', 'index.docker.io']) {
      expect(map.resolve(name).base.href).toBe('https://registry-1.docker.io/');
    }
    expect(map.resolve('quay.io').base.href).toBe('https://quay.io/');
    expect(map.resolve('registry.example:5000').base.href).toBe('https://registry.example:5000/');
  });

  it.each(['user@host', 'host/path', 'http://host', '', 'a b', 'host:999999', '..'])(
    'takes %j for no registry',
    (name) => {
      expect(codeOf(() => new RegistryMap({}, true).resolve(name))).toBe('INVALID_REFERENCE');
    },
  );

  it.each(['registry.example', 'ftp://host', 'http://', 'https://user:pw@host', 'https://host/?x=1'])(
    'refuses the URL %j',
    (url) => {
      expect(codeOf(() => new RegistryMap({ 'registry.example': { url } }, false))).toBe('INVALID_CONFIG');
    },
  );

  it('refuses an authorities file that is missing or holds none', () => {
    for (const caFile of ['/does/not/exist.pem', '/dev/null']) {
      const registries = { 'registry.example': { url: 'https://host', caFile } };
      expect(codeOf(() => new RegistryMap(registries, false))).toBe('INVALID_CONFIG');
    }
  });
});

describe('a registry over https', () => {
  let dir: string;
  const pem = (name: string): string => readFileSync(join(dir, name), 'utf8');
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'tidepool-ca-'));
    const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const subject = ['-days', '2', '-subj', '/CN=sample', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const files = ['-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')];
    execFileSync('openssl', [...request, ...subject, ...files], { stdio: 'pipe' });
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it('is trusted by the authorities file of its own and by no other', async () => {
    const fixture = await originFixture({ tls: { key: pem('key.pem'), cert: pem('cert.pem') } });
    const { url } = fixture.registry;
    const ask = { registry: REGISTRY, repository: REPOSITORY, reference: 'v1', method: 'GET' } as const;
    const caFile = join(dir, 'cert.pem');
    const trusting = fixture.origin({ registries: { [REGISTRY]: { url, caFile } } });
    expect((await trusting.manifest(ask)).digest).toBe(fixture.image.digest);
    const error = await errorOf(fixture.origin().manifest(ask));
    expect(error.code).toBe('ORIGIN_UNREACHABLE');
    expect(error.message).toMatch(/self.signed/i);
    await fixture.stop();
  });

  it('may not send tags, or accounts, on to plain http; blobs it may', async () => {
    const plain = await originFixture();
    const fixture = await originFixture({ tls: { key: pem('key.pem'), cert: pem('cert.pem') } });
    const caFile = join(dir, 'cert.pem');
    const origin = fixture.origin({ registries: { [REGISTRY]: { url: fixture.registry.url, caFile } } });
    const at = { registry: REGISTRY, repository: REPOSITORY };
    fixture.registry.options.fault = ({ path }) => ({
      status: 307,
      headers: { Location: `${plain.registry.url}${path}` },
    });
    expect((await errorOf(origin.manifest({ ...at, reference: 'v1', method: 'GET' }))).code).toBe(
      'ORIGIN_ERROR',
    );
    expect(await origin.blobSize({ ...at, digest: fixture.layer })).toBeGreaterThan(0);
    fixture.registry.options.fault = undefined;
    const account = { username: 'alice', password: 'secret' };
    fixture.registry.options.auth = { kind: 'bearer', ...account, realm: `${plain.registry.url}/token` };
    const other = { registry: REGISTRY, repository: REPOSITORY, credentials: account };
    expect((await errorOf(origin.manifest({ ...other, reference: 'v1', method: 'GET' }))).message).toContain(
      'plain http',
    );
    expect(plain.registry.requests.filter(({ kind }) => kind === 'token')).toHaveLength(0);
    await Promise.all([fixture.stop(), plain.stop()]);
  });
});
