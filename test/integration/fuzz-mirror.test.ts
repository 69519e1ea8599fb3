import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestOf } from '../../shared/ids.ts';
import {
  bombard,
  GROWTH_BYTES,
  hostilePath,
  hostileRequests,
  inputs,
  MANY,
  rangeHeader,
  SLOWEST_MS,
  shoot,
  shown,
} from '../support/fuzz.ts';
import { type MirrorFixture, patternBytes, startMirror } from '../support/mirror-fixture.ts';

const BLOB = patternBytes(100_000);
const MANIFEST = Buffer.from('{"schemaVersion":2}');

describe(`the mirror under ${MANY} malformed requests`, () => {
  let fixture: MirrorFixture;
  beforeAll(async () => {
    fixture = await startMirror();
    fixture.content.addBlob(BLOB);
    fixture.content.addManifest(MANIFEST, 'application/json', 'docker.io/library/app:v1');
  });
  afterAll(() => fixture.mirror.stop());

  it('answers or refuses each at once, keeps nothing of them, and serves on', async () => {
    const blob = `/v2/library/app/blobs/${digestOf(BLOB)}`;
    const paths = fc.oneof(
      fc.constantFrom(blob, `${blob}?ns=docker.io`, '/v2/library/app/manifests/v1'),
      hostilePath([
        '/v2/',
        '/',
        '',
        '/v2/library/app/manifests/',
        '/v2/library/app/manifests/v1',
        '/v2/library/app/blobs/',
        blob,
        blob,
        '/v2/library/app/tags/list',
        'http://x/v2/',
      ]),
    );
    const given = inputs('the mirror', hostileRequests(paths, rangeHeader), 20_261_121);
    const at = { port: fixture.port, host: '127.0.0.1' };
    const outcome = await bombard(
      given,
      (bytes) => {
        // What the fake keeps of requests is the test's own.
        fixture.content.requests.length = 0;
        fixture.content.reads.length = 0;
        fixture.content.passed.length = 0;
        return shoot(at, bytes);
      },
      shown,
    );
    console.log(JSON.stringify({ ...outcome, slowest: undefined }));
    expect(outcome.unhandled).toEqual([]);
    expect(outcome.slowestMs, outcome.slowest).toBeLessThan(SLOWEST_MS);
    expect(outcome.growth).toBeLessThan(GROWTH_BYTES);
    // Nothing that a runtime would ask again at once, and no fault of our own.
    expect(Object.keys(outcome.statuses)).not.toEqual(expect.arrayContaining(['408']));
    expect(outcome.statuses).not.toHaveProperty('429');
    expect(outcome.statuses).not.toHaveProperty('500');
    expect(outcome.statuses['206'] ?? 0).toBeGreaterThan(10);
    await expect.poll(() => fixture.content.lent).toBe(0);
    expect(fixture.content.doubleReleases).toBe(0);
    const good = await fetch(`http://127.0.0.1:${fixture.port}${blob}?ns=docker.io`);
    expect(good.status).toBe(200);
    expect(Buffer.from(await good.arrayBuffer()).equals(BLOB)).toBe(true);
  });
});
