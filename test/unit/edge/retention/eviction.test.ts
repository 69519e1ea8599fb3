import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CustodyWord } from '../../../../edge/peers/types.ts';
import { CacheKeeper, type HeldBlob } from '../../../../edge/retention/cache-keeper.ts';
import { IN_USE_MS } from '../../../../edge/retention/constants.ts';
import { Custody } from '../../../../edge/retention/custody.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { type BlobKey, digestOf, type NodeName, parseNodeName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const OLD = 100 * IN_USE_MS;
const BLOB_BYTES = 10;
const keyOf = (blob: number): BlobKey => digestOf(Buffer.from(`blob ${blob}`));

/** How the promises between members are kept, or not. */
type Way = 'right' | 'promises what it gives up' | 'takes silence for no' | 'gives up without asking';

interface Disk {
  readonly held: Map<BlobKey, HeldBlob>;
  readonly promised: Set<BlobKey>;
}

interface Life {
  readonly custody: Pick<Custody, 'keep'>;
  readonly keeper: CacheKeeper<Place>;
  alive: boolean;
  /** Rejects when it dies: nobody answers then. */
  readonly death: Promise<never>;
  die(): void;
}

/** A member: its disk outlives its lives. */
interface Place {
  readonly node: NodeName;
  readonly disk: Disk;
  readonly quota: number;
  life: Life;
}

/** Members whose every message and write takes its turn when the scheduler says so; links between them break and heal. */
class World {
  readonly clock = new ManualClock();
  readonly places: Place[] = [];
  /** Pairs that do not reach each other, both ways. */
  readonly cut = new Set<string>();
  /** What was given up as the last copy though the giver held something that another has, too. */
  readonly wrongs: string[] = [];
  readonly #turn: () => Promise<void>;
  readonly #way: Way;
  readonly #minReplicas: number;

  constructor(init: { turn: () => Promise<void>; way: Way; minReplicas: number }) {
    this.#turn = init.turn;
    this.#way = init.way;
    this.#minReplicas = init.minReplicas;
    this.clock.advance(OLD);
  }

  add(blobs: readonly number[], quota: number): void {
    const held = new Map<BlobKey, HeldBlob>();
    for (const [age, blob] of blobs.entries()) {
      held.set(keyOf(blob), { key: keyOf(blob), whole: true, heldBytes: BLOB_BYTES, lastUsed: age });
    }
    const node = parseNodeName(`m${this.places.length}`);
    const disk = { held, promised: new Set<BlobKey>() };
    this.places.push({ node, disk, quota, life: this.#live(node, disk, quota) });
  }

  /** It is killed, at whatever it does, and comes back with what is on its disk. */
  restart(place: Place): void {
    place.life.alive = false;
    place.life.die();
    place.life = this.#live(place.node, place.disk, place.quota);
  }

  reach(a: NodeName, b: NodeName): boolean {
    return !this.cut.has([a, b].sort().join());
  }

  #live(node: NodeName, disk: Disk, quota: number): Life {
    const way = this.#way;
    const { places } = this;
    const step = async (): Promise<void> => {
      await this.#turn();
      if (!life.alive) await new Promise<never>(() => undefined);
    };
    const custody = new Custody({
      store: {
        get: (key) => (disk.held.has(key) ? ({ whole: true } as never) : undefined),
        flush: step,
      },
      book: {
        has: (key) => disk.promised.has(key),
        add: (keys) => keys.forEach((key) => void disk.promised.add(key)),
      },
      log: silentLogger(),
    });
    const others = (): Place[] =>
      this.places.filter((other) => other.node !== node && this.reach(node, other.node));
    const keeper = new CacheKeeper<Place>({
      blobs: { list: () => [...disk.held.values()].sort((a, b) => a.lastUsed - b.lastUsed) },
      store: {
        remove: async (key) => {
          await step();
          disk.held.delete(key);
          disk.promised.delete(key);
          this.#look(node, disk, key);
          await step();
        },
        usage: () => ({ bytes: disk.held.size * BLOB_BYTES }),
      },
      disk: async () => ({ totalBytes: 1_000_000, freeBytes: 900_000 }),
      custody: way === 'promises what it gives up' ? { leave: () => () => undefined } : custody,
      members: {
        live: () => (way === 'gives up without asking' ? [] : others()),
        get rosterSize() {
          return way === 'takes silence for no' || way === 'gives up without asking' ? 1 : places.length;
        },
      },
      ask: async (place, keys): Promise<readonly CustodyWord[]> => {
        await step();
        const { life: asked } = place;
        const broken = (): boolean => !asked.alive || !this.reach(node, place.node);
        if (broken()) throw new TidepoolError('PEER_UNREACHABLE', 'no answer');
        const words = await Promise.race([asked.custody.keep(keys), asked.death]);
        await step();
        if (broken()) throw new TidepoolError('PEER_UNREACHABLE', 'no answer');
        return words;
      },
      pinned: () => false,
      clock: this.clock,
      log: silentLogger(),
      random: () => 0.5,
    });
    let die: () => void = () => undefined;
    const death = new Promise<never>((_, reject) => {
      die = () => reject(new TidepoolError('PEER_UNREACHABLE', 'no answer'));
    });
    death.catch(() => undefined);
    const life: Life = { custody, keeper, alive: true, death, die: () => die() };
    keeper.configure({ quota, minReplicas: this.#minReplicas });
    return life;
  }

  #look(node: NodeName, disk: Disk, key: BlobKey): void {
    if (this.places.some(({ disk: { held } }) => held.has(key))) return;
    for (const other of disk.held.keys()) {
      if (this.places.some((place) => place.node !== node && place.disk.held.has(other))) {
        this.wrongs.push(`${node} gave up ${key} and kept ${other}`);
      }
    }
  }
}

const schedules = fc.record({
  members: fc.array(
    fc.record({
      blobs: fc.uniqueArray(fc.integer({ min: 0, max: 4 }), { maxLength: 5 }),
      quota: fc.integer({ min: 5, max: 60 }),
    }),
    { minLength: 2, maxLength: 4 },
  ),
  minReplicas: fc.integer({ min: 1, max: 3 }),
  faults: fc.array(
    fc.record({
      kind: fc.constantFrom(
        'look' as const,
        'look' as const,
        'cut' as const,
        'heal' as const,
        'kill' as const,
      ),
      a: fc.nat(3),
      b: fc.nat(3),
    }),
    { minLength: 2, maxLength: 12 },
  ),
});

function property(way: Way) {
  return fc.asyncProperty(schedules, fc.scheduler(), async ({ members, minReplicas, faults }, scheduler) => {
    const world = new World({ turn: () => scheduler.schedule(Promise.resolve()), way, minReplicas });
    for (const { blobs, quota } of members) world.add(blobs, quota);
    const at = (index: number): Place | undefined => world.places[index % world.places.length];
    const act = async (): Promise<void> => {
      for (const { kind, a, b } of faults) {
        const [one, other] = [at(a), at(b)];
        if (one === undefined || other === undefined) continue;
        const pair = [one.node, other.node].sort().join();
        if (kind === 'look') void one.life.keeper.look();
        else if (kind === 'cut' && one !== other) world.cut.add(pair);
        else if (kind === 'heal') world.cut.delete(pair);
        else if (kind === 'kill') world.restart(one);
        await scheduler.schedule(Promise.resolve());
      }
    };
    await scheduler.waitFor(act());
    // All are awake and reach each other in the end: each looks once more.
    world.cut.clear();
    await scheduler.waitFor(Promise.all(world.places.map(({ life }) => life.keeper.look())));
    expect(world.wrongs).toEqual([]);
    for (const { disk } of world.places)
      for (const key of disk.promised) expect(disk.held.has(key)).toBe(true);
  });
}

describe('eviction in a pool', () => {
  it('gives up no last copy while something else would do, whatever is cut or killed in between', async () => {
    await fc.assert(property('right'), { seed: 7, numRuns: 600 });
  });

  it.each<Way>(['promises what it gives up', 'takes silence for no', 'gives up without asking'])(
    'would be caught if a member %s',
    async (way) => {
      const { failed } = await fc.check(property(way), { seed: 7, numRuns: 600, endOnFailure: true });
      expect(failed).toBe(true);
    },
  );
});
