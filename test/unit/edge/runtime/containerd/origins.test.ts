import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadSettings, thisMachine } from '../../../../../edge/config/load-settings.ts';
import { HostsFiles } from '../../../../../edge/runtime/containerd/hosts-files.ts';

const certsDir = '/etc/containerd/certs.d';
const mirror = 'http://127.0.0.1:6180';
const PEM = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----';
let hostRoot: string;

beforeEach(() => {
  hostRoot = mkdtempSync(join(tmpdir(), 'host-'));
});
afterEach(() => rmSync(hostRoot, { recursive: true, force: true }));

function put(path: string, text: string): void {
  const file = join(hostRoot, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}
const read = (path: string): string => readFileSync(join(hostRoot, path), 'utf8');
const files = () => new HostsFiles(certsDir, hostRoot);
const origins = () => JSON.parse(read(`${certsDir}/.tidepool/origins.json`)).registries;

describe('HostsFiles.recordOrigins', () => {
  it('takes private mirrors, authorities and skip_verify for the agent, the same however often it is asked', () => {
    put(
      `${certsDir}/docker.io/hosts.toml`,
      `server = "https://registry-1.docker.io"\n[host."https://hub.site:8443/v2"]\ncapabilities = ["pull", "resolve"]\nca = "site.crt"\n`,
    );
    put(`${certsDir}/docker.io/site.crt`, PEM);
    put(
      `${certsDir}/reg.site_5000_/hosts.toml`,
      `server = "https://10.0.0.9:5000"\nskip_verify = true\nca = ["/etc/ssl/site.pem"]\n`,
    );
    put('/etc/ssl/site.pem', PEM);
    put(`${certsDir}/plain.site:80/hosts.toml`, '[host."http://10.0.0.8"]\n');
    put(`${certsDir}/own.site/ca.crt`, PEM);
    put(`${certsDir}/said.nothing/hosts.toml`, '# nothing\n');
    const registries = files().registries();
    expect(registries).toEqual(['docker.io', 'own.site', 'plain.site:80', 'reg.site:5000', 'said.nothing']);
    const wanted = {
      'docker.io': { url: 'https://hub.site:8443', ca: PEM },
      'own.site': { url: 'https://own.site', ca: PEM },
      'plain.site:80': { url: 'http://10.0.0.8' },
      'reg.site:5000': { url: 'https://10.0.0.9:5000', ca: PEM, skipVerify: true },
    };
    for (let round = 0; round < 2; round++) {
      files().configure(
        registries.map((registry) => ({ registry })),
        { mirror, fallback: round === 0 },
      );
      files().recordOrigins(mirror);
      expect(origins()).toEqual(wanted);
    }
    const settings = loadSettings(
      { address: '10.0.0.7', registry: ['own.site=https://10.0.0.1'] },
      'a.yaml',
      {
        ...thisMachine,
        hostname: () => 'n1',
        readFile: () => `runtime: {hostRoot: ${JSON.stringify(hostRoot)}}`,
      },
    );
    // What the agent's owner says goes over what was found.
    expect(settings.registries).toEqual({ ...wanted, 'own.site': { url: 'https://10.0.0.1' } });
    files().restore();
    expect(existsSync(join(hostRoot, certsDir, '.tidepool'))).toBe(false);
    expect(read(`${certsDir}/plain.site:80/hosts.toml`)).toBe('[host."http://10.0.0.8"]\n');
    expect(readdirSync(join(hostRoot, certsDir, 'own.site'))).toEqual(['ca.crt']);
  });

  it('leaves to containerd what the agent cannot do, and says so', () => {
    put(`${certsDir}/a.site/hosts.toml`, '[host."https://m.site/v2/proxy"]\noverride_path = true\n');
    put(
      `${certsDir}/b.site/hosts.toml`,
      '[host."https://m.site"]\nclient = [["c.cert", "c.key"]]\n[host."https://n.site"]\n',
    );
    put(`${certsDir}/c.site/hosts.toml`, '[host."https://m.site".header]\nx = "1"\n');
    put(`${certsDir}/d.site/hosts.toml`, '[host."https://m.site"]\nca = "none.crt"\n');
    put(`${certsDir}/e.site/hosts.toml`, '[host."https://m.site"\n');
    put(`${certsDir}/f.site/hosts.toml`, '[host."https://m.site"]\ncapabilities = ["pull"]\n');
    const { found } = files().recordOrigins(mirror);
    const notes = Object.fromEntries(found.map(({ registry, note = '' }) => [registry, note]));
    expect(notes['a.site']).toContain('overrides the path');
    expect(notes['b.site']).toContain('client certificate');
    expect(notes['c.site']).toContain('headers');
    expect(notes['d.site']).toContain('none.crt');
    expect(notes['e.site']).toContain('line 1');
    expect(notes['f.site']).toContain('both pull and resolve');
    expect(origins()).toEqual({ 'b.site': { url: 'https://n.site' } });
  });

  it('writes paths as the host has them, not as this container sees them', () => {
    put(`${certsDir}/own.site/ca.crt`, PEM);
    files().configure([{ registry: 'own.site' }], { mirror, fallback: true });
    expect(read(`${certsDir}/own.site/hosts.toml`)).toContain(`ca = ["${certsDir}/own.site/ca.crt"]`);
  });
});
