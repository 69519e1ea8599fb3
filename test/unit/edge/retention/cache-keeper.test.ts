import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CustodyWord } from '../../../../edge/peers/types.ts';
import { CacheKeeper, type HeldBlob } from '../../../../edge/retention/cache-keeper.ts';
import { IN_USE_MS } from '../../../../edge/retention/constants.ts';
import { Custody } from '../../../../edge/retention/custody.ts';
import { type BlobKey, digestOf, type NodeName, parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const DISK = { totalBytes: 1_000_000, freeBytes: 900_000 };
const OLD = 100 * IN_USE_MS;
const BLOB_BYTES = 10;
const keyOf = (blob: number): BlobKey => digestOf(Buffer.from(`blob ${blob}`));

interface MemberInit {
  readonly blobs: readonly number[];
  readonly quota: number;
  readonly minReplicas?: number;
  /** Delays an answer. */
  readonly before?: <T>(work: () => Promise<T>) => Promise<T>;
}

/** Members of one pool whose stores are maps; asks between them go by `before`, or not at all. */
class Pool {
  readonly clock = new ManualClock();
  readonly members = new Map<NodeName, Member>();
  readonly down = new Set<NodeName>();
  /** Blobs that nobody has any more. */
  readonly lost: BlobKey[] = [];

  add(name: string, init: MemberInit): Member {
    const member = new Member(this, parseNodeName(name), init);
    this.members.set(member.node, member);
    return member;
  }

  copies(key: BlobKey): number {
    return [...this.members.values()].filter(({ held }) => held.has(key)).length;
  }
}

class Member {
  readonly node: NodeName;
  readonly held = new Map<BlobKey, HeldBlob>();
  readonly promised = new Set<BlobKey>();
  readonly pinned = new Set<BlobKey>();
  readonly custody: Custody;
  readonly keeper: CacheKeeper<Member>;

  constructor(
    pool: Pool,
    node: NodeName,
    { blobs, quota, minReplicas = 2, before = (work) => work() }: MemberInit,
  ) {
    this.node = node;
    for (const [age, blob] of blobs.entries()) {
      const key = keyOf(blob);
      this.held.set(key, { key, whole: true, heldBytes: BLOB_BYTES, lastUsed: age });
    }
    this.custody = new Custody({
      store: {
        get: (key) => (this.held.has(key) ? ({ whole: true } as never) : undefined),
        flush: () => before(() => Promise.resolve()),
      },
      book: {
        has: (key) => this.promised.has(key),
        add: (keys) => {
          for (const key of keys) this.promised.add(key);
        },
      },
      log: silentLogger(),
    });
    const neighbours = (): Member[] =>
      [...pool.members.values()].filter((other) => other !== this && !pool.down.has(other.node));
    this.keeper = new CacheKeeper<Member>({
      blobs: { list: () => [...this.held.values()].sort((a, b) => a.lastUsed - b.lastUsed) },
      store: {
        remove: async (key) => {
          this.held.delete(key);
          this.promised.delete(key);
          if (pool.copies(key) === 0) pool.lost.push(key);
        },
        usage: () => ({ bytes: this.held.size * BLOB_BYTES }),
      },
      disk: async () => DISK,
      custody: this.custody,
      members: {
        live: neighbours,
        get rosterSize() {
          return pool.members.size;
        },
      },
      ask: (member, keys): Promise<readonly CustodyWord[]> => before(() => member.custody.keep(keys)),
      pinned: (key) => this.pinned.has(key),
      clock: pool.clock,
      log: silentLogger(),
      random: () => 0.5,
    });
    this.keeper.configure({ quota, minReplicas });
  }
}

function poolAt(now = OLD): Pool {
  const pool = new Pool();
  pool.clock.advance(now);
  return pool;
}

describe('the keeper of the cache', () => {
  it('gives up what neighbours keep, oldest first, and no more than it must', async () => {
    const pool = poolAt();
    const a = pool.add('a', { blobs: [1, 2, 3, 4], quota: 30 });
    pool.add('b', { blobs: [1, 2, 3], quota: 1_000 });
    pool.add('c', { blobs: [1, 2, 3], quota: 1_000 });
    await a.keeper.look();
    // 90 % of the quota are 27 bytes: two blobs have to go.
    expect([...a.held.keys()]).toEqual([keyOf(3), keyOf(4)]);
    expect(a.keeper.state).toMatchObject({ evictedBlobs: 2, evictedBytes: 20, lastCopies: 0, shortBytes: 0 });
    expect(pool.lost).toEqual([]);
  });

  it('gives up the last copy only when nothing else is left', async () => {
    const pool = poolAt();
    const a = pool.add('a', { blobs: [1, 2, 3], quota: 15 });
    const b = pool.add('b', { blobs: [3], quota: 1_000 });
    await a.keeper.look();
    expect([...a.held.keys()]).toEqual([keyOf(2)]);
    expect(pool.lost).toEqual([keyOf(1)]);
    expect(b.promised.has(keyOf(3))).toBe(true);
    expect(a.keeper.state.lastCopies).toBe(1);
  });

  it('does not give up what may be the last copy while a member cannot be asked', async () => {
    const pool = poolAt();
    const a = pool.add('a', { blobs: [1, 2], quota: 15 });
    const b = pool.add('b', { blobs: [1, 2], quota: 1_000 });
    pool.down.add(b.node);
    await a.keeper.look();
    expect(a.held.size).toBe(2);
    expect(a.keeper.state.shortBytes).toBeGreaterThan(0);
  });

  it('leaves alone what is pinned, and what was just used', async () => {
    const pool = poolAt(1);
    const a = pool.add('a', { blobs: [1, 2], quota: 5 });
    await a.keeper.look();
    expect(a.held.size).toBe(2);
    pool.clock.advance(OLD);
    a.pinned.add(keyOf(1));
    await a.keeper.look();
    expect([...a.held.keys()]).toEqual([keyOf(1)]);
  });

  it('gives up parts of blobs first', async () => {
    const pool = poolAt();
    const a = pool.add('a', { blobs: [1], quota: 15 });
    const part = keyOf(9);
    a.held.set(part, { key: part, whole: false, heldBytes: BLOB_BYTES, lastUsed: 50 });
    await a.keeper.look();
    expect([...a.held.keys()]).toEqual([keyOf(1)]);
  });

  it('never loses a last copy that it need not, whatever the order of concurrent rounds', async () => {
    const setup = fc.record({
      members: fc.array(
        fc.record({
          blobs: fc.uniqueArray(fc.integer({ min: 0, max: 5 }), { maxLength: 6 }),
          quota: fc.integer({ min: 5, max: 70 }),
          rounds: fc.integer({ min: 0, max: 2 }),
        }),
        { minLength: 2, maxLength: 4 },
      ),
      minReplicas: fc.integer({ min: 1, max: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(setup, fc.scheduler(), async ({ members, minReplicas }, scheduler) => {
        const pool = poolAt();
        const before = async <T>(work: () => Promise<T>): Promise<T> => {
          await scheduler.schedule(Promise.resolve());
          const done = await work();
          await scheduler.schedule(Promise.resolve());
          return done;
        };
        const made = members.map(({ blobs, quota, rounds }, index) => ({
          member: pool.add(`m${index}`, { blobs, quota, minReplicas, before }),
          rounds,
        }));
        const running = Promise.all(
          made.map(async ({ member, rounds }) => {
            for (let round = 0; round < rounds; round++) await member.keeper.look();
          }),
        );
        await scheduler.waitFor(running);
        // Each went as a last copy by its owner's own count, never because two believed in each other.
        const owned = made.reduce((sum, { member }) => sum + member.keeper.state.lastCopies, 0);
        expect(pool.lost.length).toBe(owned);
        for (const { member } of made) {
          for (const key of member.promised) expect(member.held.has(key)).toBe(true);
        }
      }),
      { seed: 42, numRuns: 400 },
    );
  });
});
