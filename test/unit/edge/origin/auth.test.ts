import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Credentials } from '../../../../edge/origin/types.ts';
import { parseTokenAnswer } from '../../../../shared/registry/token-answer.ts';
import {
  errorOf,
  LAYER_BYTES,
  type OriginFixture,
  originFixture,
  REGISTRY,
  REPOSITORY,
  readAll,
} from '../../../support/origin-fixture.ts';
import { type AuthInit, SampleRegistry } from '../../../support/registry/index.ts';
import { SkippingClock } from '../../../support/skipping-clock.ts';

const at = { registry: REGISTRY, repository: REPOSITORY };
const alice: Credentials = { username: 'alice', password: 's3cret:with colon' };
const mallory: Credentials = { username: 'alice', password: 'guess' };
const manifest = { ...at, reference: 'v1', method: 'GET' } as const;

describe('access to registries', () => {
  let fixture: OriginFixture;
  beforeEach(async () => {
    fixture = await originFixture();
  });
  afterEach(() => fixture.stop());

  const guard = (auth: Partial<AuthInit>): void => {
    fixture.registry.options.auth = { kind: 'bearer', ...alice, ...auth };
  };
  const kinds = (): string[] => fixture.registry.requests.map(({ kind, status }) => `${kind} ${status}`);
  const tokenRequests = (): number => fixture.registry.requests.filter(({ kind }) => kind === 'token').length;

  it.each(['basic', 'bearer'] as const)(
    'reads with an account where the registry asks for %s',
    async (kind) => {
      guard({ kind });
      const origin = fixture.origin();
      const read = await origin.manifest({ ...manifest, credentials: alice });
      expect(read.digest).toBe(fixture.image.digest);
      expect(fixture.registry.requests[0]?.authorization).toBeUndefined();
      const body = await origin.blob({ ...at, digest: fixture.layer, start: 0, credentials: alice });
      expect((await readAll(body)).length).toBe(LAYER_BYTES);
      const asked = ['manifest 401', ...(kind === 'bearer' ? ['token 200'] : []), 'manifest 200', 'blob 206'];
      expect(kinds()).toEqual(asked);
    },
  );

  it.each(['basic', 'bearer'] as const)(
    'says UNAUTHORIZED without an account, or with a wrong one (%s)',
    async (kind) => {
      guard({ kind });
      const origin = fixture.origin();
      const none = await errorOf(origin.manifest(manifest));
      expect(none).toMatchObject({
        code: 'UNAUTHORIZED',
        message: expect.stringContaining('none was given'),
      });
      const wrong = await errorOf(origin.manifest({ ...manifest, credentials: mallory }));
      expect(wrong.code).toBe('UNAUTHORIZED');
      expect(wrong.message).not.toContain('guess');
      const right = await origin.manifest({ ...manifest, credentials: alice });
      expect(right.digest).toBe(fixture.image.digest);
    },
  );

  it('says UNAUTHORIZED when an anonymous token opens nothing', async () => {
    guard({ anonymousToken: 'empty' });
    expect((await errorOf(fixture.origin().manifest(manifest))).code).toBe('UNAUTHORIZED');
    expect(kinds()).toEqual(['manifest 401', 'token 200', 'manifest 401']);
  });

  it('takes an anonymous token where pulls are open to all', async () => {
    guard({ anonymousPull: true });
    expect((await fixture.origin().manifest(manifest)).digest).toBe(fixture.image.digest);
    const token = fixture.registry.requests.find(({ kind }) => kind === 'token');
    expect(token?.authorization).toBeUndefined();
    expect(token?.query.get('scope')).toBe(`repository:${REPOSITORY}:pull`);
    expect(token?.query.get('service')).toBe('sample-registry');
  });

  it('says DENIED where the account may not read', async () => {
    guard({ denied: [REPOSITORY] });
    expect((await errorOf(fixture.origin().manifest({ ...manifest, credentials: alice }))).code).toBe(
      'DENIED',
    );
  });

  it.each(['token', 'access_token'] as const)('takes the token from the field %s', async (tokenField) => {
    guard({ tokenField, anonymousPull: true });
    expect((await fixture.origin().manifest(manifest)).digest).toBe(fixture.image.digest);
  });

  it('fetches one token for fifty pulls at once, and renews it once for all', async () => {
    guard({});
    const origin = fixture.origin();
    const pull = () => origin.manifest({ ...manifest, credentials: alice });
    await Promise.all(Array.from({ length: 50 }, pull));
    expect(tokenRequests()).toBe(1);
    fixture.registry.revokeTokens();
    await Promise.all(Array.from({ length: 50 }, pull));
    expect(tokenRequests()).toBe(2);
  });

  it('keeps the tokens of two accounts apart', async () => {
    guard({});
    const origin = fixture.origin();
    await origin.manifest({ ...manifest, credentials: alice });
    expect((await errorOf(origin.manifest({ ...manifest, credentials: mallory }))).code).toBe('UNAUTHORIZED');
    expect((await errorOf(origin.manifest(manifest))).code).toBe('UNAUTHORIZED');
  });

  it('renews a token before it ends, and not sooner', async () => {
    const clock = new SkippingClock();
    const [registry, image] = [new SampleRegistry({ clock }), fixture.image];
    registry.options.auth = { kind: 'bearer', ...alice, expiresIn: 100 };
    registry.addImage(REPOSITORY, 'v1', image);
    await registry.start('127.0.0.1');
    const origin = fixture.origin({ registries: { [REGISTRY]: { url: registry.url } } }, clock);
    const tokens = () => registry.requests.filter(({ kind }) => kind === 'token').length;
    const refused = () =>
      registry.requests.filter(({ kind, status }) => kind === 'manifest' && status === 401).length;
    await origin.manifest({ ...manifest, credentials: alice });
    clock.advance(80_000);
    await origin.manifest({ ...manifest, credentials: alice });
    expect([tokens(), refused()]).toEqual([1, 1]);
    clock.advance(12_000);
    await origin.manifest({ ...manifest, credentials: alice });
    // Renewed in the last ten seconds of its life: the registry has not had to refuse it.
    expect([tokens(), refused()]).toEqual([2, 1]);
    await registry.stop();
  });

  it('renews a revoked token once, and then says UNAUTHORIZED', async () => {
    guard({});
    const origin = fixture.origin();
    await origin.manifest({ ...manifest, credentials: alice });
    fixture.registry.resetCounters();
    fixture.registry.options.fault = ({ kind }) =>
      kind === 'token' ? { body: Buffer.from('{"token":"bad"}') } : undefined;
    fixture.registry.revokeTokens();
    expect((await errorOf(origin.manifest({ ...manifest, credentials: alice }))).code).toBe('UNAUTHORIZED');
    expect(kinds()).toEqual(['manifest 401', 'token 200', 'manifest 401']);
  });

  it('fetches blobs, but no tags, with an account that worked a while ago', async () => {
    guard({});
    const clock = new SkippingClock();
    const origin = fixture.origin({}, clock);
    const blob = () => origin.blob({ ...at, digest: fixture.layer, start: 0 });
    expect((await errorOf(blob())).code).toBe('UNAUTHORIZED');
    await origin.manifest({ ...manifest, credentials: alice });
    expect((await readAll(await blob())).length).toBe(LAYER_BYTES);
    expect((await errorOf(origin.manifest(manifest))).code).toBe('UNAUTHORIZED');
    const tags = { ...at, path: 'tags/list', query: '', method: 'GET' } as const;
    expect((await errorOf(origin.passThrough(tags))).code).toBe('UNAUTHORIZED');
    // Another repository is another matter.
    fixture.registry.addImage('library/other', 'v1', fixture.image);
    const other = { registry: REGISTRY, repository: 'library/other', digest: fixture.layer, start: 0 };
    expect((await errorOf(origin.blob(other))).code).toBe('UNAUTHORIZED');
    clock.advance(11 * 60_000);
    expect((await errorOf(blob())).code).toBe('UNAUTHORIZED');
  });

  it('goes on without an account once the remembered one is refused', async () => {
    guard({ kind: 'basic' });
    const origin = fixture.origin();
    await origin.manifest({ ...manifest, credentials: alice });
    guard({ kind: 'basic', password: 'changed', anonymousPull: true });
    const body = await origin.blob({ ...at, digest: fixture.layer, start: 0 });
    expect((await readAll(body)).length).toBe(LAYER_BYTES);
  });

  it.each([
    ['of another scheme', 'ftp://auth.test/token'],
    ['with an account in it', 'http://user:pw@127.0.0.1:1/token'],
    ['that is no URL', 'http://[/token'],
  ])('sends no account to a realm %s', async (_, realm) => {
    guard({ realm });
    expect((await errorOf(fixture.origin().manifest({ ...manifest, credentials: alice }))).code).toBe(
      'ORIGIN_ERROR',
    );
  });

  it('says so when the token service sends no token, too much, or an error', async () => {
    guard({});
    const pull = () => errorOf(fixture.origin().manifest({ ...manifest, credentials: alice }));
    for (const body of [
      '',
      '{}',
      '[]',
      'null',
      '{"token":7}',
      '{"token":"a\\r\\nX: y"}',
      `{"token":"${'a'.repeat(70_000)}"}`,
    ]) {
      fixture.registry.options.fault = ({ kind }) =>
        kind === 'token' ? { body: Buffer.from(body) } : undefined;
      expect((await pull()).code).toBe('ORIGIN_ERROR');
    }
    for (const [status, code] of [
      [403, 'DENIED'],
      [500, 'ORIGIN_ERROR'],
    ] as const) {
      fixture.registry.options.fault = ({ kind }) => (kind === 'token' ? { status } : undefined);
      expect((await pull()).code).toBe(code);
    }
  });

  it('does not answer the challenge of a host that it was redirected to', async () => {
    guard({});
    fixture.registry.options.redirectBlobs = 307;
    fixture.registry.options.fault = ({ kind }) =>
      kind === 'redirected-blob'
        ? { status: 401, headers: { 'WWW-Authenticate': 'Basic realm="give it to me"' } }
        : undefined;
    const call = fixture.origin().blob({ ...at, digest: fixture.layer, start: 0, credentials: alice });
    expect((await errorOf(call)).code).toBe('ORIGIN_ERROR');
    for (const { kind, authorization } of fixture.registry.requests) {
      if (kind === 'redirected-blob') expect(authorization).toBeUndefined();
    }
  });
});

describe('parseTokenAnswer', () => {
  it.each([
    ['{"token":"a","expires_in":300}', { value: 'a', lifeMs: 300_000 }],
    ['{"access_token":"b"}', { value: 'b', lifeMs: 60_000 }],
    ['{"token":"","access_token":"b"}', { value: 'b', lifeMs: 60_000 }],
    ['{"token":"a","expires_in":-1}', { value: 'a', lifeMs: 60_000 }],
    ['{"token":"a","expires_in":"soon"}', { value: 'a', lifeMs: 60_000 }],
    ['{"token":"a","expires_in":1e12}', { value: 'a', lifeMs: 3600_000 }],
    ['{"token":"a b"}', undefined],
    ['<html>', undefined],
  ])('reads %s', (text, expected) => {
    expect(parseTokenAnswer(text)).toEqual(expected);
  });
});
