import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ImageContents, writeImage } from './layout.ts';

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'image-'));
  writeFileSync(join(directory, 'program'), 'x'.repeat(100_000));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const contents = (): ImageContents => ({
  tag: '1.0',
  layers: [
    [
      { path: '/b/c/program', mode: 0o755, from: { file: join(directory, 'program') } },
      { path: '/a/text', from: { text: 'hello' } },
    ],
    [{ path: '/app/main', from: { text: 'main' } }],
  ],
  entrypoint: ['/b/c/program'],
  user: '0:0',
  workingDir: '/',
  labels: {},
});

describe('writeImage', () => {
  it('gives the same digest for the same contents, whenever and in whatever order', async () => {
    const first = await writeImage(join(directory, 'one'), contents());
    writeFileSync(join(directory, 'program'), 'x'.repeat(100_000));
    const { layers, ...rest } = contents();
    const second = await writeImage(join(directory, 'two'), {
      ...rest,
      layers: layers.map((files) => [...files].reverse()),
    });
    expect(second).toBe(first);
    const other = await writeImage(join(directory, 'three'), { ...contents(), user: '1:1' });
    expect(other).not.toBe(first);
  });

  it('has every blob under its digest, and layers that tar reads', async () => {
    const layout = join(directory, 'layout');
    const digest = await writeImage(layout, contents());
    const blob = (name: string): string => join(layout, 'blobs/sha256', name.replace('sha256:', ''));
    for (const name of readdirSync(join(layout, 'blobs/sha256'))) {
      expect(execFileSync('sha256sum', [blob(name)], { encoding: 'utf8' })).toContain(name);
    }
    const manifest: { layers: { digest: string }[] } = JSON.parse(readFileSync(blob(digest), 'utf8'));
    const [first] = manifest.layers;
    const listed = execFileSync('tar', ['-tvzf', blob(first?.digest ?? '')], { encoding: 'utf8' });
    expect(listed.split('\n').map((line) => line.split(/\s+/).at(-1))).toEqual([
      'a/',
      'a/text',
      'b/',
      'b/c/',
      'b/c/program',
      '',
    ]);
    expect(listed).toMatch(/^-rwxr-xr-x root\/root|^-rwxr-xr-x 0\/0/m);
  });

  it('refuses a path that a tar header has no room for', async () => {
    const path = `/${'d/'.repeat(60)}f`;
    const layers = [[{ path, from: { text: '' } }]];
    await expect(writeImage(join(directory, 'long'), { ...contents(), layers })).rejects.toThrow(/too long/);
  });
});
