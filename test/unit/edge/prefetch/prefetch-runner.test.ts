import { describe, expect, it } from 'vitest';
import { parsePlatform } from '../../../../edge/prefetch/platform.ts';
import { PrefetchRunner } from '../../../../edge/prefetch/prefetch-runner.ts';
import { type ErrorCode, TidepoolError } from '../../../../shared/errors.ts';
import { digestOf, parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { PrefetchMessage, PrefetchProgress } from '../../../../shared/wire/messages/prefetch.ts';
import { FillingContent, MemoryDocuments, never } from '../../../support/filling-content.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const blob = (name: string, size: number) => ({ digest: digestOf(Buffer.from(name)), size });

function job(id: string, init: Partial<PrefetchMessage> = {}): PrefetchMessage {
  return {
    epoch: 1,
    id,
    generation: 1,
    images: [{ image: `reg.example/${id}:v1` }],
    suspend: false,
    timeoutMs: 600_000,
    retries: 3,
    ...init,
  };
}

/** Windows that a test opens and closes. */
class Hours {
  #why: string | undefined;
  readonly #listeners = new Set<() => void>();

  closed(): string | undefined {
    return this.#why;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  set(why: string | undefined): void {
    this.#why = why;
    for (const listener of this.#listeners) listener();
  }
}

function fixture(documents = new MemoryDocuments(), allowance?: Hours) {
  const content = new FillingContent();
  const clock = new ManualClock();
  const reports: PrefetchProgress[] = [];
  const make = (): PrefetchRunner =>
    new PrefetchRunner(
      {
        ...(allowance && { allowance }),
        content,
        documents,
        clock,
        log: silentLogger(),
        report: (progress) => reports.push(progress),
      },
      { node: parseNodeName('n1'), platform: parsePlatform('linux/amd64'), random: () => 0.5 },
    );
  for (const id of ['a', 'b', 'c', 'd']) content.addImage(`reg.example/${id}:v1`, [blob(id, 1000)]);
  const runner = make();
  const states = (id: string): string[] => {
    const all = reports.filter((progress) => progress.id === id).map(({ state }) => state);
    return all.filter((state, i) => state !== all[i - 1]);
  };
  return { content, clock, documents, reports, make, runner, states };
}

/** Everything that waits for nothing but promises has happened. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

describe('PrefetchRunner', () => {
  it('runs a job once, however often it is announced', async () => {
    const { content, reports, runner, states } = fixture();
    await runner.start();
    for (let i = 0; i < 3; i++) runner.setJobs([job('a')]);
    await settle();
    runner.setJobs([job('a')]);
    await settle();
    expect(content.fills).toHaveLength(1);
    expect(states('a')).toEqual(['waiting', 'active', 'succeeded']);
    expect(reports.at(-1)).toEqual({
      id: 'a',
      generation: 1,
      state: 'succeeded',
      totalBytes: 1000,
      doneBytes: 1000,
      wanBytes: 1000,
      peerBytes: 0,
    });
    expect(runner.progress()).toEqual([reports.at(-1)]);
    await runner.stop();
  });

  it('does not run it again after a restart; a new generation it does', async () => {
    const { content, make, runner } = fixture();
    await runner.start();
    runner.setJobs([job('a')]);
    await settle();
    await runner.stop();
    const next = make();
    await next.start();
    expect(next.progress()).toMatchObject([{ id: 'a', state: 'succeeded' }]);
    next.setJobs([job('a')]);
    await settle();
    expect(content.fills).toHaveLength(1);
    next.setJobs([job('a', { generation: 2 })]);
    await settle();
    expect(content.fills).toHaveLength(2);
    expect(next.progress()).toMatchObject([{ generation: 2, state: 'succeeded' }]);
    await next.stop();
  });

  it('takes another number for the same work, and does not do it again', async () => {
    const { content, make, reports, runner } = fixture();
    await runner.start();
    runner.setJobs([job('a', { work: 'w1' })]);
    await settle();
    expect(reports.at(-1)).toMatchObject({ generation: 1, work: 'w1', state: 'succeeded', wanBytes: 1000 });
    await runner.stop();
    const next = make();
    await next.start();
    next.setJobs([job('a', { work: 'w1', generation: 7 })]);
    await settle();
    expect(content.fills).toHaveLength(1);
    expect(reports.at(-1)).toMatchObject({ generation: 7, work: 'w1', state: 'succeeded', wanBytes: 1000 });
    next.setJobs([job('a', { work: 'w2', generation: 8 })]);
    await settle();
    expect(content.fills).toHaveLength(2);
    expect(reports.at(-1)).toMatchObject({ generation: 8, work: 'w2', state: 'succeeded' });
    await next.stop();
  });

  it('keeps what it has done while others have their turn, and begins nothing before its own', async () => {
    const { content, runner } = fixture();
    await runner.start();
    runner.setJobs([job('a', { work: 'w1' })]);
    await settle();
    const others = { nodes: ['n2'], generation: 2, more: true };
    runner.setJobs([job('a', { work: 'w1', ...others }), job('b', { work: 'w2', ...others })]);
    await settle();
    expect(runner.progress()).toMatchObject([{ id: 'a', generation: 2, state: 'succeeded' }]);
    expect(content.fills).toHaveLength(1);
    runner.setJobs([job('a', { work: 'w1', ...others, more: false })]);
    expect(runner.progress()).toEqual([]);
    await runner.stop();
  });

  it('goes on under another number with what it is in the middle of', async () => {
    const { content, reports, runner } = fixture();
    content.onFill = ({ onProgress, signal }) => {
      onProgress?.({ wanBytes: 300, peerBytes: 0, localBytes: 0 }, 1000);
      return never(signal);
    };
    await runner.start();
    runner.setJobs([job('a', { work: 'w1' })]);
    await settle();
    runner.setJobs([job('a', { work: 'w1', generation: 2 })]);
    await settle();
    expect(content.active).toBe(1);
    expect(runner.progress()).toMatchObject([{ generation: 2, state: 'active', wanBytes: 300 }]);
    expect(reports.every(({ wanBytes }) => wanBytes <= 300)).toBe(true);
    await runner.stop();
  });

  it('goes on after a restart where it had not finished, without a word from the hub', async () => {
    const { content, make, runner } = fixture();
    content.onFill = ({ signal, onProgress }) => {
      onProgress?.({ wanBytes: 300, peerBytes: 0, localBytes: 0 }, 1000);
      return never(signal);
    };
    await runner.start();
    runner.setJobs([job('a')]);
    await settle();
    await runner.stop();
    expect(content.active).toBe(0);
    content.onFill = async () => ({ peerBytes: 700, localBytes: 300 });
    const next = make();
    await next.start();
    await settle();
    expect(next.progress()).toMatchObject([
      { id: 'a', state: 'succeeded', doneBytes: 1000, wanBytes: 300, peerBytes: 700 },
    ]);
    await next.stop();
  });

  it('leaves alone what is for other nodes, and what is for other platforms', async () => {
    const { content, runner } = fixture();
    await runner.start();
    runner.setJobs([
      job('a', { nodes: ['n2'] }),
      job('b', { nodes: ['n1', 'n2'] }),
      job('c', { images: [{ image: 'reg.example/c:v1', platforms: ['linux/arm64'] }] }),
    ]);
    await settle();
    expect(content.fills).toHaveLength(1);
    expect(runner.progress().map(({ id, state }) => [id, state])).toEqual([
      ['b', 'succeeded'],
      ['c', 'skipped'],
    ]);
    expect(runner.progress()[1]?.error?.message).toContain('linux/arm64');
  });

  it('stops at suspend and at the end of a job, and goes on after', async () => {
    const { content, runner, states, documents } = fixture();
    content.onFill = ({ signal }) => never(signal);
    await runner.start();
    runner.setJobs([job('a'), job('b')]);
    await settle();
    expect(content.active).toBe(2);
    runner.setJobs([job('a', { suspend: true })]);
    await settle();
    expect(content.active).toBe(0);
    expect(states('a').at(-1)).toBe('waiting');
    expect(documents.list('').map(({ name }) => name)).toEqual(['prefetch-run/a']);
    content.onFill = async (_, size) => ({ wanBytes: size });
    await settle();
    expect(content.fills).toHaveLength(2);
    runner.setJobs([job('a')]);
    await settle();
    expect(states('a').at(-1)).toBe('succeeded');
  });

  it('counts once what a download moved that outlived a suspend', async () => {
    const { content, runner } = fixture();
    // As the pool's downloads do: they linger, and whoever comes back is told their counts from the beginning.
    let wanBytes = 400;
    content.onFill = ({ onProgress, signal }) => {
      onProgress?.({ wanBytes, peerBytes: 0, localBytes: 0 }, 1000);
      return never(signal);
    };
    await runner.start();
    runner.setJobs([job('a')]);
    await settle();
    for (let round = 0; round < 3; round++) {
      runner.setJobs([job('a', { suspend: true })]);
      await settle();
      expect(runner.progress()).toMatchObject([{ state: 'waiting', wanBytes }]);
      wanBytes += 100;
      runner.setJobs([job('a')]);
      await settle();
      expect(runner.progress()).toMatchObject([{ state: 'active', wanBytes }]);
    }
    await runner.stop();
  });

  it('has as many images at a time as it may, and more as soon as it may', async () => {
    const { content, runner } = fixture();
    content.onFill = ({ signal }) => never(signal);
    await runner.start();
    runner.setJobs(['a', 'b', 'c', 'd'].map((id) => job(id)));
    await settle();
    expect(content.active).toBe(2);
    expect(runner.progress().map(({ state }) => state)).toEqual(['active', 'active', 'waiting', 'waiting']);
    runner.setConcurrency(3);
    await settle();
    expect(content.active).toBe(3);
    await runner.stop();
    expect(content.active).toBe(0);
  });

  it('tries again after a failure, with growing waits, and gives up after the retries', async () => {
    const { clock, content, runner, reports, states } = fixture();
    let attempts = 0;
    content.onFill = async () => {
      attempts++;
      throw new TidepoolError('DIGEST_MISMATCH', `wrong ${attempts}`);
    };
    await runner.start();
    runner.setJobs([job('a', { retries: 2 })]);
    await settle();
    expect(attempts).toBe(1);
    expect(reports.at(-1)).toMatchObject({
      state: 'waiting',
      error: { code: 'DIGEST_MISMATCH', message: 'wrong 1' },
    });
    clock.advance(999);
    await settle();
    expect(attempts).toBe(1);
    clock.advance(1);
    await settle();
    expect(attempts).toBe(2);
    clock.advance(2_000);
    await settle();
    expect(attempts).toBe(3);
    expect(reports.at(-1)).toMatchObject({ state: 'failed', error: { message: 'wrong 3' } });
    expect(states('a')).toEqual(['waiting', 'active', 'waiting', 'active', 'waiting', 'active', 'failed']);
    clock.advance(600_000);
    await settle();
    expect(attempts).toBe(3);
  });

  it.each(['REGISTRY_NOT_CONFIGURED', 'INVALID_REFERENCE'] as ErrorCode[])(
    'does not retry %s',
    async (code) => {
      const { content, runner, reports } = fixture();
      content.onAsk = () => {
        throw new TidepoolError(code, 'no');
      };
      await runner.start();
      runner.setJobs([job('a')]);
      await settle();
      expect(reports.at(-1)).toMatchObject({ state: 'failed', error: { code } });
    },
  );

  it('fails a job whose image is no name', async () => {
    const { runner, reports } = fixture();
    await runner.start();
    runner.setJobs([job('a', { images: [{ image: 'Not A Name' }] })]);
    await settle();
    expect(reports.at(-1)).toMatchObject({ state: 'failed', error: { code: 'INVALID_REFERENCE' } });
  });

  it('waits for the world for as long as that takes', async () => {
    const { clock, content, runner, reports } = fixture();
    let attempts = 0;
    content.onAsk = () => {
      attempts++;
      throw new TidepoolError('ORIGIN_UNREACHABLE', 'no uplink');
    };
    await runner.start();
    runner.setJobs([job('a', { retries: 0 })]);
    for (let minute = 0; minute < 60; minute++) {
      await settle();
      clock.advance(60_000);
    }
    expect(attempts).toBeGreaterThan(30);
    expect(reports.at(-1)).toMatchObject({ state: 'waiting', error: { code: 'ORIGIN_UNREACHABLE' } });
    content.onAsk = () => undefined;
    clock.advance(60_000);
    await settle();
    expect(reports.at(-1)).toMatchObject({ state: 'succeeded' });
    expect(reports.at(-1)).not.toHaveProperty('error');
  });

  it('times an attempt out only while no byte comes', async () => {
    const { clock, content, runner, reports } = fixture();
    let tell: ((wanBytes: number) => void) | undefined;
    content.onFill = ({ onProgress, signal }) => {
      tell = (wanBytes) => onProgress?.({ wanBytes, peerBytes: 0, localBytes: 0 }, 1000);
      return never(signal);
    };
    await runner.start();
    runner.setJobs([job('a', { timeoutMs: 10_000, retries: 0 })]);
    await settle();
    for (let step = 1; step <= 5; step++) {
      clock.advance(9_000);
      tell?.(step);
    }
    await settle();
    expect(content.active).toBe(1);
    expect(reports.at(-1)).toMatchObject({ state: 'active', wanBytes: 5 });
    clock.advance(9_999);
    await settle();
    expect(content.active).toBe(1);
    clock.advance(1);
    await settle();
    expect(reports.at(-1)).toMatchObject({ state: 'failed', error: { code: 'TIMEOUT' } });
    expect(clock.timers).toBe(0);
  });

  it('runs in its windows alone, and its clock stands still between them', async () => {
    const hours = new Hours();
    hours.set('waits for the night');
    const { clock, content, runner, reports, states } = fixture(undefined, hours);
    let wanBytes = 100;
    content.onFill = ({ onProgress, signal }) => {
      onProgress?.({ wanBytes, peerBytes: 0, localBytes: 0 }, 1000);
      return never(signal);
    };
    await runner.start();
    runner.setJobs([job('a', { timeoutMs: 10_000, retries: 0 })]);
    await settle();
    expect(content.fills).toHaveLength(0);
    expect(reports.at(-1)).toMatchObject({ state: 'waiting', waitingFor: 'waits for the night' });

    for (let night = 1; night <= 3; night++) {
      hours.set(undefined);
      await settle();
      expect(content.active).toBe(1);
      expect(runner.progress()).toMatchObject([{ state: 'active', wanBytes }]);
      expect(reports.at(-1)).not.toHaveProperty('waitingFor');
      clock.advance(9_000);
      hours.set('waits for the next night');
      await settle();
      expect(content.active).toBe(0);
      expect(reports.at(-1)).toMatchObject({ state: 'waiting', waitingFor: 'waits for the next night' });
      expect(reports.at(-1)).not.toHaveProperty('error');
      clock.advance(86_400_000);
      await settle();
      expect(runner.progress()).toMatchObject([{ state: 'waiting', wanBytes }]);
      wanBytes += 100;
    }
    content.onFill = async (_, size) => ({ wanBytes: size });
    hours.set(undefined);
    await settle();
    expect(states('a').at(-1)).toBe('succeeded');
    hours.set('closed');
    expect(states('a').at(-1)).toBe('succeeded');
    await runner.stop();
  });

  it('waits, and does not fail, while neighbours refuse and the budget of the day is used', async () => {
    const { clock, content, runner, reports } = fixture();
    content.onFill = async () => {
      throw new TidepoolError('PIECE_REFUSED', 'n2: the budget of today is used');
    };
    await runner.start();
    runner.setJobs([job('a', { retries: 0 })]);
    for (let minute = 0; minute < 10; minute++) {
      await settle();
      clock.advance(60_000);
    }
    expect(reports.at(-1)).toMatchObject({ state: 'waiting', error: { code: 'PIECE_REFUSED' } });
    await runner.stop();
  });

  it('reports bytes once a second at most', async () => {
    const { clock, content, runner, reports } = fixture();
    let tell: ((wanBytes: number) => void) | undefined;
    content.onFill = ({ onProgress, signal }) => {
      tell = (wanBytes) => onProgress?.({ wanBytes, peerBytes: 0, localBytes: 0 }, 1000);
      return never(signal);
    };
    await runner.start();
    runner.setJobs([job('a')]);
    await settle();
    const before = reports.length;
    for (let byte = 1; byte <= 100; byte++) {
      tell?.(byte);
      clock.advance(25);
    }
    expect(reports.length - before).toBeLessThanOrEqual(3);
    clock.advance(1_000);
    expect(reports.at(-1)).toMatchObject({ wanBytes: 100 });
    await runner.stop();
  });

  it('sums the images of a job; one that fails fails it, and the others still come', async () => {
    const { content, runner, reports } = fixture();
    content.onFill = async ({ repository }, size) => {
      if (repository === 'a') throw new TidepoolError('STORE_FULL', 'full');
      return { peerBytes: size };
    };
    await runner.start();
    const images = ['a', 'b', 'c'].map((id) => ({ image: `reg.example/${id}:v1` }));
    runner.setJobs([job('all', { images, retries: 0 })]);
    await settle();
    expect(reports.at(-1)).toMatchObject({
      state: 'failed',
      totalBytes: 3000,
      doneBytes: 2000,
      peerBytes: 2000,
      error: { code: 'STORE_FULL' },
    });
  });

  it('forgets a saved job that it cannot read', async () => {
    const documents = new MemoryDocuments();
    documents.put('prefetch-run/x', { job: { id: 7 } });
    const { runner } = fixture(documents);
    expect(runner.progress()).toEqual([]);
    expect(documents.list('')).toEqual([]);
  });
});
