import { EventEmitter, once } from 'node:events';
import type { AddressInfo } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TidepoolError } from '../../../../shared/errors.ts';
import { parseKeyId } from '../../../../shared/trust/certificate.ts';
import { clientTls, peerPrincipal, serverTls, TrustedSockets } from '../../../../shared/trust/tls.ts';
import type { KeyId, Principal, TlsIdentity } from '../../../../shared/trust/types.ts';
import { TestAuthority, type TestIdentity } from '../../../support/trust.ts';

describe('mutual TLS', () => {
  let authority: TestAuthority;
  let server: TestIdentity;
  let client: TestIdentity;
  const closing: (() => void)[] = [];

  beforeAll(async () => {
    authority = await TestAuthority.make();
    server = await authority.node('server', 'shop');
    client = await authority.node('client', 'shop');
  });
  afterEach(() => {
    for (const close of closing.splice(0)) close();
  });

  /** Listens as `server`; the answers say who has come, or why not. */
  async function listen(identity: TestIdentity, trusted: TrustedSockets): Promise<number> {
    const listener = tls.createServer(serverTls(identity), (socket) => {
      socket.on('error', () => undefined);
      try {
        const found = trusted.admit(socket);
        socket.write(found.kind === 'node' ? found.node : found.kind);
      } catch (error) {
        socket.end(error instanceof Error ? error.message : 'refused');
      }
    });
    closing.push(() => listener.close());
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    return (listener.address() as AddressInfo).port;
  }

  function connect(port: number, identity?: TestIdentity): tls.TLSSocket {
    const socket = tls.connect({
      host: '127.0.0.1',
      port,
      ...(identity === undefined ? { rejectUnauthorized: false } : clientTls(identity)),
    });
    socket.on('error', () => undefined);
    closing.push(() => socket.destroy());
    return socket;
  }

  async function said(socket: tls.TLSSocket): Promise<string> {
    const [chunk] = await once(socket, 'data');
    return String(chunk);
  }

  it('tells both ends who the other is', async () => {
    const trusted = new TrustedSockets(server);
    const socket = connect(await listen(server, trusted), client);
    expect(await said(socket)).toBe('client');
    const found: Principal = peerPrincipal(socket, client);
    expect(found).toMatchObject({ kind: 'node', node: 'server' });
    expect(socket.getProtocol()).toBe('TLSv1.3');
  });

  it('refuses a caller without a certificate, and one of another authority', async () => {
    const trusted = new TrustedSockets(server);
    const port = await listen(server, trusted);
    expect(await said(connect(port))).toMatch(/none was shown/);
    const stranger = await (await TestAuthority.make()).node('client', 'shop');
    expect(await said(connect(port, stranger))).toMatch(/no authority/);
  });

  it('closes the connections of what is revoked, and keeps them when our own certificate changes', async () => {
    const trusted = new TrustedSockets(server);
    const port = await listen(server, trusted);
    const mine = connect(port, client);
    const other = connect(port, await authority.node('other', 'shop'));
    await Promise.all([said(mine), said(other)]);
    server.replace((await authority.node('server', 'shop')).current());
    const gone = once(mine, 'close');
    server.revoke(client.keyId);
    await gone;
    expect(other.destroyed).toBe(false);
    expect(await said(connect(port, client))).toMatch(/revoked/);
  });

  it('closes them at the caller’s end too', async () => {
    const port = await listen(server, new TrustedSockets(server));
    const caller = await authority.node('caller', 'shop');
    const trusted = new TrustedSockets(caller);
    const socket = connect(port, caller);
    socket.on('error', () => undefined);
    await said(socket);
    expect(trusted.admit(socket)).toMatchObject({ node: 'server' });
    expect(peerPrincipal(socket, caller)).toMatchObject({ node: 'server' });
    caller.revoke(server.keyId);
    await new Promise((resolve) => socket.once('close', resolve));
    trusted.close();
  });
});

describe('a change of trust among thousands of connections', () => {
  const COUNT = 2_000;
  class FakeSocket extends EventEmitter {
    readonly #raw: Uint8Array;
    destroyed = false;

    constructor(raw: Uint8Array) {
      super();
      this.#raw = raw;
    }

    getPeerX509Certificate(): { readonly raw: Uint8Array } {
      return { raw: this.#raw };
    }

    destroy(): void {
      this.destroyed = true;
      this.emit('close');
    }
  }

  /** Every verdict takes 1 ms of a clock that nothing else moves. */
  function setUp(revokes: boolean) {
    const revoked = new Set<KeyId>();
    const listeners = new Set<() => void>();
    const clock = { time: 0, judged: 0, now: () => 1_000, mono: () => clock.time };
    let ca = 'one';
    let refusing = (_keyId: string): boolean => false;
    const identity: TlsIdentity = {
      current: () => ({ key: '', cert: '', ca }),
      judge: (raw) => {
        clock.time += 1;
        clock.judged += 1;
        const keyId = parseKeyId(Buffer.from(raw).toString('hex'));
        if (revoked.has(keyId) || refusing(keyId)) throw new TidepoolError('CERTIFICATE_REFUSED', 'no');
        return { kind: 'hub', keyId, serial: '00', notAfter: raw[0] === 1 ? 500 : 2_000, lapsed: false };
      },
      onChange: (listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      ...(revokes ? { revoked: () => revoked } : {}),
    };
    const trusted = new TrustedSockets(identity, { clock });
    const sockets = Array.from({ length: COUNT }, (_, index) => {
      const raw = Buffer.alloc(32);
      raw.writeUInt32BE(index, 28);
      // The first has ended.
      if (index === 0) raw[0] = 1;
      const socket = new FakeSocket(raw);
      trusted.admit(socket as unknown as TLSSocket);
      return { socket, keyId: parseKeyId(raw.toString('hex')) };
    });
    clock.judged = 0;
    return {
      clock,
      trusted,
      sockets,
      revoke: (keys: readonly KeyId[]) => {
        for (const key of keys) revoked.add(key);
        for (const listener of listeners) listener();
      },
      changeRoots: (refuses: (keyId: string) => boolean) => {
        ca += '+';
        refusing = refuses;
        for (const listener of listeners) listener();
      },
    };
  }

  /** Until nothing is judged any more; the answer is the most that was judged without making way. */
  async function settled(clock: { judged: number }, first: number): Promise<number> {
    let longest = first;
    for (;;) {
      const before = clock.judged;
      await new Promise((resolve) => setImmediate(resolve));
      longest = Math.max(longest, clock.judged - before);
      if (clock.judged === before) return longest;
    }
  }

  it('costs a look for each that stays, and closes the revoked at once', () => {
    const { clock, sockets, revoke, trusted } = setUp(true);
    const gone = sockets.filter((_, index) => index % 100 === 7);
    revoke(gone.map(({ keyId }) => keyId));
    expect(sockets.filter(({ socket }) => socket.destroyed)).toEqual(gone);
    // The one that has ended.
    expect(clock.judged).toBe(1);
    trusted.close();
  });

  it.each([
    ['other roots', true],
    ['an identity that cannot say which keys are revoked', false],
  ])('with %s everyone is verified, some at a time', async (_name, revokes) => {
    const { clock, sockets, changeRoots, trusted } = setUp(revokes);
    const last = sockets.at(-1);
    changeRoots((keyId) => keyId === last?.keyId);
    expect(clock.judged).toBeGreaterThan(0);
    const longest = await settled(clock, clock.judged);
    expect(longest).toBeLessThanOrEqual(20);
    expect(clock.judged).toBe(COUNT);
    expect(sockets.filter(({ socket }) => socket.destroyed)).toEqual([last]);
    trusted.close();
  });

  it('one change after another judges each by what counts last, and an end ends it', async () => {
    const { clock, sockets, changeRoots, revoke, trusted } = setUp(true);
    const [, second, third] = sockets.slice(-3);
    changeRoots(() => false);
    changeRoots((keyId) => keyId === third?.keyId);
    revoke(second === undefined ? [] : [second.keyId]);
    expect(second?.socket.destroyed).toBe(true);
    await settled(clock, 0);
    expect(third?.socket.destroyed).toBe(true);
    changeRoots(() => true);
    trusted.close();
    const { judged } = clock;
    await settled(clock, 0);
    expect(clock.judged).toBe(judged);
    expect(sockets.at(1_000)?.socket.destroyed).toBe(false);
  });
});
