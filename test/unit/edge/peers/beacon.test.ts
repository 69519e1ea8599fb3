import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Beacons } from '../../../../edge/peers/beacon.ts';
import { BeaconGuard } from '../../../../edge/peers/beacon-guard.ts';
import {
  type BeaconBody,
  decodeBeacon,
  encodeBeacon,
  MAX_BEACON_BYTES,
} from '../../../../edge/peers/beacon-wire.ts';
import { systemClock } from '../../../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../../../shared/ids.ts';
import { silentLogger } from '../../../../shared/log.ts';
import type { Principal } from '../../../../shared/trust/types.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { DAY_MS, TestAuthority, type TestIdentity } from '../../../support/trust.ts';

const POOL = parsePoolName('shop-1');
const BODY: BeaconBody = { address: '10.0.0.7:6181', boot: 5, seq: 1 };

let authority: TestAuthority;
let self: TestIdentity;
let neighbour: TestIdentity;
beforeAll(async () => {
  authority = await TestAuthority.make();
  [self, neighbour] = await Promise.all([authority.node('n1', POOL), authority.node('n2', POOL)]);
});

function beaconOf(who: TestIdentity, body: Partial<BeaconBody> = {}, key = who): Buffer {
  const der = new X509Certificate(who.current().cert).raw;
  return encodeBeacon({ ...BODY, ...body }, der, createPrivateKey(key.current().key));
}

describe('a beacon', () => {
  let clock: ManualClock;
  let guard: BeaconGuard;
  beforeEach(() => {
    clock = new ManualClock();
    guard = new BeaconGuard({ identity: self, clock }, { pool: POOL });
  });

  it('says who is where', () => {
    const bytes = beaconOf(neighbour);
    expect(bytes.length).toBeLessThan(900);
    expect(guard.take(bytes)).toEqual({ node: 'n2', address: '10.0.0.7:6181' });
    expect(guard.counts).toMatchObject({ good: 1 });
  });

  it('counts once, and not after a later one, over starts of its sender too', () => {
    const first = beaconOf(neighbour);
    expect(guard.take(first)).toBeDefined();
    expect(guard.take(first)).toBeUndefined();
    expect(guard.take(beaconOf(neighbour, { seq: 3 }))).toBeDefined();
    clock.advance(60_000);
    expect(guard.take(beaconOf(neighbour, { seq: 2 }))).toBeUndefined();
    expect(guard.take(beaconOf(neighbour, { boot: 6, seq: 1, address: '10.0.0.8:6181' }))).toMatchObject({
      address: '10.0.0.8:6181',
    });
    expect(guard.take(beaconOf(neighbour, { boot: 5, seq: 9 }))).toBeUndefined();
    expect(guard.counts).toMatchObject({ good: 3, replayed: 3 });
  });

  it('is worth nothing by another key, of another pool, by another authority, revoked, or past its end', async () => {
    const stranger = await (await TestAuthority.make()).node('n2', POOL);
    const elsewhere = await authority.node('n3', 'shop-2');
    const over = await authority.node('n4', POOL, { issuedAt: Date.now() - 9 * DAY_MS, lifetimeMs: DAY_MS });
    const revoked = await authority.node('n5', POOL);
    self.revoke(revoked.keyId);
    const hub = await authority.hub();
    expect(guard.take(beaconOf(neighbour, {}, elsewhere))).toBeUndefined();
    expect(guard.counts).toMatchObject({ forged: 1 });
    for (const who of [stranger, elsewhere, over, revoked, hub])
      expect(guard.take(beaconOf(who))).toBeUndefined();
    expect(guard.counts).toMatchObject({ refused: 5, good: 0 });
    // A body that is not what was signed.
    const bytes = beaconOf(neighbour);
    const at = bytes.indexOf('10.0.0.7');
    bytes.write('10.0.0.9', at);
    expect(guard.take(bytes)).toBeUndefined();
    expect(guard.counts).toMatchObject({ forged: 2 });
    // And what a forger says keeps the honest one from nothing.
    expect(guard.take(beaconOf(neighbour))).toBeDefined();
  });

  it('costs a bounded number of signatures in a flood, which keeps nobody out who was good before', () => {
    expect(guard.take(beaconOf(neighbour))).toBeDefined();
    let judged = 0;
    const judge = (der: Uint8Array): Principal => {
      judged++;
      return self.judge(der);
    };
    const counting = new BeaconGuard({ identity: { ...silent(self), judge }, clock }, { pool: POOL });
    expect(counting.take(beaconOf(neighbour))).toBeDefined();
    // Each under a certificate of its own, as far as can be seen without looking.
    const forged = beaconOf(neighbour, { seq: 2 });
    for (let n = 0; n < 10_000; n++) {
      forged.writeUInt32BE(n, 100);
      counting.take(forged);
    }
    expect(judged).toBeLessThanOrEqual(101);
    expect(counting.counts.flooded).toBeGreaterThan(9_000);
    expect(counting.take(beaconOf(neighbour, { seq: 2 }))).toBeDefined();
  });

  it('of a member with a new certificate counts on; a table of many members stays small', async () => {
    const small = new BeaconGuard({ identity: self, clock }, { pool: POOL, keys: 2 });
    const others = await Promise.all(['n6', 'n7', 'n8'].map((name) => authority.node(name, POOL)));
    for (const who of others) expect(small.take(beaconOf(who))).toBeDefined();
    // The one heard longest ago was forgotten, and the last one was not.
    expect(small.take(beaconOf(others[2] as TestIdentity))).toBeUndefined();
    expect(small.take(beaconOf(others[0] as TestIdentity))).toBeDefined();
  });

  it('of any bytes whatever does no harm', () => {
    const good = beaconOf(neighbour);
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: MAX_BEACON_BYTES + 100 }).map((bytes) => Buffer.from(bytes)),
          fc
            .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 })
            .map((changes) => {
              const bytes = Buffer.from(good);
              for (const [at, value] of changes) bytes[at] = value;
              return bytes;
            }),
          fc.nat(good.length - 1).map((end) => good.subarray(0, end)),
        ),
        (bytes) => {
          clock.advance(1_000);
          const taken = guard.take(bytes);
          return taken === undefined || bytes.equals(good);
        },
      ),
      { seed: 5, numRuns: 2_000 },
    );
  });

  it('that does not fit is not sent, and says why', () => {
    const address = `[${'0'.repeat(MAX_BEACON_BYTES)}::1]:6181`;
    expect(() => beaconOf(neighbour, { address })).toThrow(/at most 1200/);
    expect(() => decodeBeacon(Buffer.alloc(MAX_BEACON_BYTES + 1))).toThrow(/too large/);
  });
});

describe('beacons on loopback', () => {
  const running: Beacons[] = [];
  afterEach(async () => {
    await Promise.all(running.splice(0).map((each) => each.stop()));
  });

  async function start(
    identity: TestIdentity,
    init: { node: string; port: number; boot?: number; pool?: string },
  ): Promise<{ beacons: Beacons; said: Promise<string>; heard: string[] }> {
    const heard: string[] = [];
    let tell: (address: string) => void = () => undefined;
    const said = new Promise<string>((resolve) => {
      tell = resolve;
    });
    const beacons = new Beacons(
      {
        identity,
        members: {
          consider: (address) => {
            heard.push(address);
            tell(address);
          },
        },
        clock: systemClock,
        log: silentLogger(),
        random: () => 0.5,
      },
      {
        node: parseNodeName(init.node),
        pool: parsePoolName(init.pool ?? POOL),
        address: `127.0.0.1:${init.node.slice(1)}00`,
        local: '127.0.0.1',
        group: { host: '239.255.61.81', port: init.port },
        boot: () => init.boot ?? 1,
      },
    );
    running.push(beacons);
    await beacons.start();
    return { beacons, said, heard };
  }

  it('reach neighbours of the pool, and nobody is told of himself', async () => {
    const port = await freeUdpPort();
    const one = await start(self, { node: 'n1', port });
    const two = await start(neighbour, { node: 'n2', port });
    expect(await one.said).toBe('127.0.0.1:200');
    expect(await two.said).toBe('127.0.0.1:100');
    expect(one.heard).not.toContain('127.0.0.1:100');
    expect(one.beacons.counts.sent).toBeGreaterThan(0);
  });

  it('of strangers and of other pools are counted and lead nowhere', async () => {
    const port = await freeUdpPort();
    const one = await start(self, { node: 'n1', port });
    await start(await authority.node('n3', 'shop-2'), { node: 'n3', port, pool: 'shop-2' });
    await start(await (await TestAuthority.make()).node('n2', POOL), { node: 'n2', port });
    while (one.beacons.counts.refused < 2) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(one.heard).toEqual([]);
  });

  it('a node without a LAN starts all the same', async () => {
    const port = await freeUdpPort();
    const beacons = new Beacons(
      {
        identity: self,
        members: { consider: () => undefined },
        clock: new ManualClock(),
        log: silentLogger(),
        random: () => 0.5,
      },
      {
        node: parseNodeName('n1'),
        pool: POOL,
        address: '192.0.2.1:6181',
        local: '192.0.2.1',
        group: { host: '239.255.61.81', port },
        boot: () => 1,
      },
    );
    await beacons.start();
    await beacons.stop();
    expect(beacons.counts.sent).toBe(0);
  });
});

function silent(identity: TestIdentity) {
  return { current: () => identity.current(), onChange: () => () => undefined };
}

async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}
