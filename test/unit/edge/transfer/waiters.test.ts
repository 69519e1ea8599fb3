import { describe, expect, it } from 'vitest';
import { Waiters } from '../../../../edge/transfer/waiters.ts';

/** What has become of it so far. */
async function stateOf(promise: Promise<void>): Promise<string> {
  const settled = promise.then(
    () => 'came',
    (error: unknown) => String(error),
  );
  return Promise.race([settled, new Promise<string>((resolve) => setImmediate(() => resolve('waits')))]);
}

describe('who waits for a blob', () => {
  it('gets the piece that has come, and waits for the others', async () => {
    const waiters = new Waiters();
    const [one, two, whole] = [waiters.piece(1), waiters.piece(2), waiters.whole()];
    waiters.arrived(1);
    expect(await Promise.all([one, two, whole].map(stateOf))).toEqual(['came', 'waits', 'waits']);
    expect([1, 2].map((piece) => waiters.isAwaited(piece))).toEqual([false, true]);
    waiters.verified();
    expect(await Promise.all([two, whole].map(stateOf))).toEqual(['came', 'came']);
  });

  it('hears why nothing comes, also who asks for all of it later', async () => {
    const waiters = new Waiters();
    const one = waiters.piece(1);
    waiters.failed('no way');
    expect(await Promise.all([one, waiters.whole()].map(stateOf))).toEqual(['no way', 'no way']);
  });

  it('may leave, and the others wait on', async () => {
    const waiters = new Waiters();
    const leaving = new AbortController();
    const [one, other] = [waiters.piece(1, leaving.signal), waiters.piece(1)];
    leaving.abort('enough');
    expect(await Promise.all([one, other].map(stateOf))).toEqual(['enough', 'waits']);
  });

  it('waits anew for a blob that is not whole any more', async () => {
    const waiters = new Waiters();
    waiters.verified();
    waiters.again();
    expect(await stateOf(waiters.whole())).toBe('waits');
  });
});
