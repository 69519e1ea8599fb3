import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Tally } from '../../../../edge/prefetch/tally.ts';
import { digestOf } from '../../../../shared/ids.ts';

const one = { digest: digestOf(Buffer.from('one')), size: 1000 };
const two = { digest: digestOf(Buffer.from('two')), size: 500 };

describe('Tally', () => {
  it('sums blobs', () => {
    const tally = new Tally();
    expect(tally.progress()).toMatchObject({ totalBytes: 0, blobs: 0 });
    tally.begin([one, two]);
    tally.moved(one.digest, { wanBytes: 100, peerBytes: 200, localBytes: 50 });
    tally.whole(two.digest, { wanBytes: 0, peerBytes: 0, localBytes: 500 });
    expect(tally.progress()).toEqual({
      totalBytes: 1500,
      doneBytes: 850,
      wanBytes: 100,
      peerBytes: 200,
      blobs: 2,
      blobsDone: 1,
    });
  });

  it('counts the traffic of a download once over attempts, and of each download', () => {
    const tally = new Tally();
    tally.begin([one]);
    tally.moved(one.digest, { wanBytes: 300, peerBytes: 0, localBytes: 0 });
    tally.begin([one]);
    // The same download goes on.
    tally.moved(one.digest, { wanBytes: 400, peerBytes: 0, localBytes: 0 });
    // Another one, after that failed: what came is local now.
    tally.moved(one.digest, { wanBytes: 0, peerBytes: 100, localBytes: 400 });
    expect(tally.progress()).toMatchObject({ wanBytes: 400, peerBytes: 100, doneBytes: 500 });
  });

  it('never has more done than there is, however often pieces were read', () => {
    const count = fc.nat(3000);
    fc.assert(
      fc.property(fc.array(fc.record({ wanBytes: count, peerBytes: count, localBytes: count })), (steps) => {
        const tally = new Tally();
        tally.begin([one]);
        for (const step of steps) tally.moved(one.digest, step);
        const { doneBytes, wanBytes, peerBytes } = tally.progress();
        expect(doneBytes).toBeLessThanOrEqual(one.size);
        const last = steps.at(-1);
        expect(wanBytes).toBeGreaterThanOrEqual(last?.wanBytes ?? 0);
        expect(peerBytes).toBeGreaterThanOrEqual(last?.peerBytes ?? 0);
      }),
      { seed: 42 },
    );
  });
});
