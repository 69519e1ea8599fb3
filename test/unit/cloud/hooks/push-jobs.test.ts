import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { prefetchId } from '../../../../cloud/desired/prefetch-spec.ts';
import { pushId } from '../../../../cloud/hooks/push-book.ts';
import { PushJobs } from '../../../../cloud/hooks/push-jobs.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { parseDigest, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { PrefetchRequest } from '../../../../shared/wire/api.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'tidepool-pushes-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const digest = (letter: string) => parseDigest(`sha256:${letter.repeat(64)}`);
const push = (letter: string, pushedAt = 0) => ({
  digest: digest(letter),
  pools: [parsePoolName('alpha')],
  pushedAt,
});

/** Jobs as the hub keeps them, with a lock that fails when it is told to. */
class FakeJobs {
  readonly kept = new Map<string, PrefetchRequest>();
  readonly added: string[] = [];
  broken: TidepoolError | undefined;

  has(id: string): boolean {
    return this.kept.has(id);
  }
  async add(id: string, request: PrefetchRequest): Promise<void> {
    if (this.broken !== undefined) throw this.broken;
    expect(this.kept.has(id)).toBe(false);
    this.kept.set(id, request);
    this.added.push(`${request.images[0]?.digest?.slice(7, 8)}`);
  }
  async remove(id: string): Promise<void> {
    this.kept.delete(id);
  }
}

async function world(maxJobs = 3) {
  const clock = new ManualClock();
  const jobs = new FakeJobs();
  const file = path.join(directory, 'pushes.json');
  const pushes = new PushJobs({ clock, log: silentLogger(), jobs }, { file, maxJobs });
  await pushes.start();
  /** Runs timers, and what they began. */
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await pushes.take('r.test/none:x', push('0', -1)).catch(() => undefined);
  };
  return { clock, jobs, pushes, file, pass };
}

describe('PushJobs', () => {
  it('makes one job of a burst: of what was pushed last', async () => {
    const { clock, jobs, pushes } = await world();
    const a = await pushes.take('r.test/web:1', push('a', 1));
    clock.advance(600);
    const b = await pushes.take('r.test/web:1', push('b', 2));
    clock.advance(600);
    await pushes.take('r.test/web:1', push('c', 3));
    expect(b.id).toBe(a.id);
    await pushes.stop();
    expect(jobs.added).toEqual(['c']);
    expect([...jobs.kept.values()]).toEqual([
      { id: a.id, images: [{ image: 'r.test/web:1', digest: digest('c') }], pools: ['alpha'] },
    ]);
  });

  it('does not wait for ever for a tag that is pushed all the time', async () => {
    const { clock, jobs, pushes } = await world();
    for (let at = 0; at < 25; at++) {
      await pushes.take('r.test/web:1', push('abcdef'[at % 6] ?? 'a', at));
      clock.advance(500);
    }
    await pushes.take('r.test/web:1', push('f', 99));
    expect(jobs.added.length).toBeGreaterThanOrEqual(1);
    await pushes.stop();
  });

  it('takes the same push once, and none that is older than the last', async () => {
    const { pushes, jobs } = await world();
    expect((await pushes.take('r.test/web:1', push('a', 5))).verdict).toBe('new');
    expect((await pushes.take('r.test/web:1', push('a', 5))).verdict).toBe('known');
    expect((await pushes.take('r.test/web:1', push('b', 4))).verdict).toBe('older');
    expect((await pushes.take('r.test/web:1', push('b', 6))).verdict).toBe('new');
    // Back again: a roll-back of the tag is a push like any other.
    expect((await pushes.take('r.test/web:1', push('a', 7))).verdict).toBe('new');
    await pushes.stop();
    expect(jobs.added).toEqual(['a']);
  });

  it('keeps to its bound: the oldest push makes room', async () => {
    const { pushes, jobs } = await world(2);
    for (const [index, tag] of ['1', '2', '3'].entries())
      await pushes.take(`r.test/web:${tag}`, push('a', index));
    await pushes.stop();
    expect([...jobs.kept.keys()]).toEqual([pushId('r.test/web:2'), pushId('r.test/web:3')]);
  });

  it('has a push on disk before it is acknowledged, and makes its job after a crash', async () => {
    const first = await world();
    const { id } = await first.pushes.take('r.test/web:1', push('a'));
    expect(JSON.parse(await readFile(first.file, 'utf8'))).toMatchObject({ [id]: { pending: true } });
    const second = await world();
    await second.pass(1_000);
    await second.pushes.stop();
    expect(second.jobs.added).toContain('a');
    expect((await second.pushes.take('r.test/web:1', push('a'))).verdict).toBe('known');
  });

  it('tries again what could not be kept, and shows it meanwhile', async () => {
    const { jobs, pushes, pass } = await world(9);
    jobs.broken = new TidepoolError('OVERLOADED', '1000 prefetches are kept already');
    await pushes.take('r.test/web:1', push('a'));
    await pass(1_000);
    expect(pushes.problems()).toEqual([
      { source: 'push of r.test/web:1', message: 'not prefetched: 1000 prefetches are kept already' },
    ]);
    jobs.broken = undefined;
    await pass(30_000);
    expect(jobs.added).toContain('a');
    expect(pushes.problems()).toEqual([]);
    await pushes.stop();
  });

  it('gives each tag an id of its own, which jobs can have', () => {
    const part = fc.stringMatching(/^[a-z0-9]{1,40}([._-][a-z0-9]{1,40}){0,3}$/);
    const image = fc.tuple(part, part, fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/));
    fc.assert(
      fc.property(image, image, (a, b) => {
        const [first, second] = [a, b].map(([host, repository, tag]) => `${host}/${repository}:${tag}`);
        const id = pushId(first ?? '');
        expect(prefetchId.safeParse(id).success).toBe(true);
        expect(pushId(second ?? '') === id).toBe(first === second);
      }),
      { seed: 42 },
    );
  });
});
