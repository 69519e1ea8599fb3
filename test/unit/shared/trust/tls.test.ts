import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { clientTls, peerPrincipal, serverTls, TrustedSockets } from '../../../../shared/trust/tls.ts';
import type { Principal } from '../../../../shared/trust/types.ts';
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
