import { connect } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeAskHead, encodeOpening, encodeWithdrawal } from '../../edge/peers/channel-wire.ts';
import { parseKey } from '../../edge/peers/wire/fields.ts';
import { parseJoin, parseJoinAnswer, parseProgress } from '../../edge/peers/wire/join.ts';
import { parseLeaseAnswer, parseLeaseRequest } from '../../edge/peers/wire/lease.ts';
import { parseHello } from '../../edge/peers/wire/members.ts';
import { PATHS } from '../../edge/peers/wire/paths.ts';
import { parseAsk, parseUpstream } from '../../edge/peers/wire/piece.ts';
import { parseDigests, parseSize, parseTagName, parseTags } from '../../edge/peers/wire/records.ts';
import { isTidepoolError } from '../../shared/errors.ts';
import { layoutOf } from '../../shared/pieces.ts';
import {
  bombard,
  GROWTH_BYTES,
  hostilePath,
  hostileRequests,
  INPUTS,
  inputs,
  MANY,
  SLOWEST_MS,
  shoot,
  shown,
} from '../support/fuzz.ts';
import { patternBytes } from '../support/mirror-fixture.ts';
import {
  CLIENT_NODE,
  HeldBlob,
  NAME,
  POOL,
  peerServer,
  type ServerFixture,
} from '../support/peer-fixture.ts';

const blob = new HeldBlob(patternBytes(600_000));
const WHERE = `key=${blob.key}&size=600000&pieceSize=${blob.layout.pieceSize}&registry=${NAME.registry}&repository=${NAME.repository}`;

const paths = fc.oneof(
  fc.constantFrom(
    ...Object.values(PATHS),
    `/v1/piece?${WHERE}&piece=0`,
    `/v1/progress?${WHERE}`,
    '/v1/join',
    '/v1/join',
    '/v1/lease',
  ),
  hostilePath([
    '/v1/',
    '/',
    `/v1/piece?${WHERE}&piece=`,
    '/v1/upstream?',
    '/v1/tags?registry=',
    '/v1/join',
    '/v1/lease',
    '',
  ]),
);
const sender = fc.constantFrom<readonly [string, string]>(
  ['tidepool-pool', POOL],
  ['tidepool-pool', 'other'],
  ['tidepool-node', CLIENT_NODE],
  ['tidepool-node', '../x'],
  ['tidepool-address', '127.0.0.1:2'],
  ['tidepool-address', 'name:1'],
);
/** Behind the door: from a member, with a body that has a length. */
const known = fc
  .tuple(
    fc.constantFrom('GET', 'POST', 'PUT'),
    paths,
    fc.oneof(
      fc.constant(''),
      fc.json({ maxDepth: 4 }),
      fc
        .record(
          {
            key: fc.constantFrom<unknown>(blob.key, 'sha256:x', 7),
            size: fc.oneof(fc.constant(600_000), fc.double(), fc.constant('x')),
            pieceSize: fc.oneof(fc.constant(blob.layout.pieceSize), fc.integer()),
            registry: fc.constantFrom<unknown>(NAME.registry, '', null),
            repository: fc.constantFrom<unknown>(NAME.repository, '../..', null),
            ranked: fc.jsonValue(),
            weight: fc.oneof(fc.constant(1), fc.double()),
            have: fc.oneof(fc.base64String(), fc.jsonValue()),
            claimed: fc.oneof(fc.array(fc.integer()), fc.jsonValue()),
            wants: fc.boolean(),
            using: fc.double(),
          },
          { requiredKeys: [] },
        )
        .map((fields) => JSON.stringify(fields)),
      fc.integer({ min: 1, max: 2_000 }).map((depth) => '['.repeat(depth)),
    ),
  )
  .map(([method, path, body]) =>
    Buffer.from(
      `${method} ${encodeURI(path.startsWith('/') ? path : `/${path}`)} HTTP/1.1\r\nHost: x\r\ntidepool-pool: ${POOL}\r\ntidepool-node: ${CLIENT_NODE}\r\ntidepool-address: 127.0.0.1:2\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    ),
  );

describe(`the peer API under ${MANY} malformed requests`, () => {
  let fixture: ServerFixture;
  beforeAll(async () => {
    fixture = await peerServer([blob]);
  });
  afterAll(() => fixture.stop());

  it('answers or refuses each at once, keeps nothing of them, and serves on', async () => {
    const requests = fc.oneof(
      { weight: 2, arbitrary: hostileRequests(paths, sender) },
      { weight: 3, arbitrary: known },
    );
    const given = inputs('the peer API', requests, 6_181);
    const outcome = await bombard(
      given,
      (bytes) => shoot({ port: fixture.port, host: '127.0.0.1' }, bytes),
      shown,
    );
    console.log(JSON.stringify({ ...outcome, slowest: undefined }));
    expect(outcome.unhandled).toEqual([]);
    expect(outcome.slowestMs, outcome.slowest).toBeLessThan(SLOWEST_MS);
    expect(outcome.growth).toBeLessThan(GROWTH_BYTES);
    expect(outcome.statuses).not.toHaveProperty('500');
    expect(outcome.statuses['200'] ?? 0).toBeGreaterThan(INPUTS / 100);
    await expect.poll(() => blob.lent).toBe(0);
    const headers = {
      'tidepool-pool': POOL,
      'tidepool-node': CLIENT_NODE,
      'tidepool-address': '127.0.0.1:2',
    };
    const hello = await fetch(`http://${fixture.address}/v1/hello`, { headers });
    expect(hello.status).toBe(200);
  });
});

describe(`a channel under ${MANY} openings with malformed asks`, () => {
  const opening = encodeOpening(
    'x',
    `tidepool-pool: ${POOL}\r\ntidepool-node: ${CLIENT_NODE}\r\ntidepool-address: 127.0.0.1:2\r\n`,
  );
  const rubbish = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    fc.constantFrom(
      ...[
        'GET / HTTP/1.1\r\n\r\n',
        'GET /v1/hello HTTP/1.1\r\ntidepool-ask: -1\r\n\r\n',
        'POST /v1/join HTTP/1.1\r\ntidepool-ask: 7\r\ncontent-length: 999999999\r\n\r\n',
        'POST /v1/join HTTP/1.1\r\ntidepool-ask: 7\r\ncontent-length: 9\r\n\r\n{',
        'GET /v1/hello HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n',
        `GET /${'x'.repeat(20_000)} HTTP/1.1\r\n`,
        '\r\n\r\n',
      ].map((text) => Buffer.from(text)),
    ),
    fc.nat(3).map((number) => Buffer.from(encodeWithdrawal(number))),
  );
  const asked = fc
    .tuple(fc.nat(3), fc.constantFrom('GET', 'POST'), paths, fc.oneof(fc.constant(''), fc.json()))
    .map(([number, method, path, text]) => {
      const body = Buffer.from(text);
      const ask = { method: method === 'GET' ? 'GET' : 'POST', path: encodeURI(path), body } as const;
      return Buffer.concat([Buffer.from(encodeAskHead(number, ask)), body]);
    });
  const words = fc.array(fc.oneof(rubbish, asked, asked), { minLength: 1, maxLength: 4 });
  let fixture: ServerFixture;
  beforeAll(async () => {
    fixture = await peerServer([blob], { limits: { headersTimeoutMs: 60, requestTimeoutMs: 60 } });
  });
  afterAll(() => fixture.stop());

  /** What the first ask is answered with, or how it ends otherwise. */
  const put = (said: readonly Buffer[]): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect({ port: fixture.port, host: '127.0.0.1' });
      let text = '';
      const end = (how: string): void => {
        socket.destroy();
        resolve(how);
      };
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1').slice(0, 500);
        const status = [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)][1]?.[1];
        if (status !== undefined) end(status);
      });
      socket.on('error', () => undefined);
      socket.on('close', () => end('hung up'));
      // Where all before it is whole, the last one is answered; where it is not, the server's patience ends.
      const last = encodeAskHead(9, { method: 'GET', path: PATHS.hello });
      socket.write(Buffer.concat([Buffer.from(opening), ...said, Buffer.from(last)]));
    });

  it('answers or hangs up, keeps nothing of them, and serves on', async () => {
    const given = inputs('a channel', words, 6_185);
    const outcome = await bombard(given, put, (said) => shown(Buffer.concat(said)));
    expect(outcome.unhandled).toEqual([]);
    expect(outcome.slowestMs, outcome.slowest).toBeLessThan(SLOWEST_MS);
    expect(outcome.growth).toBeLessThan(GROWTH_BYTES);
    expect(outcome.statuses).not.toHaveProperty('500');
    expect(outcome.statuses['200'] ?? 0).toBeGreaterThan(INPUTS / 100);
    expect(outcome.statuses['hung up'] ?? 0).toBeGreaterThan(INPUTS / 100);
    await expect.poll(() => blob.lent).toBe(0);
  });
});

describe(`the words of a neighbour, ${MANY} of them`, () => {
  const layout = layoutOf(600_000);
  const json: readonly ((value: unknown) => unknown)[] = [
    parseJoin,
    (value) => parseJoinAnswer(value, layout),
    parseProgress,
    parseHello,
    parseLeaseRequest,
    parseLeaseAnswer,
    parseTags,
    parseDigests,
    parseSize,
  ];
  const queries: readonly ((query: URLSearchParams) => unknown)[] = [
    parseAsk,
    parseUpstream,
    parseKey,
    parseTagName,
  ];

  it('become values or an error with a code', async () => {
    const value = fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.dictionary(
        fc.constantFrom(
          'key',
          'size',
          'pieceSize',
          'have',
          'claimed',
          'whole',
          'weight',
          'onBlob',
          'node',
          'pool',
          'address',
          'members',
          'pieces',
          'originBytes',
          'granted',
          'rate',
          'validMs',
          'registry',
          'repository',
          'piece',
          'start',
          'end',
          'others',
          '__proto__',
        ),
        fc.oneof(
          fc.jsonValue({ maxDepth: 2 }),
          fc.constantFrom(blob.key, 600_000, -1, 1e308, '', 'a'.repeat(5_000), [[]], { length: 1e9 }),
        ),
      ),
    );
    const given = inputs('what neighbours say', value, 6_184, INPUTS);
    const outcome = await bombard(
      given,
      async (said) => {
        const text =
          typeof said === 'object' && said !== null
            ? Object.entries(said).map(([key, each]): [string, string] => [key, String(each)])
            : [];
        const calls = [
          ...json.map((parse) => () => parse(said)),
          ...queries.map((parse) => () => parse(new URLSearchParams(text))),
        ];
        for (const call of calls) {
          try {
            call();
          } catch (error) {
            if (!isTidepoolError(error)) throw error;
          }
        }
        return 'parsed';
      },
      (said) => JSON.stringify(said).slice(0, 500),
    );
    console.log(JSON.stringify({ ...outcome, slowest: undefined }));
    expect(outcome.slowestMs, outcome.slowest).toBeLessThan(SLOWEST_MS);
    expect(outcome.growth).toBeLessThan(GROWTH_BYTES);
  });
});
