import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { birthMessage, deathMessage } from '../../../../../shared/wire/messages/birth.ts';
import { decode, encode } from '../../../../../shared/wire/messages/codec.ts';
import { commandMessage } from '../../../../../shared/wire/messages/command.ts';
import { hubState } from '../../../../../shared/wire/messages/hub-state.ts';
import { prefetchIndexMessage, prefetchMessage } from '../../../../../shared/wire/messages/prefetch.ts';
import { reportMessage } from '../../../../../shared/wire/messages/report.ts';
import { rosterMessage } from '../../../../../shared/wire/messages/roster.ts';
import { tuningMessage, tuningSettings } from '../../../../../shared/wire/messages/tuning.ts';

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
  ['hub state', hubState, { state: 'online', epoch: 3, at: 17 }],
  [
    'tuning',
    tuningMessage,
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
    rosterMessage,
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
    prefetchMessage,
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
  ['prefetch index', prefetchIndexMessage, { epoch: 1, version: 2, ids: ['job'] }],
  [
    'birth',
    birthMessage,
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
  ['death', deathMessage, { node: 'edge-1', bootId: 'b', session: 2 }],
  [
    'report',
    reportMessage,
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
  ['command', commandMessage, { id: 'c', epoch: 1, expiresAt: 99, command: { kind: 'resync' } }],
];

const messageOf = (kind: string): Record<string, unknown> => whole.find(([name]) => name === kind)?.[2] ?? {};
const schemaOf = (kind: string): z.ZodType<unknown> => whole.find(([name]) => name === kind)?.[1] ?? hubState;
const INVALID = expect.objectContaining({ code: 'INVALID_ARGUMENT' });

describe('messages', () => {
  it.each(whole)('%s goes over the wire and comes back', (_, schema, message) => {
    expect(decode(schema, encode(message), 'it')).toEqual(message);
  });

  it.each(whole)('%s of a newer side loses the fields that are not known here', (_, schema, message) => {
    expect(decode(schema, encode({ ...message, fromTheFuture: [1] }), 'it')).toEqual(message);
  });

  it.each(whole)(
    '%s is refused, with a code, when it lacks a field or has another type',
    (_, schema, message) => {
      for (const wrong of [null, [], 7, 'text', {}]) {
        expect(() => decode(schema, encode(wrong), 'it')).toThrow(INVALID);
      }
      for (const key of Object.keys(message)) {
        expect(
          // Of settings any field may be one that a newer hub knows.
          () =>
            decode(
              schema,
              encode({ ...message, [key]: key === 'settings' ? ['this'] : { not: 'this' } }),
              'it',
            ),
          key,
        ).toThrow(INVALID);
      }
    },
  );

  it('fill in what a sender may leave out', () => {
    expect(
      decode(prefetchMessage, encode({ epoch: 0, id: 'j', generation: 0, images: [{ image: 'a' }] }), 'it'),
    ).toMatchObject({ suspend: false, timeoutMs: 600_000, retries: 3 });
    expect(
      decode(tuningMessage, encode({ epoch: 0, version: 0, hash: '', settings: {} }), 'it'),
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
    expect(() => decode(schemaOf(kind), encode({ ...messageOf(kind), ...change }), 'it')).toThrow(INVALID);
  });

  it('of tuning with a misspelt field are refused where people write it: an operator must hear of it', () => {
    expect(tuningSettings.safeParse({ wan: { downlaod: '1Mbit' } }).success).toBe(false);
  });
});

describe('decode', () => {
  it('says what was wrong, and where', () => {
    expect(() =>
      decode(rosterMessage, encode({ ...messageOf('roster'), nodes: [{ node: 'EDGE' }] }), 'the roster'),
    ).toThrow(/^the roster: nodes\.0\.node: not a node name: "EDGE"/);
    expect(() => decode(hubState, encode(null), 'the state')).toThrow(/^the state: \(root\): /);
    expect(() => decode(hubState, Buffer.from('{'), 'the state')).toThrow('the state is not JSON');
    expect(() => decode(hubState, Buffer.alloc(0), 'the state')).toThrow('the state is not JSON');
  });

  it('refuses bytes that are no UTF-8 instead of mending them', () => {
    const payload = Buffer.concat([Buffer.from('{"id":"'), Buffer.from([0xff]), Buffer.from('"}')]);
    expect(() => decode(commandMessage, payload, 'it')).toThrow('it is not JSON');
  });

  it('answers or throws the one code, whatever comes in', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (payload) => {
          for (const [, schema] of whole) expect(() => decode(schema, payload, 'it')).toThrow(INVALID);
        },
      ),
      { seed: 42 },
    );
  });
});
