import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PieceAsk } from '../../../../edge/peers/types.ts';
import {
  encodeJoin,
  encodeJoinAnswer,
  encodeProgress,
  parseJoin,
  parseJoinAnswer,
  parseProgress,
} from '../../../../edge/peers/wire/join.ts';
import { parseLeaseAnswer, parseLeaseRequest } from '../../../../edge/peers/wire/lease.ts';
import { parseAddress, parseHello, parseSender } from '../../../../edge/peers/wire/members.ts';
import { HEADER } from '../../../../edge/peers/wire/paths.ts';
import {
  encodeAsk,
  encodeClaim,
  encodeUpstream,
  parseAsk,
  parseClaim,
  parseUpstream,
} from '../../../../edge/peers/wire/piece.ts';
import { parseDigests, parseTagName, parseTags } from '../../../../edge/peers/wire/records.ts';
import { isTidepoolError } from '../../../../shared/errors.ts';
import { digestOf, parseDigest, parseNodeName } from '../../../../shared/ids.ts';
import { layoutOf, MAX_BLOB_BYTES, pieceSizeFor } from '../../../../shared/pieces.ts';

const RUNS = { seed: 42, numRuns: 300 };
const KEY = digestOf(Buffer.from('a blob'));
const NAME = { registry: 'reg.example:5000', repository: 'lab/app' };

const key = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => parseDigest(`sha256:${Buffer.from(bytes).toString('hex')}`));
const node = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/).map(parseNodeName);
const nodes = fc.uniqueArray(node, { maxLength: 5 });
const layout = fc.integer({ min: 1, max: 40_000_000 }).map((size) => layoutOf(size));
const hex32 = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => Buffer.from(bytes).toString('hex'));

/** Packed bits of `pieceCount` pieces, none past the end. */
const bitsOf = (pieceCount: number) =>
  fc.array(fc.boolean(), { minLength: pieceCount, maxLength: pieceCount }).map((bits) => {
    const bytes = new Uint8Array(Math.ceil(pieceCount / 8));
    bits.forEach((set, bit) => {
      if (set) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) | (1 << (bit & 7));
    });
    return bytes;
  });

function queryOf(path: string): URLSearchParams {
  return new URLSearchParams(path.slice(path.indexOf('?') + 1));
}

/** As it arrives at the other end. */
function overJson(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** What parsing throws must be a clear refusal, never a TypeError or RangeError from inside. */
function refusesClearly(parse: () => unknown): boolean {
  try {
    parse();
    return true;
  } catch (error) {
    if (isTidepoolError(error)) return ['INVALID_ARGUMENT', 'INVALID_DIGEST'].includes(error.code);
    throw error;
  }
}

describe('what is written is read as it was', () => {
  it('a join and its answer', () => {
    const join = layout.chain((shape) =>
      fc.record({
        key,
        size: fc.constant(shape.size),
        pieceSize: fc.constant(shape.pieceSize),
        registry: fc.constant(NAME.registry),
        repository: fc.constant(NAME.repository),
        ranked: fc.boolean(),
        weight: fc.double({ min: 0, max: 100, noNaN: true }).map(Math.abs),
        have: bitsOf(shape.pieceCount),
        claimed: fc.array(fc.nat(shape.pieceCount - 1), { maxLength: 40 }),
      }),
    );
    const others = fc.option(
      fc.array(
        node.map((name) => ({ node: name, weight: 2 })),
        { maxLength: 9 },
      ),
      {
        nil: undefined,
      },
    );
    fc.assert(
      fc.property(join, fc.boolean(), others, (request, whole, told) => {
        const sent = { ...request, ...(told === undefined ? {} : { others: true }) };
        expect(parseJoin(overJson(encodeJoin(sent)))).toEqual(sent);
        const { weight, claimed } = request;
        const have = whole ? new Uint8Array(0) : request.have;
        const announced = told === undefined ? {} : { others: told };
        const answer = { onBlob: request.ranked, weight, whole, have, claimed, ...announced };
        const shape = layoutOf(request.size, request.pieceSize);
        expect(parseJoinAnswer(overJson(encodeJoinAnswer(answer)), shape)).toEqual(answer);
      }),
      RUNS,
    );
  });

  it('an ask for a piece', () => {
    const ask = layout.chain((shape) =>
      fc.record({
        key,
        layout: fc.constant(shape),
        piece: fc.nat(shape.pieceCount - 1),
        excluding: nodes,
        via: fc.option(node, { nil: undefined }),
        rangeless: fc.constantFrom(undefined, true),
        round: fc.nat(9),
        holding: fc.option(hex32, { nil: undefined }),
        compare: fc.boolean(),
        priority: fc.nat(9),
      }),
    );
    fc.assert(
      fc.property(ask, ({ via, holding, rangeless, ...rest }) => {
        const sent: PieceAsk = {
          ...rest,
          ...NAME,
          ...(via === undefined ? {} : { via }),
          ...(rangeless === undefined ? {} : { rangeless }),
          ...(holding === undefined ? {} : { holding }),
        };
        expect(parseAsk(queryOf(encodeAsk(sent)))).toEqual(sent);
      }),
      RUNS,
    );
  });

  it('a claim, progress, and a range of another pool', () => {
    const size = fc.nat(1_000_000_000);
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        node,
        fc.boolean(),
        fc.array(fc.tuple(fc.nat(9_999), size), { maxLength: 30 }),
        size,
        key,
        (sha256, reader, verified, pieces, originBytes, blob) => {
          const claim = parseClaim(encodeClaim({ sha256, reader, verified }));
          expect([...claim.sha256]).toEqual([...sha256]);
          expect(claim).toMatchObject({ reader, verified });
          const progress = { originBytes, pieces: new Map(pieces) };
          expect(parseProgress(overJson(encodeProgress(progress)))).toEqual(progress);
          const ask = { ...NAME, key: blob, start: originBytes, end: originBytes + 1 };
          expect(parseUpstream(queryOf(encodeUpstream(ask)))).toEqual(ask);
        },
      ),
      RUNS,
    );
  });
});

describe('nonsense', () => {
  const parsers: readonly ((value: unknown) => unknown)[] = [
    parseJoin,
    (value) => parseJoinAnswer(value, layoutOf(1_000_000)),
    parseProgress,
    parseHello,
    parseLeaseRequest,
    parseLeaseAnswer,
    parseTags,
    parseDigests,
  ];

  it('of any shape is refused with a code, or read within its bounds', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) =>
        parsers.every((parse) => refusesClearly(() => parse(value))),
      ),
      { ...RUNS, numRuns: 1_000 },
    );
  });

  it('in one field of something right is refused with a code', () => {
    const right: Record<string, unknown> = {
      key: KEY,
      size: 1_000_000,
      pieceSize: pieceSizeFor(1_000_000),
      ...NAME,
      ranked: true,
      weight: 1,
      have: 'AA==',
      claimed: [0],
      onBlob: true,
      whole: false,
      originBytes: 5,
      pieces: [[0, 5]],
      node: 'node-a',
      pool: 'pool-a',
      address: '10.0.0.1:6181',
      members: [],
      wants: true,
      wantsPrefetch: false,
      using: 1,
      usingPrefetch: 1,
      usingMs: 1,
      granted: true,
      rate: 1,
      prefetchRate: 1,
      validMs: 1,
    };
    for (const parse of parsers.slice(0, 6)) expect(() => parse(right)).not.toThrow();
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(right)), fc.jsonValue({ maxDepth: 2 }), (field, value) =>
        parsers.every((parse) => refusesClearly(() => parse({ ...right, [field]: value }))),
      ),
      { ...RUNS, numRuns: 2_000 },
    );
  });

  it('in a query or a header is refused with a code', () => {
    const good = encodeAsk({
      key: KEY,
      layout: layoutOf(5_000_000),
      piece: 1,
      ...NAME,
      excluding: [],
      round: 0,
      priority: 0,
    });
    const fields = [...queryOf(good).keys(), 'via', 'excluding', 'holding', 'round', 'start', 'end', 'tag'];
    const value = fc.oneof(
      fc.string(),
      fc.constantFrom('-1', '1e9', '99999999999999999', '../..', '0x10', ' '),
    );
    fc.assert(
      fc.property(fc.constantFrom(...fields), value, (field, text) => {
        const query = queryOf(good);
        query.set(field, text);
        const headers = {
          [HEADER.node]: text,
          [HEADER.pool]: text,
          [HEADER.sha256]: text,
          [HEADER.address]: text,
        };
        return [
          () => parseAsk(query),
          () => parseUpstream(query),
          () => parseTagName(query),
          () => parseSender(headers),
          () => parseClaim(headers),
        ].every(refusesClearly);
      }),
      { ...RUNS, numRuns: 2_000 },
    );
  });
});

describe('bounds', () => {
  const join = {
    key: KEY,
    size: 1_000_000,
    pieceSize: 262_144,
    ...NAME,
    ranked: true,
    weight: 1,
    have: 'AA==',
    claimed: [],
  };

  it.each([
    ['claims past the last piece', { claimed: [4] }],
    ['negative claims', { claimed: [-1] }],
    ['ten thousand claims', { claimed: Array(10_000).fill(0) }],
    ['a map of another length', { have: 'AAAA' }],
    ['a blob larger than any', { size: MAX_BLOB_BYTES + 1 }],
    ['pieces of one byte', { pieceSize: 1 }],
    ['pieces of a gigabyte', { pieceSize: 1024 ** 3 }],
    ['a weight of a thousand', { weight: 1_000 }],
    ['a path for a repository', { repository: '../../etc' }],
    ['a URL for a registry', { registry: 'http://reg.example/' }],
  ])('a join with %s is refused', (_, change) => {
    expect(() => parseJoin(join)).not.toThrow();
    expect(() => parseJoin({ ...join, ...change })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });

  it('bits past the last piece are dropped: a map must not count more pieces than there are', () => {
    expect([...parseJoin({ ...join, have: '/w==' }).have]).toEqual([0b1111]);
  });

  it('an ask of a piece past the end, a range past any blob, and an empty range are refused', () => {
    const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT' });
    const ask = { key: KEY, layout: layoutOf(5_000_000), ...NAME, excluding: [], round: 0, priority: 0 };
    const pieces = ask.layout.pieceCount;
    expect(parseAsk(queryOf(encodeAsk({ ...ask, piece: pieces - 1 }))).piece).toBe(pieces - 1);
    expect(() => parseAsk(queryOf(encodeAsk({ ...ask, piece: pieces })))).toThrow(refused);
    const range = { ...NAME, key: KEY };
    for (const [start, end] of [
      [5, 5],
      [5, 4],
      [0, MAX_BLOB_BYTES + 1],
    ] as const) {
      expect(() => parseUpstream(queryOf(encodeUpstream({ ...range, start, end })))).toThrow(refused);
    }
  });

  it('neighbours live at literal addresses: a name would be looked up, a path would be dialled', () => {
    for (const good of ['10.0.0.1:6181', '[fd00::7]:6181']) expect(parseAddress(good)).toBe(good);
    for (const bad of [
      'node-a:6181',
      '10.0.0.1',
      'http://10.0.0.1:6181',
      '10.0.0.1:6181/x',
      '',
      '::1:6181',
      7,
    ]) {
      expect(() => parseAddress(bad)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
  });

  it('lists of digests and tags have an end', () => {
    const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT' });
    expect(parseDigests([KEY])).toEqual([KEY]);
    expect(() => parseDigests(Array(10_000).fill(KEY))).toThrow(refused);
    const tag = { ...NAME, tag: 'v1', digest: KEY, originAt: 5 };
    expect(parseTags([tag])).toEqual([tag]);
    expect(() => parseTags(Array(10_000).fill(tag))).toThrow(refused);
  });
});
