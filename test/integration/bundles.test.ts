/** Bundles from a registry to a pool that nobody else can reach, and from there to others. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BundlePool } from '../support/bundle-pool.ts';
import { hostPlatform, type SampleImage } from '../support/registry/index.ts';

const NAME = 'reg.example/lab/app:v1';
/** Of the two platforms of the images: which is this machine's. */
const OWN = hostPlatform().architecture === 'arm64' ? 1 : 0;

let pool: BundlePool;
let image: SampleImage;
let next: SampleImage;
beforeAll(async () => {
  pool = new BundlePool();
  await pool.open();
  image = await pool.image(1);
  next = await pool.image(2, 'v2');
  const made = [
    await pool.create(NAME, '-o', pool.path('app.tar')),
    await pool.create(
      'reg.example/lab/app:v2',
      `--since=${pool.path('app.tar')}`,
      '-o',
      pool.path('next.tar'),
    ),
    await pool.create(NAME, '--unsigned', '-o', pool.path('unsigned.tar')),
    await pool.create(NAME, '--platform=linux/s390x', '-o', pool.path('none.tar')),
    await pool.create(
      NAME,
      `--platform=linux/${OWN === 0 ? 'arm64' : 'amd64'}`,
      '-o',
      pool.path('other.tar'),
    ),
  ];
  expect(made.map(({ code, err }) => (code === 0 ? 'ok' : err))).toEqual([
    'ok',
    'ok',
    'ok',
    expect.stringContaining('has nothing for linux/s390x'),
    'ok',
  ]);
  const audit = JSON.stringify(await pool.hub.admin.audit());
  expect(audit).toContain('POST /v1/bundles/sign');
  await pool.start([1, 2, 3]);
  await pool.cutOff();
}, 60_000);
afterAll(() => pool.close());

describe('a pool without hub and registry', () => {
  it('pulls nothing before, and refuses what nobody has signed or it cannot run', async () => {
    await expect(pool.pull(1, image, OWN)).rejects.toThrow();
    const unsigned = await pool.agent(1, 'bundle', 'import', pool.path('unsigned.tar'));
    expect(unsigned).toMatchObject({ code: 1, stderr: expect.stringContaining('the hub has not signed it') });
    const other = await pool.agent(1, 'bundle', 'import', pool.path('other.tar'));
    expect(other).toMatchObject({ code: 1, stderr: expect.stringContaining('--any-platform') });
    const early = await pool.agent(1, 'bundle', 'import', pool.path('next.tar'));
    expect(early).toMatchObject({ code: 1, stderr: expect.stringContaining('import that one first') });
    const absent = await pool.agent(1, 'bundle', 'import', pool.path('absent.tar'));
    expect(absent).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/absent\.tar cannot be read: ENOENT/),
    });
    expect((await pool.status(1))?.counters.blobs).toBe(0);
    expect((await pool.status(1))?.bundles).toMatchObject({ imported: 0, refused: 3, importing: false });
  });

  it('checks a bundle without keeping anything of it', async () => {
    const checked = await pool.agent(1, 'bundle', 'import', pool.path('app.tar'), '--check');
    expect(checked).toMatchObject({ code: 0, stdout: expect.stringContaining('nothing was kept') });
    expect((await pool.status(1))?.counters.blobs).toBe(0);
  });

  it('takes it in on one node, and all pull by tag and digest, every platform', async () => {
    const imported = await pool.agent(1, 'bundle', 'import', pool.path('app.tar'));
    expect(imported.stderr).not.toContain('error');
    expect(imported).toMatchObject({ code: 0, stdout: expect.stringContaining('signed by the hub') });
    for (const platform of [0, 1]) {
      expect(await pool.pull(1, image, platform)).toHaveLength(5);
      expect(await pool.pull(2, image, platform)).toHaveLength(5);
    }
    expect((await pool.get(2, `manifests/${image.digest}`)).status).toBe(200);
    expect((await pool.status(2))?.counters.wanBytes).toBe(0);
  });

  it('takes what came after it, and counts on what is in the pool', async () => {
    const again = await pool.agent(2, 'bundle', 'import', pool.path('app.tar'), '--json');
    expect(JSON.parse(again.stdout.trim().split('\n').at(-1) ?? '')).toMatchObject({
      type: 'done',
      newBytes: 0,
    });
    const sizes = ['app.tar', 'next.tar'].map((name) => readFileSync(pool.path(name)).length);
    expect(sizes[1]).toBeLessThan((sizes[0] ?? 0) / 2);
    const later = await pool.agent(3, 'bundle', 'import', pool.path('next.tar'));
    expect(later).toMatchObject({ code: 0 });
    expect(await pool.pull(2, next, OWN, 'v2')).toHaveLength(5);
  });

  it('gives out what it has with the signature of the hub, and takes that too', async () => {
    const file = pool.path('out.tar');
    const exported = await pool.agent(2, 'bundle', 'export', NAME, '-o', file);
    expect(exported).toMatchObject({ code: 0, stdout: expect.stringContaining("with the hub's signatures") });
    const back = await pool.agent(3, 'bundle', 'import', file);
    expect(back).toMatchObject({ code: 0, stdout: expect.stringContaining('image by image') });
  });

  it('takes none of a bundle with one byte changed, or cut off', async () => {
    const bytes = readFileSync(pool.path('app.tar'));
    const before = (await pool.status(3))?.counters.blobs;
    for (const damage of ['flip', 'cut'] as const) {
      const damaged = Buffer.from(damage === 'cut' ? bytes.subarray(0, bytes.length - 1_024) : bytes);
      const at = bytes.length - 10_000;
      if (damage === 'flip') damaged[at] = (damaged[at] ?? 0) ^ 1;
      writeFileSync(pool.path('bad.tar'), damaged);
      const refused = await pool.agent(3, 'bundle', 'import', pool.path('bad.tar'));
      expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('BUNDLE_REFUSED') });
    }
    expect((await pool.status(3))?.counters.blobs).toBe(before);
  });
});

const skopeo = spawnSync('skopeo', ['--version']).status === 0;
if (!skopeo) console.info('skopeo is not installed: bundles are not read by another tool here');

describe.skipIf(!skopeo)('another tool', () => {
  it('reads a bundle as the OCI image layout that it is', () => {
    const from = `oci-archive:${pool.path('app.tar')}:${NAME}`;
    const to = pool.path('layout');
    execFileSync('skopeo', [
      'copy',
      '--all',
      '--preserve-digests',
      '--insecure-policy',
      '--quiet',
      from,
      `oci:${to}:v1`,
    ]);
    for (const { digest } of [...image.manifests, ...image.blobs]) {
      expect(existsSync(`${to}/blobs/sha256/${digest.slice(7)}`)).toBe(true);
    }
  });
});
