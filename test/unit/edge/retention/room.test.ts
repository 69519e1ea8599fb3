import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { REOPEN_MS } from '../../../../edge/retention/constants.ts';
import { hardMark, hasRoom } from '../../../../edge/retention/pressure.ts';
import { Reserve } from '../../../../edge/retention/reserve.ts';
import { Room } from '../../../../edge/retention/room.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { NodeEvent } from '../../../../shared/wire/events.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { TempDirectories } from '../../../support/store-fixture.ts';

const GIB = 1024 ** 3;
const PLENTY = { totalBytes: 100 * GIB, freeBytes: 50 * GIB };

const directories = new TempDirectories();
afterEach(() => directories.removeAll());

function makeRoom() {
  const clock = new ManualClock();
  const events: NodeEvent[] = [];
  const reserve = { held: false, full: false };
  const room = new Room({
    reserve: {
      release: () => {
        reserve.held = false;
      },
      take: async () => {
        if (reserve.full) throw new Error('ENOSPC');
        reserve.held = true;
      },
    },
    clock,
    log: silentLogger(),
    events: { note: (event) => void events.push(event) },
  });
  return { room, clock, events, reserve };
}

describe('room on the disk', () => {
  it('is made by giving up the reserve and freeing, once for all who wait', async () => {
    const { room, reserve, events } = makeRoom();
    await room.seen(PLENTY);
    expect(reserve.held).toBe(true);
    const asked: number[] = [];
    room.free = async (bytes) => {
      // What frees has to write in the index first.
      expect(reserve.held).toBe(false);
      asked.push(bytes);
      return bytes;
    };
    expect(await Promise.all([room.make(), room.make()])).toEqual([true, true]);
    expect(asked).toHaveLength(1);
    expect([room.open, events]).toEqual([true, []]);
  });

  it('is none when nothing may go, or freeing fails; that is told once', async () => {
    for (const free of [async () => 0, async () => Promise.reject(new Error('the index is full'))]) {
      const { room, events } = makeRoom();
      room.free = free;
      expect(await Promise.all([room.make(), room.make()])).toEqual([false, false]);
      expect(await room.make()).toBe(false);
      expect(room.state).toMatchObject({ timesFull: 1, fullSince: 0 });
      expect(events.map(({ kind }) => kind)).toEqual(['store-full']);
    }
  });

  it('comes back by itself once the disk takes something again, not by its numbers alone', async () => {
    const { room, clock, reserve } = makeRoom();
    await room.make();
    reserve.full = true;
    clock.advance(REOPEN_MS);
    await room.seen(PLENTY);
    expect(room.open).toBe(false);
    reserve.full = false;
    await room.seen(PLENTY);
    expect(room.open).toBe(false);
    clock.advance(REOPEN_MS);
    await room.seen({ totalBytes: 100 * GIB, freeBytes: hardMark(100 * GIB) });
    expect(room.open).toBe(false);
    await room.seen(PLENTY);
    expect(room.open).toBe(true);
  });

  it('is none below the hard mark', async () => {
    const { room } = makeRoom();
    await room.seen({ totalBytes: 100 * GIB, freeBytes: GIB });
    expect(room.open).toBe(true);
    await room.seen({ totalBytes: 100 * GIB, freeBytes: 0.4 * GIB });
    expect(room.open).toBe(false);
  });
});

it('the hard mark is the smaller of a share and a size, and opens later than it closes', () => {
  expect(hardMark(100 * GIB)).toBe(GIB / 2);
  expect(hardMark(GIB)).toBe(GIB * 0.05);
  const use = { totalBytes: GIB, freeBytes: 0.06 * GIB };
  expect([hasRoom(use, true), hasRoom(use, false)]).toEqual([true, false]);
});

it('a reserve takes its place on the disk, anew whatever was there', async () => {
  const path = join(directories.make(), 'reserve');
  writeFileSync(path, 'cut short by a crash');
  const reserve = new Reserve({ path, bytes: 2_500_000 });
  await reserve.take();
  expect([reserve.held, statSync(path).size]).toEqual([true, 2_500_000]);
  expect(statSync(path).blocks * 512).toBeGreaterThanOrEqual(2_500_000);
  reserve.release();
  expect([reserve.held, existsSync(path)]).toEqual([false, false]);
});
