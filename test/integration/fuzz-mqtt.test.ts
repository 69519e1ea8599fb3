/** 10,000 payloads that are none against both ends of MQTT: no crash, no hang, no growth. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { Inbox } from '../../cloud/broker/inbox.ts';
import { ObservedNodes } from '../../cloud/pools/observed-nodes.ts';
import { DesiredState } from '../../edge/sync/desired-state.ts';
import { HubVoice } from '../../edge/sync/hub-voice.ts';
import { systemClock } from '../../shared/clock.ts';
import { parseNodeName, parsePoolName } from '../../shared/ids.ts';
import { silentLogger } from '../../shared/log.ts';
import { signMessage } from '../../shared/trust/envelope.ts';
import { decode } from '../../shared/wire/messages/codec.ts';
import { commandMessage } from '../../shared/wire/messages/command.ts';
import { hubState } from '../../shared/wire/messages/hub-state.ts';
import { prefetchIndexMessage, prefetchMessage } from '../../shared/wire/messages/prefetch.ts';
import { rosterMessage } from '../../shared/wire/messages/roster.ts';
import { trustMessage } from '../../shared/wire/messages/trust.ts';
import { tuningMessage } from '../../shared/wire/messages/tuning.ts';
import { MAX_MESSAGE_BYTES, topics } from '../../shared/wire/topics.ts';
import { MemoryDocuments } from '../support/memory-documents.ts';
import { TestAuthority, type TestIdentity } from '../support/trust.ts';

const RUNS = 10_000;
const SEED = 20_261_121;
const MAX_MS = 5_000;
/** One kept payload in ten would be more than this. */
const MAX_GROWTH_BYTES = 8 * 1024 * 1024;

const node = parseNodeName('n1');
const pool = parsePoolName('p');

const number = fc.oneof(
  fc.constantFrom(0, 1, -1, 2 ** 53, 1e308, 0.5),
  fc.integer(),
  fc.double({ noDefaultInfinity: true, noNaN: true }),
);
const text = fc.oneof(
  fc.constantFrom(
    '',
    '__proto__',
    'constructor',
    'n1',
    'p',
    'boot',
    '../../x',
    '\u0000',
    '💥',
    'a'.repeat(3_000),
  ),
  fc.string({ maxLength: 40 }),
);
const value = fc.oneof(
  { maxDepth: 3 },
  number,
  text,
  fc.boolean(),
  fc.constant(null),
  fc.jsonValue({ maxDepth: 3 }),
);
const fields = [
  'node',
  'pool',
  'bootId',
  'session',
  'address',
  'version',
  'platform',
  'at',
  'seq',
  'full',
  'epoch',
  'hash',
  'settings',
  'nodes',
  'gateways',
  'shard',
  'shards',
  'id',
  'ids',
  'generation',
  'images',
  'state',
  'command',
  'roots',
  'revoked',
  'counters',
  'prefetches',
  'runtime',
];
/** Right in most fields and wrong in one or two gets further than noise. */
const nearly = fc
  .tuple(
    fc.constantFrom<Record<string, unknown>>(
      { node: 'n1', pool: 'p', bootId: 'boot', address: 'a', version: '1', platform: 'x', at: 0 },
      { node: 'n1', bootId: 'boot', seq: 1, at: 0, full: true, prefetches: [] },
      { epoch: 1, version: 1, hash: 'h', settings: {}, nodes: {}, gateways: [] },
      { epoch: 1, version: 1, shard: 0, shards: 1, nodes: [{ node: 'n1' }] },
      { epoch: 1, id: 'j', generation: 1, images: [{ image: 'a' }] },
      { epoch: 1, version: 1, ids: ['j'] },
      { state: 'online', epoch: 1, at: 0 },
      { id: '1', epoch: 1, expiresAt: 0, command: { kind: 'resync' } },
      { epoch: 1, version: 1, roots: ['x'], revoked: ['ab'.repeat(32)] },
    ),
    fc.dictionary(fc.constantFrom(...fields), value, { maxKeys: 3 }),
  )
  .map(([right, wrong]) => Buffer.from(JSON.stringify({ ...right, ...wrong })));
const nested = fc
  .tuple(fc.constantFrom('[', '{"a":', '{"settings":{"wan":'), fc.integer({ min: 1, max: 6_000 }))
  .map(([open, depth]) => Buffer.from(open.repeat(depth).slice(0, MAX_MESSAGE_BYTES)));
const noise = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  fc
    .integer({ min: MAX_MESSAGE_BYTES - 2, max: MAX_MESSAGE_BYTES + 20_000 })
    .map((length) => Buffer.alloc(length, 0x7b)),
);
const payload = fc.oneof(
  { weight: 12, arbitrary: nearly },
  { weight: 5, arbitrary: fc.json({ maxDepth: 4 }).map((json) => Buffer.from(json)) },
  { weight: 3, arbitrary: noise },
  { weight: 1, arbitrary: nested },
);

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

/** After a collection: what is left is held by somebody. */
function heap(): number {
  collect();
  return process.memoryUsage().heapUsed;
}

function run(take: (payload: Buffer, index: number) => void): { slowest: number; growth: number } {
  let slowest = 0;
  let index = 0;
  let before = 0;
  fc.assert(
    fc.property(payload, (each) => {
      // What is compiled and cached at first is no growth.
      if (index === RUNS / 10) before = heap();
      const startedAt = performance.now();
      take(each, index++);
      slowest = Math.max(slowest, performance.now() - startedAt);
    }),
    { seed: SEED, numRuns: RUNS, endOnFailure: true },
  );
  return { slowest, growth: heap() - before };
}

describe('10,000 payloads', () => {
  let hub: TestIdentity;
  let n1: TestIdentity;
  beforeAll(async () => {
    const authority = await TestAuthority.make();
    hub = await authority.hub();
    n1 = await authority.node('n1', 'p');
  });

  it('what nodes say, at the hub', () => {
    const observed = new ObservedNodes({ clock: systemClock });
    let resyncs = 0;
    const inbox = new Inbox({
      clock: systemClock,
      log: silentLogger(),
      observed,
      onMoved: () => undefined,
      resync: () => resyncs++,
    });
    const kinds = [topics.birth(node), topics.report(node), topics.death(node)];
    const { slowest, growth } = run((each, index) => inbox.take(kinds[index % 3] ?? '', each));
    expect(slowest).toBeLessThan(MAX_MS);
    expect(growth).toBeLessThan(MAX_GROWTH_BYTES);
    expect(inbox.bad).toBeGreaterThan(RUNS / 2);
    expect(inbox.received).toBeGreaterThan(inbox.bad);
    expect(resyncs).toBeLessThan(RUNS);
    // Whoever it was that spoke, it was one node.
    expect(observed.all().size).toBeLessThanOrEqual(1);
  });

  it('what comes in the hub’s name, at an agent: nothing of it is so much as read', () => {
    const voice = new HubVoice({ clock: systemClock, log: silentLogger(), identity: n1 });
    const topic = topics.tuning(pool);
    const good = signMessage(topic, Buffer.from('{}'), hub.current());
    const { slowest, growth } = run((each, index) => {
      // Every second one begins like a signed one does.
      const whole =
        index % 2 === 0 ? each : Buffer.concat([good.subarray(0, (index * 7) % good.length), each]);
      try {
        voice.open(topic, whole);
      } catch (error) {
        voice.refuse(topic, error);
      }
    });
    expect(slowest).toBeLessThan(MAX_MS);
    expect(growth).toBeLessThan(MAX_GROWTH_BYTES);
    expect(voice.refused).toBe(RUNS);
  });

  it('what a hub that has gone mad signs, at an agent: the state stays one that can be read again', () => {
    const documents = new MemoryDocuments();
    const components = { documents, log: silentLogger() };
    const state = new DesiredState(components, { node, pool });
    let refused = 0;
    const takes: readonly ((each: Buffer) => unknown)[] = [
      (each) => state.setTuning(decode(tuningMessage, each, 'tuning')),
      (each) => state.addRosterShard(decode(rosterMessage, each, 'roster')),
      (each) => state.setJob(decode(prefetchMessage, each, 'prefetch')),
      (each) => state.setJobIndex(decode(prefetchIndexMessage, each, 'index')),
      (each) => state.setEpoch(decode(hubState, each, 'state').epoch),
      (each) => decode(commandMessage, each, 'command'),
      (each) => decode(trustMessage, each, 'trust'),
    ];
    const { slowest, growth } = run((each, index) => {
      try {
        takes[index % takes.length]?.(each);
      } catch (error) {
        refused++;
        expect(error).toMatchObject({ code: expect.stringMatching(/^(INVALID_ARGUMENT|OVERLOADED)$/) });
      }
    });
    expect(slowest).toBeLessThan(MAX_MS);
    expect(growth).toBeLessThan(MAX_GROWTH_BYTES);
    expect(refused).toBeGreaterThan(RUNS / 2);
    const warnings: string[] = [];
    const log = silentLogger();
    log.warn = (_facts: object, message?: string) => void warnings.push(String(message));
    expect(new DesiredState({ documents, log }, { node, pool }).epoch).toBe(state.epoch);
    expect(warnings).toEqual([]);
  });
});
