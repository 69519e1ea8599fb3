import { mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ContentWatch } from '../../../../../edge/runtime/containerd/content-watch.ts';
import { systemClock } from '../../../../../shared/clock.ts';
import { type BlobKey, digestOf } from '../../../../../shared/ids.ts';
import { silentLogger } from '../../../../../shared/log.ts';
import { ContentDirectory } from '../../../../support/content-directory.ts';
import { TempDirectories } from '../../../../support/store-fixture.ts';

const directories = new TempDirectories();
afterAll(() => directories.removeAll());

let content: ContentDirectory;
let known: Set<BlobKey>;
let changes: number;
let watch: ContentWatch;

beforeEach(() => {
  content = new ContentDirectory(directories.make());
  known = new Set();
  changes = 0;
  watch = watching(content.root);
});
afterEach(() => watch.stop());

function watching(directory: string): ContentWatch {
  return new ContentWatch(
    {
      listener: {
        look: async (key) => {
          const { existsSync } = await import('node:fs');
          if (!existsSync(watch.pathOf(key))) return known.delete(key);
          const news = !known.has(key);
          known.add(key);
          return news;
        },
        vanished: (key) => known.delete(key),
        keys: () => known,
      },
      clock: systemClock,
      log: silentLogger(),
      onChange: () => {
        changes++;
      },
    },
    { directory },
  );
}

function has(...keys: BlobKey[]): Promise<void> {
  return vi.waitFor(() => expect([...known].sort()).toEqual([...keys].sort()), { timeout: 30_000 });
}

describe("the watch over containerd's content store", () => {
  it('tells of what is there, comes and goes', async () => {
    const [one, two] = [content.commit('one'), content.commit('two')];
    await watch.start();
    await has(one, two);
    const three = content.commit('three');
    await has(one, two, three);
    content.remove(two);
    await has(one, three);
    expect(changes).toBe(4);
    expect(watch.state).toEqual({ directory: content.root, state: 'watching', problem: null });
  });

  it('passes over what is no blob, or not whole yet', async () => {
    const { writeFileSync } = await import('node:fs');
    const one = content.commit('one');
    writeFileSync(content.pathOf('sha256:not-a-digest'), '');
    mkdirSync(content.pathOf(digestOf(Buffer.from('a directory'))));
    await watch.start();
    await has(one);
    writeFileSync(content.pathOf('sha256:nor-this'), '');
    await has(one, content.commit('two'));
  });

  it('finds a change that was not seen at its next listing', async () => {
    const one = content.commit('one');
    await watch.start();
    await has(one);
    known.add(digestOf(Buffer.from('gone unseen')));
    await watch.relist();
    await has(one);
  });

  it('forgets all when the directory goes, and finds it when it is made anew', async () => {
    const one = content.commit('one');
    await watch.start();
    await has(one);
    rmSync(content.root, { recursive: true });
    await watch.relist();
    expect([watch.state.state, [...known]]).toEqual(['absent', []]);
    content = new ContentDirectory(content.root);
    const two = content.commit('two');
    await watch.relist();
    await has(two);
    await has(two, content.commit('three'));
  });

  it('waits for a directory that is not there yet', async () => {
    rmSync(dirname(content.pathOf('x')), { recursive: true });
    await watch.start();
    await vi.waitFor(() => expect(watch.state.problem).not.toBeNull(), { timeout: 30_000 });
    expect(watch.state.state).toBe('absent');
    content = new ContentDirectory(content.root);
    const one = content.commit('one');
    await watch.relist();
    await has(one);
  });
});
