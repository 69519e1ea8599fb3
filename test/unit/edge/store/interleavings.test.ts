import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import type { Lease } from '../../../../edge/store/types.ts';
import { blobOf, openStore, TempDirectories, writePiece } from '../../../support/store-fixture.ts';

const PIECE = 256 * 1024;
const PIECES = 6;
const SIZE = PIECES * PIECE - 100;

const temp = new TempDirectories();
afterAll(() => temp.removeAll());

type Step =
  | { readonly do: 'write' | 'drop'; readonly piece: number }
  | { readonly do: 'lease'; readonly piece: number; readonly from: number; readonly length: number }
  | { readonly do: 'release'; readonly which: number }
  | { readonly do: 'flush' | 'verify' | 'wait' };

const piece = fc.nat({ max: PIECES - 1 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('write' as const), piece }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('drop' as const), piece }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('lease' as const),
      piece,
      from: fc.nat({ max: PIECE - 101 }),
      length: fc.integer({ min: 1, max: PIECE }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('release' as const), which: fc.nat({ max: 50 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('flush' as const, 'verify' as const, 'wait' as const) }),
  },
);

describe('the store', () => {
  it('gives the right bytes whatever the order of writes, leases, releases, drops and evictions', async () => {
    const { bytes, key } = blobOf(SIZE, 3);
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
        const open = await openStore(temp.make(), { cacheBytes: 4 * PIECE, readBytes: 64 * PIECE });
        const { store } = open;
        const blob = store.open(key, SIZE);
        const leases: { lease: Lease; start: number }[] = [];
        const running: Promise<unknown>[] = [];
        const right = ({ lease, start }: { lease: Lease; start: number }): void => {
          const expected = bytes.subarray(start, start + lease.bytes.length);
          expect(Buffer.compare(lease.bytes, expected)).toBe(0);
        };
        const onlyWhenGone = (error: unknown): void =>
          expect(error).toMatchObject({ code: 'PIECE_NOT_HELD' });
        for (const each of steps) {
          switch (each.do) {
            case 'write':
              running.push(writePiece(store, blob, bytes, each.piece));
              break;
            case 'drop':
              running.push(blob.drop([each.piece]));
              break;
            case 'lease': {
              const start = each.piece * PIECE + each.from;
              running.push(
                blob.lease(start, each.length).then((lease) => {
                  leases.push({ lease, start });
                }, onlyWhenGone),
              );
              break;
            }
            case 'release': {
              const [chosen] = leases.splice(each.which % Math.max(1, leases.length), 1);
              if (chosen === undefined) break;
              right(chosen);
              chosen.lease.release();
              break;
            }
            case 'flush':
              running.push(store.flush());
              break;
            case 'verify':
              running.push(blob.verify().then((answer) => expect(answer).toBe('whole'), onlyWhenGone));
              break;
            case 'wait':
              await new Promise((resolve) => setImmediate(resolve));
          }
        }
        await Promise.all(running);
        for (const each of leases) {
          right(each);
          each.lease.release();
        }
        for (let n = 0; n < PIECES; n++) await writePiece(store, blob, bytes, n);
        expect(await blob.verify()).toBe('whole');
        await store.flush();
        expect(open.index.blobs.find(key)).toMatchObject({ whole: true, heldBytes: SIZE });
        expect(store.usage()).toEqual({ bytes: SIZE, blobs: 1 });
        // Every buffer has come back: all of the limit can be lent at once.
        const all = await Promise.all(Array.from({ length: 4 }, () => store.buffer(PIECE)));
        expect(new Set(all.map((buffer) => buffer.bytes.buffer)).size).toBe(4);
        expect(store.memoryUsage().cacheBytes).toBe(4 * PIECE);
        for (const buffer of all) buffer.release();
        await open.close();
        temp.removeAll();
      }),
      { seed: 42, numRuns: 40 },
    );
  });
});
