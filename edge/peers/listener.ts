import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../../shared/clock.ts';
import { describeError } from '../../shared/errors.ts';
import type { PoolName } from '../../shared/ids.ts';
import type { Logger } from '../../shared/log.ts';
import { serverTls } from '../../shared/trust/tls.ts';
import type { TlsIdentity } from '../../shared/trust/types.ts';
import { CHANNEL } from './channel-wire.ts';
import {
  HANDSHAKE_TIMEOUT_MS,
  HEADERS_TIMEOUT_MS,
  MAX_CONNECTIONS,
  REQUEST_TIMEOUT_MS,
  SERVER_KEEP_ALIVE_MS,
} from './constants.ts';
import { Door } from './door.ts';
import { type Exchange, HttpExchange } from './exchange.ts';
import { ServedChannel } from './served-channel.ts';
import { PATHS } from './wire/paths.ts';

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
  /** Ends channels, and the watch over the identity; the server is closed by itself. */
  close(): void;
}

interface ListenerComponents {
  readonly identity: TlsIdentity | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Takes a question in. Who asks it the headers say: of the request itself, or of the channel's opening. */
type Handle = (socket: Socket, exchange: Exchange, headers: IncomingHttpHeaders) => void;

const NO_SUCH_UPGRADE = 'HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n';

/** How often the server looks for requests that take too long. */
const CHECKS_A_TIMEOUT = 4;

/** The HTTP server of the peer port: over TLS with an identity, and in both cases with bounds on who is slow. */
export function createListener(
  components: ListenerComponents,
  init: { readonly pool: PoolName; readonly limits: ListenerLimits | undefined },
  onAsk: Handle,
): Listener {
  const { identity, clock, log } = components;
  const limits = init.limits ?? {};
  const handle: RequestListener = (request, response) =>
    onAsk(request.socket, new HttpExchange(request, response), request.headers);
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
    return { server, door: undefined, close: takeChannels(server, components, limits, onAsk) };
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
  const closeChannels = takeChannels(server, components, limits, onAsk);
  return {
    server,
    door,
    close: () => {
      stop();
      closeChannels();
      door.close();
    },
  };
}

/** Opens a channel for who asks for one by an upgrade; the answer ends them all. */
function takeChannels(
  server: Server,
  { clock, log }: ListenerComponents,
  limits: ListenerLimits,
  onAsk: Handle,
): () => void {
  const channels = new Set<ServedChannel>();
  server.on('upgrade', (request: IncomingMessage, socket: Socket, early: Buffer) => {
    const { headers } = request;
    if (request.url !== PATHS.channel || headers.upgrade !== CHANNEL) {
      log.debug({ address: socket.remoteAddress }, 'a neighbour asks for an upgrade that is none');
      socket.on('error', () => undefined);
      socket.end(NO_SUCH_UPGRADE);
      return;
    }
    const channel: ServedChannel = new ServedChannel(socket, early, {
      clock,
      requestTimeoutMs: limits.requestTimeoutMs,
      onAsk: (exchange) => onAsk(socket, exchange, headers),
      onClosed: () => channels.delete(channel),
    });
    channels.add(channel);
  });
  return () => {
    for (const channel of channels) channel.destroy();
  };
}
