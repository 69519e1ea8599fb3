import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Member, PieceAnswer, PieceAsk } from '../../../../edge/peers/types.ts';
import type { PieceBuffer, PieceClaim, StoredBlob } from '../../../../edge/store/types.ts';
import { Blame } from '../../../../edge/transfer/blame.ts';
import { Mender } from '../../../../edge/transfer/mend.ts';
import { TransferStats } from '../../../../edge/transfer/stats.ts';
import type { SwarmView } from '../../../../edge/transfer/swarm-view.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { type NodeName, parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { pieceRange } from '../../../../shared/pieces.ts';
import { blobOf, type OpenStore, openStore, TempDirectories } from '../../../support/store-fixture.ts';

const SELF = parseNodeName('self');
const A = parseNodeName('a');
const B = parseNodeName('b');
const C = parseNodeName('c');
const { bytes: RIGHT, key: KEY } = blobOf(1_000_000);
const PIECES = 4;

const directories = new TempDirectories();
let open: OpenStore;
let stored: StoredBlob;

beforeEach(async () => {
  open = await openStore(directories.make());
  stored = open.store.open(KEY, RIGHT.length);
  expect(stored.layout.pieceCount).toBe(PIECES);
});
afterEach(async () => {
  await open.close();
  directories.removeAll();
});

const sha = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

/** @param wrong false, or which way it is wrong: two liars do not tell the same lie. */
function piece(n: number, wrong: false | 'A' | 'other'): Buffer {
  const { start, end } = pieceRange(stored.layout, n);
  const bytes = Buffer.from(RIGHT.subarray(start, end));
  const at = wrong === 'A' ? 7 : 9;
  if (wrong !== false) bytes[at] = (bytes[at] ?? 0) ^ 1;
  return bytes;
}

async function bufferOf(bytes: Buffer): Promise<PieceBuffer> {
  const buffer = await open.store.buffer(bytes.length);
  buffer.bytes.set(bytes);
  return buffer;
}

async function fill(reader: (n: number) => NodeName, wrong: (n: number) => boolean): Promise<void> {
  for (let n = 0; n < PIECES; n++) {
    const bytes = piece(n, wrong(n) && 'A');
    await stored.write(n, await bufferOf(bytes), { sha256: sha(bytes), reader: reader(n), verified: false });
  }
}

interface Scene {
  /** What each member reads, and what it says it holds. */
  readonly lies?: (node: NodeName, n: number) => boolean;
  readonly verified?: readonly NodeName[];
  readonly senders?: (n: number) => NodeName | undefined;
  readonly live?: readonly NodeName[];
  readonly ownReads?: (n: number) => boolean;
}

function mending({ lies = () => false, verified = [], senders, live = [A, B, C], ownReads }: Scene) {
  const aside: NodeName[] = [];
  const asked: { node: NodeName; piece: number; compare: boolean }[] = [];
  const readAgain: number[] = [];
  const members = live.map((node): Member => ({ node, address: `${node}:1` }));
  const pool = {
    self: SELF,
    live: () => members,
    get: (node: NodeName) => members.find((member) => member.node === node),
    isLive: (node: NodeName) => live.includes(node),
    version: 1,
    suspect: () => undefined,
    setAside: (node: NodeName) => aside.push(node),
  };
  const client = {
    claims: async (member: Member) =>
      verified.includes(member.node)
        ? Buffer.concat(
            Array.from({ length: PIECES }, (_, n) => sha(piece(n, lies(member.node, n) && 'other'))),
          )
        : undefined,
    piece: async (member: Member, ask: PieceAsk): Promise<PieceAnswer> => {
      asked.push({ node: member.node, piece: ask.piece, compare: ask.compare === true });
      const bytes = piece(ask.piece, lies(member.node, ask.piece) && 'other');
      const claim: PieceClaim = { sha256: sha(bytes), reader: member.node, verified: false };
      if (ask.compare === true || Buffer.from(claim.sha256).toString('hex') === ask.holding)
        return { kind: 'confirmed', claim };
      return { kind: 'bytes', buffer: await bufferOf(bytes), claim };
    },
  };
  const stats = new TransferStats();
  const mender = new Mender(
    { client, members: pool, stats, log: silentLogger() },
    {
      stored,
      // Every piece has the same rank: a, b, c, and this node last.
      view: { ranking: () => [...live, SELF] } as unknown as SwarmView,
      target: { registry: 'reg.example', repository: 'app', digest: KEY as never, layout: stored.layout },
      signal: new AbortController().signal,
      blame: new Blame({ members: pool }),
      senderOf: senders ?? ((n) => (stored.claim(n)?.reader === SELF ? undefined : stored.claim(n)?.reader)),
      readAgain: async (n) => {
        readAgain.push(n);
        const bytes = piece(n, ownReads?.(n) === true && 'other');
        return {
          buffer: await bufferOf(bytes),
          claim: { sha256: sha(bytes), reader: SELF, verified: false },
        };
      },
    },
  );
  return { mender, aside, asked, readAgain, stats };
}

async function heldBytes(): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let n = 0; n < PIECES; n++) {
    const { start, end } = pieceRange(stored.layout, n);
    const lease = await stored.lease(start, end - start);
    parts.push(Buffer.from(lease.bytes));
    lease.release();
  }
  return Buffer.concat(parts);
}

describe('a blob whose bytes do not match its digest', () => {
  it('gets the wrong pieces, and no others, from a member that has verified it', async () => {
    await fill(
      (n) => (n === 2 ? A : SELF),
      (n) => n === 2,
    );
    const { mender, aside, asked, readAgain, stats } = mending({ verified: [B] });
    await mender.verify();
    expect(RIGHT.equals(await heldBytes())).toBe(true);
    expect(asked).toEqual([{ node: 'b', piece: 2, compare: false }]);
    expect(readAgain).toEqual([]);
    expect(aside).toEqual(['a']);
    const { pieceSize } = stored.layout;
    expect([2 * pieceSize, 2 * pieceSize + 1].map((at) => mender.replacedBefore(at))).toEqual([false, true]);
    expect(stats.digestMismatches).toBe(1);
  });

  it('is read again by others than its readers where nobody has verified it, and the odd one out goes', async () => {
    await fill(
      (n) => (n % 2 === 0 ? A : SELF),
      (n) => n % 2 === 0,
    );
    const { mender, aside, asked } = mending({ lies: (node) => node === A });
    await mender.verify();
    expect(RIGHT.equals(await heldBytes())).toBe(true);
    expect(aside).toContain('a');
    expect(new Set(aside)).toEqual(new Set(['a']));
    // Nobody is asked to compare with what it has read itself.
    expect(asked.filter(({ node, compare, piece: n }) => compare && node === A && n % 2 === 0)).toEqual([]);
  });

  it('does not cost a member its place whose name a liar wrote into the claims', async () => {
    await fill(
      () => A,
      (n) => n < 3,
    );
    const { mender, aside } = mending({ verified: [B], senders: () => C });
    await mender.verify();
    expect(RIGHT.equals(await heldBytes())).toBe(true);
    expect(aside).toEqual([]);
  });

  it('is given up after a bound number of rounds, and nothing of it is kept', async () => {
    await fill(
      () => A,
      () => true,
    );
    const { mender, stats, aside } = mending({ lies: () => true, ownReads: () => true });
    const error: unknown = await mender.verify().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(TidepoolError);
    expect(error).toMatchObject({ code: 'DIGEST_MISMATCH' });
    expect(stored.have.count).toBe(0);
    // It may be the registry that is wrong.
    expect(aside).toEqual([]);
    expect(stats.digestMismatches).toBeLessThanOrEqual(4);
  });

  it('does not believe a member that only says it has verified it', async () => {
    await fill(
      () => A,
      (n) => n === 1,
    );
    // C shows hashes of wrong bytes and sends them: the next round finds out.
    const { mender, aside } = mending({ verified: [C], lies: (node) => node !== B, live: [C, B] });
    await mender.verify();
    expect(RIGHT.equals(await heldBytes())).toBe(true);
    // A read one piece wrong; by C's word it would have been all four.
    expect(aside.filter((node) => node === A)).toHaveLength(1);
    expect(aside).toContain('c');
    expect(aside).not.toContain('b');
  });

  it('answers a neighbour that compares, once a round however many ask', async () => {
    await fill(
      () => A,
      (n) => n === 0,
    );
    const { mender, readAgain } = mending({});
    const ask = (n: number, compare: boolean): PieceAsk => ({
      key: KEY,
      layout: stored.layout,
      piece: n,
      registry: 'reg.example',
      repository: 'app',
      excluding: [],
      round: 1,
      compare,
      holding: sha(piece(n, 'A')).toString('hex'),
      priority: 0,
    });
    const answers = await Promise.all([mender.reread(ask(0, true)), mender.reread(ask(0, true))]);
    expect(answers).toEqual([{ kind: 'confirmed' }, { kind: 'confirmed' }]);
    expect(await mender.reread(ask(0, false))).toEqual({ kind: 'held' });
    expect(readAgain).toEqual([0]);
    expect(RIGHT.equals(await heldBytes())).toBe(true);
  });

  it('has a piece read again by another than this node where this node has read it', async () => {
    await fill(
      () => SELF,
      () => false,
    );
    const { mender, readAgain } = mending({});
    expect(
      await mender.reread({
        key: KEY,
        layout: stored.layout,
        piece: 0,
        registry: 'reg.example',
        repository: 'app',
        excluding: [],
        round: 1,
        priority: 0,
      }),
    ).toMatchObject({ kind: 'refused', code: 'FETCH_FAILED' });
    expect(readAgain).toEqual([]);
  });
});
