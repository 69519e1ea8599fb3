import { describe, expect, it } from 'vitest';
import { MAX_KEPT } from '../../../../edge/prefetch/constants.ts';
import { CountedTime } from '../../../../edge/prefetch/counted-time.ts';
import { KeptImages } from '../../../../edge/prefetch/kept-images.ts';
import { digestOf } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { MemoryDocuments } from '../../../support/memory-documents.ts';

const DAY = 86_400_000;
const T = 1_700_000_000_000;
const image = { image: 'reg.example/a:v1', digest: digestOf(Buffer.from('a')) };

/** A node: its disk, and the hub that it may hear. */
function node() {
  const documents = new MemoryDocuments();
  const log = silentLogger();
  const hub: { now: number | undefined } = { now: undefined };
  /** A start of its agent, with a monotonic clock of its own. */
  const life = async () => {
    const clock = new ManualClock();
    const heardAt = { hub: hub.now, mono: 0 };
    const hear = (at: number): void => {
      Object.assign(heardAt, { hub: at, mono: clock.mono() });
    };
    const time = new CountedTime({
      ...{ clock, documents, log },
      hubTime: () => (heardAt.hub === undefined ? undefined : heardAt.hub + clock.mono() - heardAt.mono),
    });
    const kept = new KeptImages({ documents, time, clock, log });
    await kept.start();
    return { clock, hear, time, kept };
  };
  return { documents, hub, life };
}

describe('images kept after their prefetch', () => {
  it('stay for their time, and not longer', async () => {
    const { clock, kept } = await node().life();
    kept.keep('job', [image], 30 * DAY);
    clock.advance(30 * DAY - 1);
    expect(kept.images()).toEqual([image]);
    expect(kept.view()).toEqual([{ id: 'job', images: [image.image], leftMs: 1 }]);
    clock.advance(1);
    expect(kept.images()).toEqual([]);
    expect(kept.view()).toEqual([]);
    expect(clock.timers).toBe(0);
  });

  it('stay over restarts; time that the node was off counts once the hub says how long it was', async () => {
    const { hub, life } = node();
    hub.now = T;
    const first = await life();
    first.kept.keep('job', [image], 30 * DAY);
    first.clock.advance(10 * DAY);
    await first.kept.stop();

    // Ten days off, and no hub: nobody knows, so nothing goes too early.
    hub.now = undefined;
    const second = await life();
    second.clock.advance(5 * DAY);
    expect(second.kept.view()).toMatchObject([{ leftMs: 15 * DAY }]);
    second.hear(T + 25 * DAY);
    expect(second.kept.view()).toMatchObject([{ leftMs: 5 * DAY }]);
    await second.kept.stop();

    hub.now = T + 31 * DAY;
    const third = await life();
    expect(third.kept.images()).toEqual([]);
  });

  it('count time without a hub over several starts together, when it is heard at last', async () => {
    const { hub, life } = node();
    hub.now = T;
    const first = await life();
    first.kept.keep('job', [image], 30 * DAY);
    await first.kept.stop();
    hub.now = undefined;
    for (let start = 0; start < 3; start++) {
      const next = await life();
      next.clock.advance(DAY);
      await next.kept.stop();
    }
    const last = await life();
    expect(last.kept.view()).toMatchObject([{ leftMs: 27 * DAY }]);
    last.hear(T + 20 * DAY);
    expect(last.kept.view()).toMatchObject([{ leftMs: 10 * DAY }]);
    // Heard again it is no news, and a hub that was put back takes nothing away either.
    last.hear(T + 25 * DAY);
    expect(last.kept.view()).toMatchObject([{ leftMs: 10 * DAY }]);
  });

  it('lose at most minutes of the count to a crash, and only to be kept for longer', async () => {
    const { life } = node();
    const first = await life();
    first.kept.keep('job', [image], DAY);
    first.clock.advance(DAY / 2 + 60_000);
    const [left] = (await life()).kept.view();
    expect(left?.leftMs).toBeGreaterThanOrEqual(DAY / 2 - 60_000);
    expect(left?.leftMs).toBeLessThanOrEqual(DAY / 2 + 10 * 60_000);
  });

  it('a later run takes the place of an earlier one; another time counts from when it was through', async () => {
    const { clock, kept } = await node().life();
    kept.keep('job', [image], 30 * DAY);
    clock.advance(10 * DAY);
    expect(kept.change('job', 15 * DAY)).toBe(true);
    expect(kept.view()).toMatchObject([{ leftMs: 5 * DAY }]);
    const other = { image: 'reg.example/b:v1' };
    kept.keep('job', [other], 30 * DAY);
    expect(kept.images()).toEqual([other]);
    kept.keep('job', [other], 0);
    expect(kept.images()).toEqual([]);
    expect(kept.change('job', DAY)).toBe(false);
  });

  it('are bounded: what would go first goes, and a note that cannot be read keeps nothing', async () => {
    const { documents, life } = node();
    documents.put('prefetch-kept/bad', { id: 7 });
    documents.put('prefetch-time', { counted: 'long' });
    const { kept } = await life();
    expect(kept.view()).toEqual([]);
    for (let n = 0; n <= MAX_KEPT; n++) kept.keep(`job-${n}`, [image], n === 500 ? DAY : 2 * DAY);
    expect(kept.view()).toHaveLength(MAX_KEPT);
    expect(kept.view().some(({ id }) => id === 'job-500')).toBe(false);
    expect(documents.list('prefetch-kept/')).toHaveLength(MAX_KEPT);
  });
});
