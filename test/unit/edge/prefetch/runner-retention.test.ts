import { describe, expect, it } from 'vitest';
import { ROOM_TRIES } from '../../../../edge/prefetch/constants.ts';
import { CountedTime } from '../../../../edge/prefetch/counted-time.ts';
import { KeptImages } from '../../../../edge/prefetch/kept-images.ts';
import { parsePlatform } from '../../../../edge/prefetch/platform.ts';
import { PrefetchRunner } from '../../../../edge/prefetch/prefetch-runner.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { digestOf, parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { PrefetchMessage, PrefetchProgress } from '../../../../shared/wire/messages/prefetch.ts';
import { FillingContent } from '../../../support/filling-content.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { MemoryDocuments } from '../../../support/memory-documents.ts';

const DAY = 86_400_000;
const HOUR = 3_600_000;

const job = (init: Partial<PrefetchMessage> = {}): PrefetchMessage => ({
  epoch: 1,
  id: 'a',
  generation: 1,
  images: [{ image: 'reg.example/a:v1' }],
  suspend: false,
  timeoutMs: 600_000,
  retries: 0,
  ...init,
});

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function fixture() {
  const content = new FillingContent();
  const clock = new ManualClock();
  const documents = new MemoryDocuments();
  const log = silentLogger();
  const reports: PrefetchProgress[] = [];
  const room = { isOpen: true, bytes: 500 };
  const digest = content.addImage('reg.example/a:v1', [{ digest: digestOf(Buffer.from('a')), size: 1000 }]);
  const make = async () => {
    const time = new CountedTime({ clock, documents, log });
    const kept = new KeptImages({ documents, time, clock, log });
    const runner = new PrefetchRunner(
      {
        ...{ content, documents, clock, log, kept },
        room: { open: () => room.isOpen, free: async () => room.bytes },
        report: (progress) => reports.push(progress),
      },
      { node: parseNodeName('n1'), platform: parsePlatform('linux/amd64'), random: () => 0.5 },
    );
    await kept.start();
    await runner.start();
    return { kept, runner };
  };
  /** A disk that takes what it says it takes. */
  content.onFill = async (_, size) => {
    if (!room.isOpen || room.bytes < size) throw new TidepoolError('STORE_FULL', 'no room to keep it');
    return { wanBytes: size };
  };
  return { content, clock, documents, reports, room, digest, make, ...(await make()) };
}

describe('PrefetchRunner and what its jobs keep', () => {
  it('keeps the images of a job while it stands, where that says no time', async () => {
    const { room, runner } = await fixture();
    room.bytes = 10_000;
    runner.setJobs([job()]);
    await settle();
    expect(runner.images()).toEqual(job().images);
    runner.setJobs([]);
    expect(runner.images()).toEqual([]);
  });

  it('keeps them for their time, by digest, also when the job is gone', async () => {
    const { clock, digest, kept, make, room, runner } = await fixture();
    room.bytes = 10_000;
    runner.setJobs([job({ retainMs: 30 * DAY, suspend: true })]);
    expect(runner.images()).toHaveLength(1);
    runner.setJobs([job({ retainMs: 30 * DAY })]);
    await settle();
    expect(runner.progress()).toMatchObject([{ state: 'succeeded' }]);
    const came = [{ image: 'reg.example/a:v1', digest }];
    expect(runner.images()).toEqual(came);
    runner.setJobs([]);
    expect(runner.images()).toEqual(came);
    clock.advance(10 * DAY);
    await runner.stop();
    await kept.stop();
    const next = await make();
    expect(next.runner.images()).toEqual(came);
    clock.advance(20 * DAY);
    expect(next.runner.images()).toEqual([]);
  });

  it('lets go of them when their time is over, also while the job stands, and holds on when it is told to', async () => {
    const { clock, content, room, runner } = await fixture();
    room.bytes = 10_000;
    runner.setJobs([job({ retainMs: DAY })]);
    await settle();
    clock.advance(DAY / 2);
    runner.setJobs([job({ retainMs: 2 * DAY })]);
    clock.advance(DAY);
    expect(runner.images()).toHaveLength(1);
    clock.advance(DAY / 2);
    expect(runner.images()).toEqual([]);
    runner.setJobs([job()]);
    expect(runner.images()).toHaveLength(1);
    runner.setJobs([job({ retainMs: 0 })]);
    expect(runner.images()).toEqual([]);
    expect(content.fills).toHaveLength(1);
  });

  it('keeps what an earlier run brought until a later one has brought its own', async () => {
    const { content, digest, room, runner } = await fixture();
    room.bytes = 10_000;
    runner.setJobs([job({ retainMs: DAY })]);
    await settle();
    const second = content.addImage('reg.example/a:v1', [
      { digest: digestOf(Buffer.from('b')), size: 20_000 },
    ]);
    runner.setJobs([job({ generation: 2, retainMs: DAY })]);
    await settle();
    expect(runner.progress()).toMatchObject([{ generation: 2, state: 'failed' }]);
    expect(runner.images()).toContainEqual({ image: 'reg.example/a:v1', digest });
    room.bytes = 30_000;
    runner.setJobs([job({ generation: 3, retainMs: DAY })]);
    await settle();
    expect(runner.images()).toEqual([{ image: 'reg.example/a:v1', digest: second }]);
  });
});

describe('PrefetchRunner on a full disk', () => {
  it('fails with what it needs and what there is, and runs again when there is room', async () => {
    const { clock, content, reports, room, runner } = await fixture();
    runner.setJobs([job()]);
    await settle();
    expect(reports.at(-1)).toMatchObject({ state: 'failed', error: { code: 'STORE_FULL' } });
    expect(reports.at(-1)?.error?.message).toMatch(
      /^disk full: 1\.0 kB needed, 500 B free after making room/,
    );
    clock.advance(HOUR);
    await settle();
    expect(content.fills).toHaveLength(1);
    room.isOpen = false;
    room.bytes = 5_000;
    clock.advance(HOUR);
    await settle();
    expect(content.fills).toHaveLength(1);
    room.isOpen = true;
    clock.advance(60_000);
    await settle();
    expect(reports.at(-1)).toMatchObject({ state: 'succeeded', doneBytes: 1000 });
    expect(reports.at(-1)).not.toHaveProperty('error');
    expect(clock.timers).toBe(0);
  });

  it('runs again a bounded number of times, each later than the one before, also over restarts', async () => {
    const { clock, content, make, room, runner } = await fixture();
    content.onFill = async () => {
      throw new TidepoolError('STORE_FULL', 'no room to keep it');
    };
    // It looks like room, and is none.
    room.bytes = 1_000_000;
    runner.setJobs([job()]);
    await settle();
    for (let minute = 0; minute < 5; minute++) {
      clock.advance(60_000);
      await settle();
    }
    const early = content.fills.length;
    expect(early).toBeGreaterThan(1);
    expect(early).toBeLessThan(5);
    await runner.stop();
    const next = await make();
    for (let hour = 0; hour < 50; hour++) {
      clock.advance(HOUR);
      await settle();
    }
    expect(content.fills).toHaveLength(ROOM_TRIES + 1);
    expect(next.runner.progress()).toMatchObject([{ state: 'failed', error: { code: 'STORE_FULL' } }]);
    expect(clock.timers).toBe(0);
  });

  it('does not run again what was taken back meanwhile', async () => {
    const { clock, content, room, runner } = await fixture();
    runner.setJobs([job()]);
    await settle();
    runner.setJobs([]);
    room.bytes = 5_000;
    clock.advance(HOUR);
    await settle();
    expect(content.fills).toHaveLength(1);
    expect(clock.timers).toBe(0);
  });
});
