import { expect, it } from 'vitest';
import { IndexCopier } from '../../../../edge/index/index-copier.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const KIB = 1024;

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

function copied(bytes: number) {
  const index = {
    changes: 1,
    bytes,
    copies: 0,
    async copy() {
      index.copies++;
    },
  };
  const clock = new ManualClock();
  return { index, clock, copier: new IndexCopier({ index, clock, log: silentLogger() }) };
}

it('copies what has changed, no more often than a card bears, and once more at the end', async () => {
  const { index, clock, copier } = copied(1_600 * KIB);
  await copier.start();
  clock.advance(10_000);
  await turn();
  expect(index.copies).toBe(1);
  // Nothing has changed.
  clock.advance(1_000_000);
  await turn();
  expect(index.copies).toBe(1);
  index.changes++;
  clock.advance(10_000);
  await turn();
  index.changes++;
  // It takes 100 s at the rate that is allowed.
  clock.advance(90_000);
  await turn();
  expect(index.copies).toBe(2);
  clock.advance(10_000);
  await turn();
  expect(index.copies).toBe(3);
  await copier.stop();
  expect(index.copies).toBe(3);
});

it('copies a small one at the end, and lets nobody wait for a large one', async () => {
  for (const [bytes, copies] of [
    [KIB, 1],
    [100 * KIB * KIB, 0],
  ] as const) {
    const { index, copier } = copied(bytes);
    await copier.start();
    await copier.stop();
    expect(index.copies).toBe(copies);
  }
});
