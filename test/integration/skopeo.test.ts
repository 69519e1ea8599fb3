import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Digest, digestOf } from '../../shared/ids.ts';
import { type RunResult, run } from '../lab/process.ts';
import { AgentPool, REPOSITORY } from '../support/agent-pool.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts';
import { ACCOUNT, PrivatePool } from '../support/private-pool.ts';
import { buildImage, buildIndex, type SampleImage } from '../support/registry/index.ts';

// skopeo is the library of CRI-O and podman as a command: it reads the same registries.conf and auth.json.
const missing = ['skopeo', 'docker-registry'].filter(
  (name) => spawnSync(name, ['--version']).error !== undefined,
);
if (missing.length > 0) console.info(`not installed, so not pulled with: ${missing.join(', ')}`);

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'skopeo-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** One image to a directory of files named by digest; `mirrors` are pairs of registry and location. */
async function copy(
  name: string,
  mirrors: readonly (readonly [string, string])[],
  ...flags: string[]
): Promise<{ result: RunResult; has: (digest: Digest) => boolean }> {
  const conf = join(directory, 'registries.conf');
  writeFileSync(
    conf,
    mirrors
      .map(
        ([registry, location]) =>
          `[[registry]]\nlocation = "${registry}"\n[[registry.mirror]]\nlocation = "${location}"\ninsecure = true\n`,
      )
      .join('\n'),
  );
  const to = mkdtempSync(join(directory, 'to-'));
  const result = await run([
    'skopeo',
    '--insecure-policy',
    `--registries-conf=${conf}`,
    'copy',
    '--quiet',
    '--preserve-digests',
    ...flags,
    `docker://${name}`,
    `dir:${to}`,
  ]);
  const has = (digest: Digest): boolean => {
    const file = join(to, digest.slice('sha256:'.length));
    const found = existsSync(file) ? file : join(to, 'manifest.json');
    return existsSync(found) && digestOf(readFileSync(found)) === digest;
  };
  return { result, has };
}

function expectWhole(
  copied: Awaited<ReturnType<typeof copy>>,
  { digest, blobs }: Pick<SampleImage, 'digest' | 'blobs'>,
): void {
  expect(copied.result).toMatchObject({ code: 0 });
  expect([digest, ...blobs.map((blob) => blob.digest)].filter((each) => !copied.has(each))).toEqual([]);
}

describe.skipIf(missing.length > 0)('containers/image by registries.conf', () => {
  let pool: AgentPool;
  let real: DockerRegistry;
  beforeEach(async () => {
    pool = new AgentPool();
    await pool.registry.start();
    real = await startDockerRegistry(directory);
    await pool.startAll([1, 2], { yaml: `registries: {"real.example:5000": "${real.url}"}` });
  });
  afterEach(async () => {
    await pool.close();
    await real.stop();
  });

  const mirrors = (n: number): [string, string][] => [
    ['reg.example', `${pool.mirrorAddress(n)}/reg.example`],
    // Its grammar takes no colon in a path.
    ['real.example:5000', `${pool.mirrorAddress(n)}/real.example_5000`],
  ];

  it('copies by tag and by digest, over the WAN once for the pool, and without the origin', async () => {
    const image = await pool.image([
      { bytes: 900_000, seed: 1 },
      { bytes: 30_000, seed: 2 },
    ]);
    expectWhole(await copy(`reg.example/${REPOSITORY}:v1`, mirrors(1)), image);
    expectWhole(await copy(`reg.example/${REPOSITORY}:v1`, mirrors(2)), image);
    expect(pool.registry.requests.filter(({ kind }) => kind === 'blob')).toHaveLength(
      pool.originReads(1) + pool.originReads(2),
    );
    expect(await pool.wanBytes([1, 2])).toBeLessThan(image.blobBytes + 20_000);
    await pool.registry.stop();
    for (const n of [1, 2]) {
      expectWhole(await copy(`reg.example/${REPOSITORY}:v1`, mirrors(n)), image);
      expectWhole(await copy(`reg.example/${REPOSITORY}@${image.digest}`, mirrors(n)), image);
    }
  });

  it('copies every platform of an index, and its own alone where it is not told to', async () => {
    const platforms = await Promise.all(
      ['amd64', 'arm64'].map((architecture, seed) =>
        buildImage({ layers: [{ bytes: 200_000, seed }], platform: { os: 'linux', architecture } }),
      ),
    );
    const index = buildIndex(platforms);
    pool.registry.addImage(REPOSITORY, 'all', index);
    const all = await copy(`reg.example/${REPOSITORY}:all`, mirrors(1), '--all');
    expectWhole(all, index);
    const [amd64, arm64] = platforms;
    if (amd64 === undefined || arm64 === undefined) throw new Error('no platforms');
    const one = await copy(
      `reg.example/${REPOSITORY}:all`,
      mirrors(2),
      '--override-arch=arm64',
      '--override-os=linux',
    );
    expectWhole(one, arm64);
    expect(amd64.blobs.some(({ digest }) => one.has(digest))).toBe(false);
  });

  it('copies zstd layers of a registry that has a port, as that registry has them', async () => {
    await pool.image([{ bytes: 400_000, seed: 3 }]);
    const from = `docker://${new URL(pool.registry.url).host}/${REPOSITORY}:v1`;
    const to = `docker://${real.host}/lab/zstd:v1`;
    const pushed = await run([
      'skopeo',
      '--insecure-policy',
      'copy',
      '--quiet',
      '--src-tls-verify=false',
      '--dest-tls-verify=false',
      '--dest-compress-format=zstd',
      from,
      to,
    ]);
    expect(pushed).toMatchObject({ code: 0 });
    const answer = await fetch(`${real.url}/v2/lab/zstd/manifests/v1`, {
      headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
    });
    const bytes = Buffer.from(await answer.arrayBuffer());
    const manifest = JSON.parse(bytes.toString()) as {
      config: { digest: Digest };
      layers: { mediaType: string; digest: Digest; size: number }[];
    };
    expect(manifest.layers.map(({ mediaType }) => mediaType)).toEqual([
      'application/vnd.oci.image.layer.v1.tar+zstd',
    ]);
    const digests = [manifest.config, ...manifest.layers].map(({ digest }) => digest);
    const copied = await copy('real.example:5000/lab/zstd:v1', mirrors(1));
    expect(copied.result).toMatchObject({ code: 0 });
    expect([digestOf(bytes), ...digests].filter((digest) => !copied.has(digest))).toEqual([]);
  });

  it('is told of a tag that the registry does not have', async () => {
    const { result } = await copy(`reg.example/${REPOSITORY}:no-such-tag`, mirrors(1));
    expect(result.code).not.toBe(0);
    expect(result.stderr).toMatch(/Mirrors also failed: .*no-such-tag.*manifest unknown/s);
  });
});

describe.skipIf(missing.length > 0)('containers/image and a private image', () => {
  let pool: PrivatePool;
  let image: SampleImage;
  beforeEach(async () => {
    pool = new PrivatePool();
    await pool.open();
    image = await pool.image(1);
    pool.registry.addImage('secret/app', 'v1', image);
    pool.registry.addImage('open/app', 'v1', image);
    await pool.start(1);
  });
  afterEach(() => pool.close());

  const name = 'priv.example/secret/app:v1';
  const mirror = (): [string, string][] => [['priv.example', `${pool.mirrorAddress(1)}/priv.example`]];
  const authfile = (key: string, { username, password }: typeof ACCOUNT): string => {
    const file = join(directory, 'auth.json');
    const auth = Buffer.from(`${username}:${password}`).toString('base64');
    writeFileSync(file, JSON.stringify({ auths: { [key]: { auth } } }));
    return `--authfile=${file}`;
  };

  it('is for the account that stands under the mirror’s own name, also while its registry is away', async () => {
    expect((await copy(name, mirror())).result.stderr).toContain('none was given');
    // Of the registry itself: the library sends it to that registry alone.
    const elsewhere = await copy(name, mirror(), authfile('priv.example', ACCOUNT));
    expect(elsewhere.result.stderr).toContain('none was given');
    for (const key of [`${pool.mirrorAddress(1)}/priv.example`, pool.mirrorAddress(1)]) {
      expectWhole(await copy(name, mirror(), authfile(key, ACCOUNT)), image);
    }
    await pool.registry.stop();
    expectWhole(await copy(name, mirror(), authfile(pool.mirrorAddress(1), ACCOUNT)), image);
    expect((await copy(name, mirror())).result.code).not.toBe(0);
  });

  it('does not keep those without an account from what is open to all', async () => {
    expectWhole(await copy('priv.example/open/app:v1', mirror()), image);
  });
});
