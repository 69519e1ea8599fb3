import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { z } from 'zod';
import * as wire from '../../../../shared/wire/messages.ts';

const DIGEST = `sha256:${'0a'.repeat(32)}`;
const counters = {
  wanBytes: 1,
  peerBytes: 2,
  servedPeerBytes: 3,
  servedRuntimeBytes: 4,
  storedBytes: 5,
  blobs: 6,
};
const progress = {
  id: 'job',
  generation: 1,
  state: 'active',
  totalBytes: 9,
  doneBytes: 3,
  wanBytes: 1,
  peerBytes: 2,
};

type Cases = [string, z.ZodType<unknown>, Record<string, unknown>][];
/** One whole message of each kind. */
const whole: Cases = [
  ['hub state', wire.hubState, { state: 'online', epoch: 3, at: 17 }],
  [
    'tuning',
    wire.tuningMessage,
    {
      epoch: 3,
      version: 4,
      hash: 'h',
      settings: { wan: { download: '20Mbit' }, tags: { policy: 'fresh' } },
      nodes: { 'edge-1': { swarm: { weight: 2 } } },
      gateways: ['edge-1'],
      downstreams: ['shop-2'],
    },
  ],
  [
    'roster',
    wire.rosterMessage,
    {
      epoch: 1,
      version: 2,
      shard: 0,
      shards: 1,
      nodes: [{ node: 'edge-1', address: '[fd00::7]:6181', labels: { site: 'a' } }],
    },
  ],
  [
    'prefetch',
    wire.prefetchMessage,
    {
      epoch: 1,
      id: 'job',
      generation: 2,
      images: [{ image: 'busybox', digest: DIGEST, platforms: ['linux/arm64'] }],
      nodes: ['edge-1'],
      suspend: true,
      timeoutMs: 5,
      retries: 0,
    },
  ],
  ['prefetch index', wire.prefetchIndexMessage, { epoch: 1, version: 2, ids: ['job'] }],
  [
    'birth',
    wire.birthMessage,
    {
      node: 'edge-1',
      pool: 'harbour',
      bootId: 'b',
      session: 2,
      address: '10.0.0.7:6181',
      version: '1.0.0',
      platform: 'linux/arm64',
      at: 17,
    },
  ],
  ['death', wire.deathMessage, { node: 'edge-1', bootId: 'b', session: 2 }],
  [
    'report',
    wire.reportMessage,
    {
      node: 'edge-1',
      bootId: 'b',
      seq: 1,
      at: 17,
      full: true,
      tuningHash: 'h',
      counters,
      prefetches: [{ ...progress, error: { code: 'TIMEOUT', message: 'late' } }],
    },
  ],
  ['command', wire.commandMessage, { id: 'c', epoch: 1, expiresAt: 99, command: { kind: 'resync' } }],
];

const messageOf = (kind: string): Record<string, unknown> => whole.find(([name]) => name === kind)?.[2] ?? {};
const schemaOf = (kind: string): z.ZodType<unknown> =>
  whole.find(([name]) => name === kind)?.[1] ?? wire.hubState;
const INVALID = expect.objectContaining({ code: 'INVALID_ARGUMENT' });

describe('messages', () => {
  it.each(whole)('%s goes over the wire and comes back', (_, schema, message) => {
    expect(wire.decode(schema, wire.encode(message), 'it')).toEqual(message);
  });

  it.each(whole)('%s of a newer side loses the fields that are not known here', (_, schema, message) => {
    expect(wire.decode(schema, wire.encode({ ...message, fromTheFuture: [1] }), 'it')).toEqual(message);
  });

  it.each(whole)(
    '%s is refused, with a code, when it lacks a field or has another type',
    (_, schema, message) => {
      for (const wrong of [null, [], 7, 'text', {}]) {
        expect(() => wire.decode(schema, wire.encode(wrong), 'it')).toThrow(INVALID);
      }
      for (const key of Object.keys(message)) {
        expect(
          // Of settings any field may be one that a newer hub knows.
          () =>
            wire.decode(
              schema,
              wire.encode({ ...message, [key]: key === 'settings' ? ['this'] : { not: 'this' } }),
              'it',
            ),
          key,
        ).toThrow(INVALID);
      }
    },
  );

  it('fill in what a sender may leave out', () => {
    expect(
      wire.decode(
        wire.prefetchMessage,
        wire.encode({ epoch: 0, id: 'j', generation: 0, images: [{ image: 'a' }] }),
        'it',
      ),
    ).toMatchObject({ suspend: false, timeoutMs: 600_000, retries: 3 });
    expect(
      wire.decode(wire.tuningMessage, wire.encode({ epoch: 0, version: 0, hash: '', settings: {} }), 'it'),
    ).toMatchObject({ nodes: {}, gateways: [] });
  });

  it.each([
    ['hub state', { epoch: -1 }],
    ['hub state', { epoch: 1.5 }],
    ['hub state', { state: 'away' }],
    ['tuning', { settings: { wan: { connections: 65 } } }],
    ['tuning', { settings: { swarm: { weight: -1 } } }],
    ['tuning', { settings: { tags: { policy: 'maybe' } } }],
    ['roster', { nodes: [{ node: 'EDGE' }] }],
    ['roster', { nodes: [{ node: '../x' }] }],
    ['roster', { shards: 0 }],
    ['prefetch', { images: [] }],
    ['prefetch', { images: [{ image: 'a', digest: 'sha256:abc' }] }],
    ['prefetch', { id: '' }],
    ['prefetch', { id: 'x'.repeat(254) }],
    ['prefetch', { timeoutMs: 0 }],
    ['prefetch', { retries: 101 }],
    ['birth', { node: 'a/b' }],
    ['birth', { pool: '+' }],
    ['birth', { bootId: '' }],
    ['report', { seq: 0 }],
    ['report', { counters: { ...counters, wanBytes: -1 } }],
    ['report', { prefetches: [{ ...progress, state: 'lost' }] }],
    ['report', { prefetches: [{ ...progress, error: { code: 'X', message: 'm'.repeat(2001) } }] }],
    ['command', { command: { kind: 'shell' } }],
  ])('%s with %j is refused', (kind, change) => {
    expect(() => wire.decode(schemaOf(kind), wire.encode({ ...messageOf(kind), ...change }), 'it')).toThrow(
      INVALID,
    );
  });
});

describe('decode', () => {
  it('says what was wrong, and where', () => {
    expect(() =>
      wire.decode(
        wire.rosterMessage,
        wire.encode({ ...messageOf('roster'), nodes: [{ node: 'EDGE' }] }),
        'the roster',
      ),
    ).toThrow(/^the roster: nodes\.0\.node: not a node name: "EDGE"/);
    expect(() => wire.decode(wire.hubState, wire.encode(null), 'the state')).toThrow(
      /^the state: \(root\): /,
    );
    expect(() => wire.decode(wire.hubState, Buffer.from('{'), 'the state')).toThrow('the state is not JSON');
    expect(() => wire.decode(wire.hubState, Buffer.alloc(0), 'the state')).toThrow('the state is not JSON');
  });

  it('refuses bytes that are no UTF-8 instead of mending them', () => {
    const payload = Buffer.concat([Buffer.from('{"id":"'), Buffer.from([0xff]), Buffer.from('"}')]);
    expect(() => wire.decode(wire.commandMessage, payload, 'it')).toThrow('it is not JSON');
  });

  it('answers or throws the one code, whatever comes in', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (payload) => {
          for (const [, schema] of whole) expect(() => wire.decode(schema, payload, 'it')).toThrow(INVALID);
        },
      ),
      { seed: 42 },
    );
  });
});

describe('values as people write them', () => {
  it('become numbers', () => {
    expect([wire.rate.parse('20Mbit'), wire.size.parse('8Gi'), wire.duration.parse('30s')]).toEqual([
      2_500_000,
      8 * 1024 ** 3,
      30_000,
    ]);
  });

  it('are refused with the words of their parser', () => {
    expect(wire.rate.safeParse('fast').error?.issues[0]?.message).toContain('20Mbit');
    expect(wire.size.safeParse(5).success).toBe(false);
  });

  it('tuning with a misspelt field is refused: an operator must hear of it', () => {
    expect(wire.tuningSettings.safeParse({ wan: { downlaod: '1Mbit' } }).success).toBe(false);
  });
});
