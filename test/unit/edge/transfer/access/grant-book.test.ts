import { describe, expect, it } from 'vitest';
import { openIndex } from '../../../../../edge/index/sqlite-index.ts';
import type { GrantRecord } from '../../../../../edge/index/types.ts';
import { GrantBook } from '../../../../../edge/transfer/access/grant-book.ts';
import { parseNodeName, parsePoolName } from '../../../../../shared/ids.ts';
import { silentLogger } from '../../../../../shared/log.ts';
import { ManualClock } from '../../../../support/manual-clock.ts';

const NAME = { registry: 'r.example', repository: 'app' };
const ACCOUNT = { username: 'puller', password: 'correct horse' };
const DAY_MS = 24 * 3_600_000;

function book(pool = 'shop') {
  const index = openIndex(':memory:', { log: silentLogger() });
  const clock = new ManualClock();
  const told: GrantRecord[] = [];
  const grants = new GrantBook({
    table: index.grants,
    client: { grants: async (_member, records) => void told.push(...records) },
    members: {
      self: parseNodeName('node-1'),
      pool: parsePoolName(pool),
      live: () => [{ node: parseNodeName('node-2'), address: '10.0.0.2:1' }],
      suspect: () => undefined,
    },
    clock,
    log: silentLogger(),
  });
  return { grants, index, clock, told };
}

describe('grants', () => {
  it('come to the same id at every member, by one hash however often it is asked for', async () => {
    const { grants } = book();
    const ids = await Promise.all(Array.from({ length: 20 }, () => grants.id(NAME, ACCOUNT)));
    expect(new Set(ids).size).toBe(1);
    expect(grants.scrypts).toBe(1);
    expect(await book().grants.id(NAME, ACCOUNT)).toBe(ids[0]);
  });

  it('differ by user, password, repository, registry and pool', async () => {
    const { grants } = book();
    const ids = await Promise.all([
      grants.id(NAME, ACCOUNT),
      grants.id(NAME, { ...ACCOUNT, username: 'other' }),
      grants.id(NAME, { ...ACCOUNT, password: 'other' }),
      grants.id({ ...NAME, repository: 'other' }, ACCOUNT),
      grants.id({ ...NAME, registry: 'other.example' }, ACCOUNT),
      book('other').grants.id(NAME, ACCOUNT),
    ]);
    expect(new Set(ids).size).toBe(6);
    for (const id of ids) expect(id).toMatch(/^[A-Za-z0-9_-]{43}$/);
  });

  it('are written down and told once, and again when half a day is over', async () => {
    const { grants, clock, told } = book();
    const id = await grants.id(NAME, ACCOUNT);
    expect(grants.grantedAt(id)).toBeUndefined();
    for (const laterMs of [0, 1_000, DAY_MS]) {
      await clock.advance(laterMs);
      grants.remember(NAME, ACCOUNT);
      await expect.poll(() => grants.grantedAt(id)).toBeDefined();
      await expect.poll(() => told.length).toBe(laterMs === DAY_MS ? 2 : 1);
    }
    expect(told.map((record) => record.id)).toEqual([id, id]);
    expect(grants.scrypts).toBe(1);
  });

  it('are good for a week, also those that are dated ahead', async () => {
    const { grants, clock, index } = book();
    const id = 'A'.repeat(43);
    grants.told('node-2', [{ id, grantedAt: clock.now() + 900 * DAY_MS }]);
    expect(index.grants.get(id)?.grantedAt).toBe(clock.now());
    await clock.advance(7 * DAY_MS - 1);
    expect(grants.grantedAt(id)).toBeDefined();
    await clock.advance(1);
    expect(grants.grantedAt(id)).toBeUndefined();
    grants.told('node-2', [{ id: 'B'.repeat(43), grantedAt: clock.now() - 8 * DAY_MS }]);
    expect(index.grants.get('B'.repeat(43))).toBeUndefined();
  });

  it('of one member cannot push out what others told', () => {
    const { grants, clock, index } = book();
    const own = 'O'.repeat(43);
    grants.told('node-2', [{ id: own, grantedAt: clock.now() }]);
    const flood = Array.from({ length: 600 }, (_, n) => ({
      id: String(n).padStart(43, 'f'),
      grantedAt: clock.now(),
    }));
    grants.told('node-3', flood);
    expect(index.grants.get(own)).toBeDefined();
    expect(flood.filter(({ id }) => index.grants.get(id) !== undefined)).toHaveLength(512);
  });

  it('end when the registry refuses, and with the agent', async () => {
    const { grants, told } = book();
    const id = await grants.id(NAME, ACCOUNT);
    grants.remember(NAME, ACCOUNT);
    await expect.poll(() => grants.grantedAt(id)).toBeDefined();
    grants.forget(NAME, ACCOUNT);
    await expect.poll(() => grants.grantedAt(id)).toBeUndefined();
    await grants.close();
    const before = told.length;
    grants.remember(NAME, ACCOUNT);
    expect(told.length).toBe(before);
  });
});
