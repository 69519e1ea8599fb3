import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCli } from '../../../../cloud/cli/program.ts';
import { buildImage, SampleRegistry } from '../../../support/registry/index.ts';
import { TEST_CERT, TEST_KEY } from '../../../support/tls-fixture.ts';

let directory: string;
let registry: SampleRegistry;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'bundle-'));
  registry = new SampleRegistry({ tls: { key: TEST_KEY, cert: TEST_CERT } });
  registry.addImage('lab/app', 'v1', await buildImage({ layers: [{ bytes: 10_000, seed: 1 }] }));
  await registry.start();
});
afterEach(async () => {
  await registry.stop();
  await rm(directory, { recursive: true, force: true });
});

async function create(...flags: string[]): Promise<{ code: number; out: string }> {
  let out = '';
  const io = { write: (text: string) => (out += text) };
  const file = path.join(directory, 'app.tar');
  const args = ['bundle', 'create', 'reg.test/lab/app:v1', '--unsigned', '-o', file, ...flags];
  const { signal } = new AbortController();
  const code = await runCli(args, '0', { stdout: io, stderr: io, signal });
  return { code, out };
}

describe('bundle create', () => {
  it('believes a registry whose certificate an authority of one’s own has signed, and no other', async () => {
    const ca = path.join(directory, 'ca.pem');
    await writeFile(ca, TEST_CERT);
    const at = ['--registry', `reg.test=${registry.url}`];
    const stranger = await create(...at);
    expect(stranger.code).toBe(1);
    expect(stranger.out).toMatch(/ORIGIN_UNREACHABLE|certificate/);
    const known = await create(...at, '--registry-ca', `reg.test=${ca}`);
    expect([known.code, known.out]).toEqual([0, known.out]);
    expect((await stat(path.join(directory, 'app.tar'))).size).toBeGreaterThan(10_000);
  });

  it.each([
    ['reg.test', /write it like registry\.example:5000=our-ca\.pem/],
    ['reg.test=/nowhere/ca.pem', /\/nowhere\/ca\.pem cannot be read/],
  ])('refuses --registry-ca %s in words', async (flag, words) => {
    const { code, out } = await create('--registry-ca', flag);
    expect(code).toBe(2);
    expect(out).toMatch(words);
  });
});
