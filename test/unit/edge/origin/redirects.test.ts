import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  errorOf,
  LAYER_BYTES,
  type OriginFixture,
  originFixture,
  REGISTRY,
  REPOSITORY,
  readAll,
} from '../../../support/origin-fixture.ts';
import type { SampleRequest } from '../../../support/registry/index.ts';
import { SkippingClock } from '../../../support/skipping-clock.ts';

const at = { registry: REGISTRY, repository: REPOSITORY };
const alice = { username: 'alice', password: 'secret' };

describe('redirects', () => {
  let fixture: OriginFixture;
  beforeEach(async () => {
    fixture = await originFixture();
  });
  afterEach(() => fixture.stop());

  const to = (location: string | ((request: SampleRequest) => string)): void => {
    fixture.registry.options.fault = (request) => ({
      status: 307,
      headers: { Location: typeof location === 'string' ? location : location(request) },
    });
  };

  it.each([301, 302, 303, 307, 308] as const)(
    'follows a %i to another host without Authorization',
    async (status) => {
      fixture.registry.options.auth = { kind: 'bearer', ...alice };
      fixture.registry.options.redirectBlobs = status;
      const origin = fixture.origin();
      const body = await origin.blob({
        ...at,
        digest: fixture.layer,
        start: 1000,
        end: 2000,
        credentials: alice,
      });
      expect(body).toMatchObject({ ranged: true, start: 1000, size: LAYER_BYTES });
      expect((await readAll(body)).length).toBe(1000);
      const [blob, redirected] = fixture.registry.requests.slice(-2);
      expect([blob?.kind, redirected?.kind]).toEqual(['blob', 'redirected-blob']);
      expect(blob?.authorization).toMatch(/^Bearer /);
      expect(redirected?.authorization).toBeUndefined();
      expect(redirected?.range).toBe('bytes=1000-1999');
    },
  );

  it('keeps Authorization within the host', async () => {
    fixture.registry.options.auth = { kind: 'basic', ...alice };
    fixture.registry.addImage('moved/here', 'v1', fixture.image);
    fixture.registry.options.fault = ({ repository, authorization }) =>
      repository === REPOSITORY && authorization !== undefined
        ? { status: 307, headers: { Location: '/v2/moved/here/manifests/v1' } }
        : undefined;
    const read = await fixture
      .origin()
      .manifest({ ...at, reference: 'v1', method: 'GET', credentials: alice });
    expect(read.digest).toBe(fixture.image.digest);
  });

  it('goes straight to where a blob was found for a minute, and back to the registry when that fails', async () => {
    const clock = new SkippingClock();
    fixture.registry.options.redirectBlobs = 307;
    const origin = fixture.origin({}, clock);
    const read = async () =>
      (await readAll(await origin.blob({ ...at, digest: fixture.layer, start: 0, end: 100 }))).length;
    const asked = () => fixture.registry.requests.filter(({ kind }) => kind === 'blob').length;
    for (let i = 0; i < 5; i++) expect(await read()).toBe(100);
    expect(asked()).toBe(1);
    let expired = true;
    fixture.registry.options.fault = ({ kind }) => {
      if (kind !== 'redirected-blob' || !expired) return undefined;
      expired = false;
      return { status: 403 };
    };
    expect(await read()).toBe(100);
    expect(asked()).toBe(2);
    clock.advance(61_000);
    expect(await read()).toBe(100);
    expect(asked()).toBe(3);
  });

  it('does not show one account what was found for another', async () => {
    fixture.registry.options.auth = { kind: 'basic', ...alice };
    fixture.registry.options.redirectBlobs = 307;
    const origin = fixture.origin();
    const ask = { ...at, digest: fixture.layer, start: 0, end: 100 };
    await readAll(await origin.blob({ ...ask, credentials: alice }));
    const other = origin.blob({ ...ask, credentials: { ...alice, password: 'guess' } });
    expect((await errorOf(other)).code).toBe('UNAUTHORIZED');
  });

  it('tells the size of a blob whose location is good for GET only', async () => {
    fixture.registry.options.redirectBlobs = 307;
    fixture.registry.options.fault = ({ kind, method }) =>
      kind === 'redirected-blob' && method === 'HEAD' ? { status: 403 } : undefined;
    expect(await fixture.origin().blobSize({ ...at, digest: fixture.layer })).toBe(LAYER_BYTES);
  });

  it('follows five, not six', async () => {
    const count = (left: number): void => {
      fixture.registry.options.fault = () =>
        left-- > 0 ? { status: 302, headers: { Location: `?again=${left}` } } : undefined;
    };
    const read = () => fixture.origin().manifest({ ...at, reference: 'v1', method: 'GET' });
    count(5);
    expect((await read()).digest).toBe(fixture.image.digest);
    count(6);
    const error = await errorOf(read());
    expect(error).toMatchObject({
      code: 'ORIGIN_ERROR',
      message: expect.stringContaining('more than 5 times'),
    });
  });

  it.each(['file:///etc/passwd', 'ftp://host/x', 'javascript:alert(1)', 'http://[', 'data:text/plain,x'])(
    'does not follow one to %s',
    async (location) => {
      to(location);
      const call = fixture.origin().manifest({ ...at, reference: 'v1', method: 'GET' });
      expect((await errorOf(call)).code).toBe('ORIGIN_ERROR');
      expect(fixture.registry.requests).toHaveLength(1);
    },
  );

  it('does not blame the registry for an object store that is down', async () => {
    to('http://127.0.0.1:1/gone');
    const origin = fixture.origin();
    const error = await errorOf(origin.blob({ ...at, digest: fixture.layer, start: 0 }));
    expect(error).toMatchObject({
      code: 'ORIGIN_UNREACHABLE',
      message: expect.stringContaining('127.0.0.1:1'),
    });
    expect(origin.downSince(REGISTRY)).toBeUndefined();
    fixture.registry.options.fault = undefined;
    expect((await origin.manifest({ ...at, reference: 'v1', method: 'HEAD' })).digest).toBe(
      fixture.image.digest,
    );
  });
});
