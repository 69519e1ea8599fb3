import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { PoolName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { serverTls } from '../../shared/trust/tls.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import {
  HANDSHAKE_TIMEOUT_MS,
  HEADERS_TIMEOUT_MS,
  MAX_CONNECTIONS,
  REQUEST_TIMEOUT_MS,
  SERVER_KEEP_ALIVE_MS,
} from './constants.ts';
import { Door } from './door.ts';

/** Bounds that tests draw tighter. */
export interface ListenerLimits {
  readonly handshakeTimeoutMs?: number;
  readonly headersTimeoutMs?: number;
  readonly requestTimeoutMs?: number;
  readonly sendTimeoutMs?: number;
  readonly maxHandshakes?: number;
  readonly maxHandshakesPerAddress?: number;
  readonly maxConnectionsPerNode?: number;
}

export interface Listener {
  readonly server: Server;
  /** Only with an identity. */
  readonly door: Door | undefined;
  /** Ends the watch over the identity; the server is closed by itself. */
  close(): void;
}

interface ListenerComponents {
  readonly identity: TlsIdentity | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

/** How often the server looks for requests that take too long. */
const CHECKS_A_TIMEOUT = 4;

/** The HTTP server of the peer port: over TLS with an identity, and in both cases with bounds on who is slow. */
export function createListener(
  components: ListenerComponents,
  init: { readonly pool: PoolName; readonly limits: ListenerLimits | undefined },
  handle: RequestListener,
): Listener {
  const { identity, clock, log } = components;
  const limits = init.limits ?? {};
  const headersTimeout = limits.headersTimeoutMs ?? HEADERS_TIMEOUT_MS;
  const options = {
    keepAliveTimeout: SERVER_KEEP_ALIVE_MS,
    noDelay: true,
    headersTimeout,
    // Until the request is in; its answer may be held as long as a fetch takes.
    requestTimeout: limits.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: Math.ceil(headersTimeout / CHECKS_A_TIMEOUT),
  };
  if (identity === undefined) {
    const server = createServer(options, handle);
    server.maxConnections = MAX_CONNECTIONS;
    return { server, door: undefined, close: () => undefined };
  }
  const server = createTlsServer(
    {
      ...options,
      ...serverTls(identity),
      handshakeTimeout: limits.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS,
    },
    handle,
  );
  server.maxConnections = MAX_CONNECTIONS;
  const door = new Door({ identity, clock, log }, { pool: init.pool, ...limits });
  server.prependListener('connection', (socket: Socket) => door.knock(socket));
  // Before the HTTP server's own listener: nothing is read of those who are shown out.
  server.prependListener('secureConnection', (socket: TLSSocket) => door.admit(socket));
  server.on('tlsClientError', (error, socket) =>
    log.debug({ address: socket.remoteAddress, why: describeError(error) }, 'a TLS handshake failed'),
  );
  const stop = identity.onChange(() => {
    try {
      server.setSecureContext(serverTls(identity));
    } catch (error) {
      log.error({ err: error }, 'the peer server keeps its old certificate: the new one cannot be used');
    }
  });
  return {
    server,
    door,
    close: () => {
      stop();
      door.close();
    },
  };
}
