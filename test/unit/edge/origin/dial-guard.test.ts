import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DialGuard, DialRefused, type Resolve } from '../../../../edge/origin/dial-guard.ts';
import {
  errorOf,
  LAYER_BYTES,
  type OriginFixture,
  originFixture,
  REGISTRY,
  REPOSITORY,
  readAll,
} from '../../../support/origin-fixture.ts';

const at = { registry: REGISTRY, repository: REPOSITORY };
const manifest = { ...at, reference: 'v1', method: 'GET' } as const;
const alice = { username: 'alice', password: 's3cret' };

/** A name server with answers of the test's choosing, one after the other; the last stays. */
function names(...answers: readonly (readonly string[])[]): Resolve & { asked: string[] } {
  const asked: string[] = [];
  const resolve: Resolve = (host, _options, done) => {
    const answer = answers[Math.min(asked.length, answers.length - 1)] ?? [];
    asked.push(host);
    const found = answer.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
    queueMicrotask(() => done(null, found));
  };
  return Object.assign(resolve, { asked });
}

/** A service of the node or its network that nobody outside may reach through the agent. */
class Inner {
  requests = 0;
  readonly #server: Server = createServer((_request, response) => {
    this.requests++;
    response.end('inner secrets');
  });

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', () => resolve()));
    return this;
  }

  get port(): number {
    const { port }: AddressInfo = Object(this.#server.address());
    return port;
  }

  stop(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

describe('where an origin may send the agent', () => {
  let fixture: OriginFixture;
  let inner: Inner;
  beforeEach(async () => {
    fixture = await originFixture();
    inner = await new Inner().start();
  });
  afterEach(async () => {
    await inner.stop();
    await fixture.stop();
  });

  const redirectTo = (location: string): void => {
    fixture.registry.options.fault = ({ kind }) =>
      kind === 'blob' || kind === 'manifest' ? { status: 307, headers: { Location: location } } : undefined;
  };

  it.each([
    'http://169.254.169.254/latest/meta-data/iam/',
    'http://[::ffff:169.254.169.254]/latest/',
    'http://[64:ff9b::a9fe:a9fe]/latest/',
    'http://0xa9fea9fe/latest/',
    'http://10.0.0.1/',
    'http://192.168.1.1/',
    'http://100.100.100.200/latest/meta-data/',
    'http://[fd00:ec2::254]/latest/',
    'http://[fe80::1]/',
    'http://0.0.0.0:6182/v1/status',
    'http://[::1]:6182/v1/status',
  ])('follows no redirect to %s, neither for manifests nor for blobs', async (location) => {
    redirectTo(location);
    const origin = fixture.origin({ allowAddresses: [] });
    for (const call of [
      () => origin.blob({ ...at, digest: fixture.layer, start: 0 }),
      () => origin.manifest(manifest),
      () => origin.blobSize({ ...at, digest: fixture.layer }),
    ]) {
      const error = await errorOf(call());
      expect(error.code).toBe('ORIGIN_ERROR');
      expect(error.message).toContain('allowAddresses');
    }
    expect(origin.downSince(REGISTRY)).toBeUndefined();
  });

  it('follows none to another port of the node itself, though the registry is on it', async () => {
    redirectTo(`http://127.0.0.1:${inner.port}/v1/status`);
    const error = await errorOf(
      fixture.origin({ allowAddresses: [] }).blob({ ...at, digest: fixture.layer, start: 0 }),
    );
    expect(error.message).toContain('a loopback address');
    expect(inner.requests).toBe(0);
  });

  it.each(['blob', 'manifest'] as const)(
    'follows none to a name that means an inner address (%s)',
    async (what) => {
      redirectTo(`http://cdn.example:${inner.port}/x`);
      const resolve = names(['127.0.0.1']);
      const origin = fixture.origin({ allowAddresses: [], resolve });
      const call =
        what === 'blob'
          ? origin.blob({ ...at, digest: fixture.layer, start: 0 })
          : origin.manifest({ ...manifest, method: 'GET' });
      const error = await errorOf(call);
      expect(error).toMatchObject({
        code: 'ORIGIN_ERROR',
        message: expect.stringContaining('cdn.example is at 127.0.0.1'),
      });
      expect(resolve.asked).toEqual(['cdn.example']);
      expect(inner.requests).toBe(0);
    },
  );

  it('connects to the address that was checked, whatever the name means a moment later', async () => {
    // Of the two addresses that the name has, only the one that is allowed is tried; asked once a connection.
    const resolve = names(['127.0.0.9', '127.0.0.1'], ['127.0.0.9']);
    redirectTo(`http://rebinding.example:${inner.port}/`);
    const picky = fixture.origin({ allowAddresses: ['127.0.0.1/32'], resolve });
    const body = await picky.blob({ ...at, digest: fixture.layer, start: 0, end: 10 });
    expect((await readAll(body)).toString()).toBe('inner secrets');
    expect([inner.requests, resolve.asked.length]).toEqual([1, 1]);
  });

  it('follows one to what is allowed, and sends no account along', async () => {
    fixture.registry.options.auth = { kind: 'basic', ...alice };
    fixture.registry.options.redirectBlobs = 307;
    const origin = fixture.origin({ allowAddresses: ['127.0.0.0/8'] });
    const body = await origin.blob({ ...at, digest: fixture.layer, start: 0, credentials: alice });
    expect((await readAll(body)).length).toBe(LAYER_BYTES);
    expect(fixture.registry.requests.at(-1)).toMatchObject({
      kind: 'redirected-blob',
      authorization: undefined,
    });
  });

  it('dials no inner address for a registry that nobody configured', async () => {
    const literal = `127.0.0.1:${inner.port}`;
    const resolve = names(['10.0.0.1']);
    const open = fixture.origin({ registries: {}, openRegistries: true, allowAddresses: [], resolve });
    const refused = await errorOf(open.manifest({ ...manifest, registry: literal }));
    expect(refused).toMatchObject({
      code: 'REGISTRY_NOT_CONFIGURED',
      message: expect.stringContaining('allowAddresses'),
    });
    // A name server that lies (a captive portal does) is an outage: what the pool has may serve.
    const hijacked = await errorOf(open.manifest({ ...manifest, registry: 'registry.example' }));
    expect(hijacked).toMatchObject({
      code: 'ORIGIN_UNREACHABLE',
      message: expect.stringContaining('registry.example is at 10.0.0.1, a private address'),
    });
    expect(inner.requests).toBe(0);
  });

  it('asks no token service at an inner address, account or none', async () => {
    const realm = `http://127.0.0.1:${inner.port}/token`;
    fixture.registry.options.auth = { kind: 'bearer', ...alice, realm };
    const origin = fixture.origin({ allowAddresses: [] });
    expect((await errorOf(origin.manifest(manifest))).message).toContain('allowAddresses');
    expect((await errorOf(origin.manifest({ ...manifest, credentials: alice }))).code).toBe('ORIGIN_ERROR');
    expect(inner.requests).toBe(0);
  });

  it('sends an account to no token service that is not the registry’s own, and names the setting', async () => {
    const realm = `http://localhost:${inner.port}/token`;
    fixture.registry.options.auth = { kind: 'bearer', ...alice, realm };
    const error = await errorOf(fixture.origin().manifest({ ...manifest, credentials: alice }));
    expect(error).toMatchObject({
      code: 'ORIGIN_ERROR',
      message: expect.stringContaining(`realms: ["localhost:${inner.port}"]`),
    });
    expect(error.message).not.toContain(alice.password);
    expect(inner.requests).toBe(0);
    const registries = { [REGISTRY]: { url: fixture.registry.url, realms: ['localhost'] } };
    await errorOf(fixture.origin({ registries }).manifest({ ...manifest, credentials: alice }));
    expect(inner.requests).toBe(1);
  });
});

describe('DialGuard', () => {
  it('trusts a configured host at any port, on the node itself at its own alone', () => {
    const guard = new DialGuard({
      configured: [new URL('http://10.0.0.1:5000'), new URL('http://127.0.0.1:5000')],
      allow: [],
    });
    expect(guard.trusts(new URL('http://10.0.0.1:9000/x'))).toBe(true);
    expect(guard.trusts(new URL('http://127.0.0.1:5000/x'))).toBe(true);
    expect(guard.trusts(new URL('http://127.0.0.1:6182/x'))).toBe(false);
    expect(guard.trusts(new URL('http://10.0.0.2:5000/x'))).toBe(false);
    expect(() => guard.checkLiteral(new URL('http://10.0.0.2/'))).toThrow(DialRefused);
    expect(() => guard.checkLiteral(new URL('http://8.8.8.8/'))).not.toThrow();
  });
});
