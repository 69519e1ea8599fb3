import { afterEach, describe, expect, it } from 'vitest';
import type { DocumentTable } from '../../../../edge/index/types.ts';
import {
  FIRST_PROBE,
  FIRST_PROBES,
  PROBE_INTERVAL_MS,
  SET_ASIDE_MS,
} from '../../../../edge/peers/constants.ts';
import { Members } from '../../../../edge/peers/members.ts';
import type { HelloAnswer } from '../../../../edge/peers/types.ts';
import { TidepoolError } from '../../../../shared/errors.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const POOL = parsePoolName('pool-a');
const SELF = parseNodeName('self');
const a = parseNodeName('node-a');
const b = parseNodeName('node-b');
const c = parseNodeName('node-c');
const A = '10.0.0.1:6181';
const B = '10.0.0.2:6181';
const C = '10.0.0.3:6181';
const DAY_MS = 24 * 3_600_000;

/** Neighbours as far as greetings go: who answers at an address, and as whom. */
class Neighbourhood {
  readonly clock = new ManualClock();
  readonly asked: string[] = [];
  readonly saved = new Map<string, unknown>();
  readonly answers = new Map<string, HelloAnswer | Error>();
  readonly #started: Members[] = [];

  at(address: string, answer: Partial<HelloAnswer> | Error): void {
    if (answer instanceof Error) this.answers.set(address, answer);
    else this.answers.set(address, { node: a, pool: POOL, address, members: [], ...answer });
  }

  async members(peers: readonly string[] = [], self = SELF, certified = false): Promise<Members> {
    const documents: Pick<DocumentTable, 'get' | 'put'> = {
      get: (name) => this.saved.get(name),
      put: (name, value) => void this.saved.set(name, JSON.parse(JSON.stringify(value))),
    };
    const client = {
      hello: async (address: string, signal: AbortSignal): Promise<HelloAnswer> => {
        this.asked.push(address);
        const answer = this.answers.get(address);
        if (answer instanceof Error) throw answer;
        if (answer !== undefined) return answer;
        return new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        });
      },
    };
    const members = new Members(
      { client, documents, clock: this.clock, log: silentLogger() },
      { self, pool: POOL, peers, certified },
    );
    this.#started.push(members);
    await members.start();
    await settle();
    return members;
  }

  /** Lets time pass, and what it sets off happen. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= PROBE_INTERVAL_MS) {
      this.clock.advance(Math.min(left, PROBE_INTERVAL_MS));
      await settle();
    }
  }

  async stop(): Promise<void> {
    for (const members of this.#started) await members.stop();
  }
}

function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
}

function unreachable(): TidepoolError {
  return new TidepoolError('PEER_UNREACHABLE', 'nobody there');
}

function liveOf(members: Members): string[] {
  return members
    .live()
    .map(({ node }) => node)
    .sort();
}

let world = new Neighbourhood();
afterEach(async () => {
  await world.stop();
  world = new Neighbourhood();
});

describe('members come', () => {
  it('from the roster, which also takes them away; this node is none of its own neighbours', async () => {
    const members = await world.members();
    members.setRoster([
      { node: SELF, address: '10.0.0.9:6181' },
      { node: a, address: A },
      { node: b, address: B },
      { node: c, address: undefined },
    ]);
    expect(liveOf(members)).toEqual([a, b]);
    expect(members.names()).toEqual([SELF, a, b]);
    expect(members.rosterSize).toBe(3);
    const before = members.version;
    members.setRoster([{ node: b, address: C }]);
    expect(members.view()).toEqual([{ node: b, address: C, live: true, setAside: false, source: 'roster' }]);
    expect(members.version).toBeGreaterThan(before);
  });

  it('from addresses given by hand, whose names are learned at the first contact, however late', async () => {
    world.at(A, unreachable());
    world.at(B, { node: b });
    const members = await world.members([A, B]);
    expect(members.view()).toMatchObject([{ node: b, source: 'static' }]);
    world.at(A, { node: a });
    await world.pass(PROBE_INTERVAL_MS);
    expect(members.view()).toMatchObject([
      { node: b },
      { node: a, address: A, source: 'static', live: true },
    ]);
    // Named, so it need not be asked again.
    const asked = world.asked.length;
    await world.pass(3 * PROBE_INTERVAL_MS);
    expect(world.asked).toHaveLength(asked);
  });

  it('from addresses given by hand that listen a moment later, long before the next round', async () => {
    world.at(A, unreachable());
    const members = await world.members([A]);
    world.at(A, { node: a });
    await world.pass(FIRST_PROBE.baseMs);
    expect(liveOf(members)).toEqual([a]);
  });

  it('from addresses that stay silent, asked a bounded number of times before the usual rounds', async () => {
    world.at(A, unreachable());
    await world.members([A]);
    for (let ms = 0; ms < 4 * PROBE_INTERVAL_MS; ms += 50) await world.pass(50);
    expect(world.asked.length).toBeGreaterThan(1 + 4 + 2);
    expect(world.asked.length).toBeLessThanOrEqual(1 + 4 + FIRST_PROBES);
  });

  it('from what those say of others, and by making themselves known', async () => {
    world.at(A, {
      members: [
        { node: b, address: B },
        { node: SELF, address: '10.0.0.9:6181' },
      ],
    });
    const members = await world.members([A]);
    expect(liveOf(members)).toEqual([a, b]);
    members.heard(c, C);
    members.heard(SELF, '10.0.0.9:6181');
    expect(members.view().map(({ node, source }) => [node, source])).toEqual([
      [a, 'static'],
      [b, 'learned'],
      [c, 'learned'],
    ]);
  });

  it('with the roster and by hand: the roster takes away its own only', async () => {
    world.at(A, { node: a });
    const members = await world.members([A]);
    members.setRoster([{ node: b, address: B }]);
    members.setRoster([]);
    expect(members.names()).toEqual([SELF, a]);
  });

  it('not from another pool: neither by a greeting nor by what it says of others', async () => {
    world.at(A, { node: a, pool: parsePoolName('pool-b'), members: [{ node: b, address: B }] });
    world.at(B, new TidepoolError('POOL_MISMATCH', 'this is pool-b'));
    const members = await world.members([A, B]);
    await world.pass(2 * PROBE_INTERVAL_MS);
    expect(members.view()).toEqual([]);
  });

  it('not from an address that turns out to be this node', async () => {
    world.at(A, { node: SELF });
    const members = await world.members([A]);
    await world.pass(2 * PROBE_INTERVAL_MS);
    expect(members.view()).toEqual([]);
    expect(world.asked).toEqual([A]);
  });

  it('one an address: a box that was renamed does not stay as a ghost', async () => {
    const members = await world.members();
    members.heard(a, A);
    members.heard(b, A);
    expect(members.names()).toEqual([SELF, b]);
    members.heard(b, B);
    expect(members.get(b)?.address).toBe(B);
  });

  it('up to a bound', async () => {
    const members = await world.members();
    for (let n = 0; n < 1_200; n++) members.heard(parseNodeName(`n${n}`), `10.1.${n >> 8}.${n & 255}:6181`);
    expect(members.rosterSize).toBe(1_001);
  });
});

describe('members are kept on disk', () => {
  it('so that a pool without its cloud knows itself after a reboot', async () => {
    world.at(C, { node: c });
    const first = await world.members([C]);
    first.setRoster([{ node: a, address: A }]);
    first.heard(b, B);
    const again = await world.members();
    expect(again.view().map(({ node, address, source }) => [node, address, source])).toEqual([
      [c, C, 'static'],
      [a, A, 'roster'],
      [b, B, 'learned'],
    ]);
    // The hub has the last word on its own members, also on those of before the reboot.
    again.setRoster([]);
    expect(again.names()).toEqual([SELF, c, b]);
    const third = await world.members();
    expect(third.names()).toEqual([SELF, c, b]);
  });

  const damaged = [
    null,
    7,
    {},
    { node: 'x' },
    { node: 'Not A Name', address: A },
    { node: 'y', address: 'evil:1' },
    { node: 'ok', address: A },
  ];
  it.each([['text'], [{}], [damaged]])(
    'and what is damaged there does not keep the agent from starting: %j',
    async (saved) => {
      world.saved.set('members', saved);
      const members = await world.members();
      expect(members.names().slice(1)).toEqual(Array.isArray(saved) ? ['ok'] : []);
    },
  );
});

describe('members that do not answer', () => {
  it('are not asked for anything but whether they are back', async () => {
    const members = await world.members();
    members.setRoster([
      { node: a, address: A },
      { node: b, address: B },
    ]);
    world.at(A, unreachable());
    const before = members.version;
    members.suspect(a, unreachable());
    expect(members.version).toBeGreaterThan(before);
    await settle();
    expect(liveOf(members)).toEqual([b]);
    expect(members.isLive(a)).toBe(false);
    expect(members.get(a)).toBeDefined();
    // The share of a cap is by the roster: it must not grow because some are silent.
    expect(members.names()).toEqual([SELF, a, b]);
    await world.pass(3 * PROBE_INTERVAL_MS);
    expect(world.asked.filter((address) => address === A).length).toBeGreaterThanOrEqual(3);
    expect(world.asked).not.toContain(B);
    expect(members.isLive(a)).toBe(false);
    world.at(A, { node: a });
    await world.pass(PROBE_INTERVAL_MS);
    expect(liveOf(members)).toEqual([a, b]);
  });

  it('are back at once when they speak themselves', async () => {
    const members = await world.members();
    members.setRoster([{ node: a, address: A }]);
    world.at(A, unreachable());
    members.suspect(a, unreachable());
    await settle();
    const before = members.version;
    members.heard(a, A);
    expect(members.isLive(a)).toBe(true);
    expect(members.version).toBeGreaterThan(before);
  });

  it('and hold a greeting for ever do not keep others from being greeted', async () => {
    const members = await world.members();
    members.setRoster([{ node: a, address: A }]);
    members.suspect(a, unreachable());
    await settle();
    await world.pass(2 * PROBE_INTERVAL_MS);
    expect(world.asked.length).toBeGreaterThanOrEqual(2);
    expect(members.isLive(a)).toBe(false);
  });

  it('and are known by their own word only are forgotten after a day', async () => {
    const members = await world.members();
    members.heard(a, A);
    members.setRoster([{ node: b, address: B }]);
    await world.pass(PROBE_INTERVAL_MS);
    world.clock.advance(DAY_MS + 1);
    await settle();
    await world.pass(PROBE_INTERVAL_MS);
    expect(members.names()).toEqual([SELF, b]);
  });
});

describe('members that sent bytes unlike their own claim', () => {
  it('are not asked for minutes, however lively they are, and return after that', async () => {
    const members = await world.members();
    members.setRoster([{ node: a, address: A }]);
    const before = members.version;
    members.setAside(a, 'wrong bytes');
    members.heard(a, A);
    expect(members.isLive(a)).toBe(false);
    expect(members.live()).toEqual([]);
    expect(members.view()).toMatchObject([{ node: a, live: true, setAside: true }]);
    expect(members.version).toBeGreaterThan(before);
    await world.pass(SET_ASIDE_MS - PROBE_INTERVAL_MS);
    expect(members.isLive(a)).toBe(false);
    const during = members.version;
    await world.pass(2 * PROBE_INTERVAL_MS);
    expect(members.isLive(a)).toBe(true);
    expect(members.view()).toMatchObject([{ setAside: false }]);
    // Rankings are kept by version: without a new one nobody would notice.
    expect(members.version).toBeGreaterThan(during);
  });

  it('and are no members are noted without a fuss', async () => {
    const members = await world.members();
    members.setAside(a, 'wrong bytes');
    expect(members.view()).toEqual([]);
  });
});

describe('members that show certificates', () => {
  const where = (members: Members): string[][] =>
    members
      .view()
      .map(({ node, address }): string[] => [node, address])
      .sort();

  it('are not pushed out, nor moved, by what another says: whoever is at the address says who it is', async () => {
    world.at(A, { node: a });
    const members = await world.members([A], SELF, true);
    for (let n = 0; n < 50; n++) members.heard(b, A);
    await settle();
    expect(where(members)).toEqual([[a, A]]);
    // One look at a time, however often it is claimed.
    expect(world.asked).toEqual([A, A]);
    members.heard(b, B);
    world.at(B, { node: b });
    members.heard(b, A);
    await world.pass(PROBE_INTERVAL_MS);
    members.heard(b, A);
    await settle();
    expect(where(members)).toEqual([
      [a, A],
      [b, B],
    ]);
    expect(liveOf(members)).toEqual([a, b]);
  });

  it('change places when the certificate there says so', async () => {
    world.at(A, { node: a });
    const members = await world.members([A], SELF, true);
    // Moved, by its own word and seen there.
    world.at(C, { node: a });
    members.heard(a, C);
    expect(where(members)).toEqual([[a, A]]);
    await settle();
    expect(where(members)).toEqual([[a, C]]);
    // Replaced by another box.
    world.at(C, { node: c });
    members.heard(c, C);
    await settle();
    expect(where(members)).toEqual([[c, C]]);
  });

  it('stay where they say that they are, though somebody passes their words on from another place', async () => {
    world.at(A, { node: a });
    const members = await world.members([A], SELF, true);
    world.at(B, { node: a, address: A });
    members.heard(b, B);
    members.consider(B);
    members.heard(b, A);
    await settle();
    expect(where(members)).toContainEqual([a, A]);
    expect(where(members)).not.toContainEqual([a, B]);
  });

  it('are named by others only to be greeted: made-up ones never fill the table', async () => {
    const made = Array.from({ length: 200 }, (_, n) => ({
      node: parseNodeName(`ghost-${n}`),
      address: `10.9.0.${n}:6181`,
    }));
    for (const { address } of made) world.at(address, unreachable());
    world.at(B, { node: b });
    world.at(A, { node: a, members: [{ node: c, address: B }, { node: b, address: B }, ...made] });
    const members = await world.members([A], SELF, true);
    await settle();
    expect(where(members)).toEqual([
      [a, A],
      [b, B],
    ]);
    expect(members.rosterSize).toBe(3);
    expect(world.asked.length).toBeLessThan(80);
  });

  it.each([
    ['before', [b, a]],
    ['after', [a, b]],
  ])('are found where the roster names another %s them at the same address', async (_, order) => {
    world.at(A, { node: a });
    const members = await world.members([], SELF, true);
    members.setRoster(order.map((node) => ({ node, address: A })));
    await world.pass(PROBE_INTERVAL_MS);
    expect(members.view()).toMatchObject([{ node: a, address: A, live: true, source: 'roster' }]);
    world.at(B, { node: b });
    members.heard(b, B);
    await settle();
    expect(liveOf(members)).toEqual([a, b]);
  });
});
