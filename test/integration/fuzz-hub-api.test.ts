/** The hub's API under malformed requests: its port, what lies behind its routes, and what nodes ask to be let in with. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROUTES } from '../../cloud/api/route-access.ts';
import { requestKeyId } from '../../cloud/trust/issue.ts';
import { makeRequest } from '../../edge/identity/request.ts';
import { isTidepoolError } from '../../shared/errors.ts';
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
import { type HubFixture, startTestHub } from '../support/hub-fixture.ts';

const DOCUMENTS = {
  'pools.yaml': `
apiVersion: apps.openyurt.io/v1beta2
kind: NodePool
metadata: {name: shop-1}
---
apiVersion: v1
kind: Node
metadata: {name: till-1, labels: {apps.openyurt.io/nodepool: shop-1}}
`,
};

let hub: HubFixture;
beforeAll(async () => {
  hub = await startTestHub({ files: DOCUMENTS });
});
afterAll(() => hub.close());

const hostileText = fc.oneof(
  fc.constantFrom(
    '',
    '..',
    '/',
    '\u0000',
    '__proto__',
    'shop-1',
    'till-1',
    'x'.repeat(70_000),
    '🦀',
    '-',
    'a/b#+',
  ),
  fc.string({ maxLength: 300 }),
);
/** What routes look for, and what they do not. */
const names = fc.oneof(
  fc.constantFrom(
    'id',
    'images',
    'image',
    'digest',
    'platforms',
    'pools',
    'nodes',
    'spec',
    'suspend',
    'pool',
  ),
  fc.constantFrom('ttlMs', 'uses', 'name', 'role', 'documents', 'data', 'statement', 'metadata', 'kind'),
  fc.constantFrom('__proto__', 'constructor', 'toString', ''),
);
const values = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    hostileText,
    fc.constantFrom(null, true, 0, -1, 1e308, 2 ** 53, 0.1),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(names, tie('value'), { maxKeys: 5 }),
  ),
})).value;
const deep = fc
  .integer({ min: 1, max: 30_000 })
  .map((depth) => `${'['.repeat(depth)}${depth % 2 === 0 ? ']'.repeat(depth) : ''}`);
const nearly = fc.record({
  id: fc.option(hostileText, { nil: undefined }),
  images: fc.array(
    fc.record({
      image: fc.oneof(fc.constant('reg.example/app:v1'), hostileText),
      platforms: fc.option(fc.array(hostileText, { maxLength: 3 }), { nil: undefined }),
    }),
    { maxLength: 3 },
  ),
  pools: fc.option(fc.array(fc.oneof(fc.constant('nowhere'), hostileText), { maxLength: 3 }), {
    nil: undefined,
  }),
  spec: fc.option(values, { nil: undefined }),
});
const bodies = fc.oneof(
  { weight: 4, arbitrary: values.map((value) => JSON.stringify(value)) },
  { weight: 4, arbitrary: nearly.map((value) => JSON.stringify(value)) },
  { weight: 1, arbitrary: deep },
  { weight: 1, arbitrary: hostileText },
);

/** A request that HTTP has nothing against, to a route that there is. */
const proper = fc
  .record({
    route: fc.constantFrom(...Object.keys(ROUTES)),
    name: fc.constantFrom('shop-1', 'till-1', 'nobody', '%00', '..%2f..', '__proto__', 'a'.repeat(300)),
    query: fc.constantFrom(
      '',
      '?force=true',
      '?dryRun=1',
      '?limit=-1',
      '?after=%00',
      '?__proto__=x',
      '?since=NaN',
    ),
    body: bodies,
    type: fc.constantFrom(
      'application/json',
      'application/json',
      'application/json',
      'text/plain',
      'application/yaml',
    ),
  })
  .map(({ route, name, query, body, type }) => {
    const [method = '', path = ''] = route.split(' ');
    const bytes = Buffer.from(body);
    return Buffer.concat([
      Buffer.from(
        `${method} ${path.replace(/:\w+/g, name)}${query} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n` +
          `Content-Type: ${type}\r\nContent-Length: ${bytes.length}\r\n\r\n`,
      ),
      bytes,
    ]);
  });
const rough = hostileRequests(
  hostilePath(['/', '/v1/', ...Object.keys(ROUTES).map((route) => route.split(' ')[1] ?? '/')]),
);

describe(`the hub’s API under ${MANY} malformed requests`, () => {
  it.each([
    ['rubbish', rough, 61_901],
    ['bodies', proper, 61_902],
  ] as const)('answers or refuses each at once, and serves on (%s)', async (what, arbitrary, seed) => {
    const [host = '', port = ''] = hub.hub.api.split(':');
    const given = inputs(`the hub's API, ${what}`, arbitrary, seed, INPUTS / 2);
    const outcome = await bombard(given, (bytes) => shoot({ host, port: Number(port) }, bytes), shown);
    console.log(JSON.stringify({ ...outcome, slowest: undefined }));
    expect(outcome.unhandled).toEqual([]);
    expect(outcome.slowestMs, outcome.slowest).toBeLessThan(SLOWEST_MS);
    expect(outcome.growth).toBeLessThan(GROWTH_BYTES);
    for (const status of ['500', 'no HTTP']) expect(outcome.statuses).not.toHaveProperty(status);
    expect(await hub.get('/healthz')).toMatchObject({ status: 'ok' });
    expect(await hub.get('/v1/pools')).toMatchObject([{ pool: 'shop-1', nodes: 1 }]);
  });
});

describe('requests for certificates', () => {
  it('of 3,000 that are nearly ones are read, or refused by their name', async () => {
    const { request } = await makeRequest('till-1');
    const base64 = request.replace(/-----[^-]+-----|\s/g, '');
    const der = Buffer.from(base64, 'base64');
    const pem = (bytes: Uint8Array): string =>
      `-----BEGIN CERTIFICATE REQUEST-----\n${Buffer.from(bytes).toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    const change = fc.tuple(fc.nat(der.length - 1), fc.nat(255));
    const arbitrary = fc.oneof(
      fc.array(change, { minLength: 1, maxLength: 4 }).map((changes) => {
        const bytes = Buffer.from(der);
        for (const [at, value] of changes) bytes[at] = value;
        return pem(bytes);
      }),
      fc.nat(der.length).map((length) => pem(der.subarray(0, length))),
      fc.uint8Array({ maxLength: 500 }).map(pem),
      hostileText,
    );
    const refused: Record<string, number> = {};
    for (const text of inputs('requests for certificates', arbitrary, 61_903, 3_000)) {
      try {
        await requestKeyId(text);
        refused.none = (refused.none ?? 0) + 1;
      } catch (error) {
        const code = isTidepoolError(error) ? error.code : String(error);
        refused[code] = (refused[code] ?? 0) + 1;
      }
    }
    console.log(JSON.stringify(refused));
    expect(Object.keys(refused).filter((code) => code !== 'none')).toEqual(['INVALID_ARGUMENT']);
  });
});
