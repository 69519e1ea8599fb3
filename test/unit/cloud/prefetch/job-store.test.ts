import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { JobStore } from '../../../../cloud/prefetch/job-store.ts';

let root: string;
let directory: string;
const request = { images: [{ image: 'r.test/a:1' }], pools: ['alpha'] };

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'tidepool-jobs-'));
  directory = path.join(root, 'prefetches');
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function open(): Promise<JobStore> {
  const store = new JobStore({ directory });
  await store.start();
  return store;
}

describe('JobStore', () => {
  it('keeps jobs over a restart, as documents', async () => {
    const store = await open();
    let changes = 0;
    store.onChange(() => changes++);
    const job = await store.add('web', request);
    expect(changes).toBe(1);
    expect(JSON.parse(await readFile(path.join(directory, 'web.json'), 'utf8'))).toMatchObject({
      kind: 'ImagePrefetch',
      metadata: { name: 'web' },
    });
    expect((await open()).list()).toEqual([job]);
    await store.remove('web');
    expect((await open()).list()).toEqual([]);
    expect(await readdir(directory)).toEqual([]);
  });

  it('the same job again is no second one; another job under its name is refused', async () => {
    const store = await open();
    const first = await store.add('web', request);
    expect(await store.add('web', request)).toBe(first);
    await expect(store.add('web', { ...request, pools: ['beta'] })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    // Also over a restart, when what is kept has been read from disk.
    expect(await (await open()).add('web', request)).toEqual(first);
  });

  it.each([
    ['../evil', request, /not an id/],
    ['Web', request, /not an id/],
    ['web', { images: [{ image: 'UPPER' }] }, /not an image reference/],
    ['web', { images: [{ image: 'a', digest: 'sha256:short' }] }, /expected sha256/],
    ['web', { images: [{ image: 'a', platforms: ['arm'] }] }, /expected os\/arch/],
    ['web', { ...request, pools: ['No Pool'] }, /not a pool name/],
    ['web', { images: Array.from({ length: 101 }, () => ({ image: 'a' })) }, /100/],
  ])('refuses %s %j', async (id, body, message) => {
    const store = await open();
    await expect(store.add(id, body)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
    expect(store.list()).toEqual([]);
  });

  it('a file that cannot be read is a problem, the others work', async () => {
    await mkdir(directory);
    await writeFile(path.join(directory, 'bad.json'), '{');
    await (await open()).add('web', request);
    const store = await open();
    expect(store.list()).toHaveLength(1);
    expect(store.problems()[0]?.source).toMatch(/bad.json$/);
  });

  it('removing what is not there says so', async () => {
    await expect((await open()).remove('web')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
