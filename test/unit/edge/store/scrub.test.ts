import { expect, it } from 'vitest';
import { Scrub, type ScrubbedBlob } from '../../../../edge/store/scrub.ts';
import { type BlobKey, parseBlobKey } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { layoutOf } from '../../../../shared/pieces.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { MemoryDocuments } from '../../../support/memory-documents.ts';

const MIB = 1024 * 1024;
const WEEK = 7 * 24 * 3_600_000;

function keyOf(n: number): BlobKey {
  return parseBlobKey(`sha256:${n.toString(16).padStart(64, '0')}`);
}

/** A store of `blobs` blobs of 1 MiB each, and what was looked at in it. */
function scrubbed(blobs: number, bytes = blobs * MIB) {
  const seen: string[] = [];
  const keys = Array.from({ length: blobs }, (_, n) => keyOf(n + 1));
  const wrong = new Set<string>();
  const documents = new MemoryDocuments();
  const clock = new ManualClock();
  const blobOf = (key: BlobKey): ScrubbedBlob => ({
    layout: layoutOf(MIB),
    check: async (piece) => {
      seen.push(`${keys.indexOf(key)}:${piece}`);
      return wrong.has(`${keys.indexOf(key)}:${piece}`) ? 'wrong' : 'right';
    },
  });
  const make = () =>
    new Scrub({
      rows: { after: (key) => keys.find((each) => each > key) },
      store: { get: blobOf, usage: () => ({ bytes }) },
      documents,
      clock,
      log: silentLogger(),
    });
  return { seen, wrong, clock, make };
}

async function pass(clock: ManualClock, ms: number, step: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += step) {
    clock.advance(step);
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}

it('looks at every piece once a week, no faster than a small store needs', async () => {
  const { seen, wrong, clock, make } = scrubbed(3);
  wrong.add('1:2');
  const scrub = make();
  await scrub.start();
  // Four pieces a blob, 4 s each at 64 KiB a second.
  await pass(clock, 60_000 + 5 * 4_000, 1_000);
  expect(seen.length).toBeLessThanOrEqual(6);
  await pass(clock, 300_000, 1_000);
  expect(seen).toEqual([0, 1, 2].flatMap((blob) => [0, 1, 2, 3].map((piece) => `${blob}:${piece}`)));
  expect(scrub.state).toMatchObject({ bytes: 3 * MIB, wrong: 1 });
  expect(scrub.state.lastPassAt).not.toBeNull();
  await pass(clock, WEEK - 4 * 3_600_000, 3_600_000);
  expect(seen.length).toBe(12);
  await pass(clock, 4 * 3_600_000 + 600_000, 10_000);
  expect(seen.length).toBe(24);
  await scrub.stop();
});

it('never reads more than 4 MiB a second, however much there is', async () => {
  const { clock, make } = scrubbed(500, 2 ** 50);
  const scrub = make();
  await scrub.start();
  await pass(clock, 60_000, 10_000);
  const before = scrub.state.bytes;
  await pass(clock, 10_000, 10);
  expect(scrub.state.bytes - before).toBeLessThanOrEqual(40 * MIB + MIB);
  expect(scrub.state.bytes - before).toBeGreaterThan(20 * MIB);
  await scrub.stop();
});

it('goes on after a restart about where it was', async () => {
  const { seen, clock, make } = scrubbed(100, 2 ** 50);
  const first = make();
  await first.start();
  await pass(clock, 60_000, 10_000);
  await pass(clock, 15_000, 10);
  await first.stop();
  const reached = Number(seen.at(-1)?.split(':')[0]);
  expect(reached).toBeGreaterThan(16);
  seen.length = 0;
  const second = make();
  for (let n = 0; n < 3; n++) await second.next();
  expect(Number(seen[0]?.split(':')[0])).toBeGreaterThan(reached - 17);
});
