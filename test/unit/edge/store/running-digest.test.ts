import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { RunningDigest } from '../../../../edge/store/running-digest.ts';

const PIECES = ['one', 'two', 'three', 'four'].map((text) => Buffer.from(text));
const HEX = createHash('sha256').update(Buffer.concat(PIECES)).digest('hex');

/** Pieces of which some are held; each read can be held up. */
function fakeSource(...held: number[]) {
  const source = {
    pieceCount: PIECES.length,
    held: new Set(held),
    reads: [] as number[],
    before: (_piece: number): Promise<void> => Promise.resolve(),
    has: (piece: number) => source.held.has(piece),
    read: async (piece: number, take: (bytes: Uint8Array) => void) => {
      source.reads.push(piece);
      await source.before(piece);
      take(PIECES[piece] ?? Buffer.alloc(0));
    },
  };
  return source;
}

const bytes = (piece: number): Buffer => PIECES[piece] ?? Buffer.alloc(0);

describe('RunningDigest', () => {
  it('reads nothing of what comes in order', async () => {
    const source = fakeSource();
    const digest = new RunningDigest(source);
    for (const piece of [0, 1, 2, 3]) expect(digest.take(piece, bytes(piece))).toBe(true);
    expect(await digest.finish()).toBe(HEX);
    expect(await digest.finish()).toBe(HEX);
    expect(source.reads).toEqual([]);
  });

  it('goes back for what came out of order, once', async () => {
    const source = fakeSource(1, 2);
    const digest = new RunningDigest(source);
    expect(digest.take(1, bytes(1))).toBe(false);
    expect(digest.take(0, bytes(0))).toBe(true);
    source.held.add(0);
    digest.kick();
    // While it goes on by itself nothing may be hashed beside it.
    expect(digest.take(1, bytes(1))).toBe(false);
    source.held.add(3);
    expect(await digest.finish()).toBe(HEX);
    expect(source.reads).toEqual([1, 2, 3]);
  });

  it('says what is missing', async () => {
    const digest = new RunningDigest(fakeSource(0, 1, 3));
    await expect(digest.finish()).rejects.toMatchObject({ code: 'PIECE_NOT_HELD' });
  });

  it('starts again when a piece that was hashed changes, and only then', async () => {
    const source = fakeSource(0, 1, 2, 3);
    const digest = new RunningDigest(source);
    digest.take(0, bytes(0));
    digest.forget(1);
    expect(await digest.finish()).toBe(HEX);
    expect(source.reads).toEqual([1, 2, 3]);
    digest.forget(3);
    expect(await digest.finish()).toBe(HEX);
    expect(source.reads).toEqual([1, 2, 3, 0, 1, 2, 3]);
  });

  it('counts nothing that was read before a piece changed', async () => {
    const source = fakeSource(0, 1, 2, 3);
    const digest = new RunningDigest(source);
    let letGo = (): void => undefined;
    source.before = (piece) => {
      if (piece !== 1) return Promise.resolve();
      source.before = () => Promise.resolve();
      return new Promise((resolve) => {
        letGo = resolve;
        digest.forget(0);
      });
    };
    const finished = digest.finish();
    while (source.reads.length < 2) await new Promise((resolve) => setImmediate(resolve));
    letGo();
    expect(await finished).toBe(HEX);
    expect(source.reads).toEqual([0, 1, 0, 1, 2, 3]);
  });

  it('passes on what reading fails with, and can be asked again', async () => {
    const source = fakeSource(0, 1, 2, 3);
    const digest = new RunningDigest(source);
    source.before = (piece) => (piece === 2 ? Promise.reject(new Error('bad sector')) : Promise.resolve());
    await expect(digest.finish()).rejects.toThrow('bad sector');
    source.before = () => Promise.resolve();
    expect(await digest.finish()).toBe(HEX);
  });
});
