import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { type TidepoolError, toTidepoolError } from '../../shared/errors.ts';
import { serverTls, TrustedSockets } from '../../shared/trust/tls.ts';
import type { Principal, TlsIdentity } from '../../shared/trust/types.ts';
import { sourceOf } from './rate-limits.ts';

const MAX_CONNECTIONS = 3_000;
/** Many nodes of a site may stand behind one address; one alone must not take all there are. */
const MAX_CONNECTIONS_PER_SOURCE = 1_000;
const MAX_HEADER_BYTES = 16 * 1024;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 15_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 60_000;
/** How often Node looks for requests that take too long; its default would let them have half a minute more. */
const CHECK_MS = 2_000;

/** What a connection showed: whom it names, or why it is refused; the certificate either way. */
export interface Shown {
  readonly certificate: Uint8Array;
  readonly verdict: { readonly principal: Principal } | { readonly refusal: TidepoolError };
}

export interface Limits {
  readonly perSource?: number;
  readonly headersMs?: number;
  readonly requestMs?: number;
  readonly checkMs?: number;
}

/** The API's socket: TLS where there is an identity, and limits for who is slow or many. */
export class Listener {
  readonly server: Server;
  readonly #shown = new WeakMap<Socket, Shown>();
  readonly #bySource = new Map<string, number>();
  readonly #trusted: TrustedSockets | undefined;
  readonly #stop: (() => void) | undefined;

  constructor(
    handler: RequestListener,
    components: { readonly identity?: TlsIdentity | undefined },
    limits: Limits = {},
  ) {
    const { identity } = components;
    const requestTimeout = limits.requestMs ?? REQUEST_TIMEOUT_MS;
    const options = {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: Math.min(limits.headersMs ?? HEADERS_TIMEOUT_MS, requestTimeout),
      requestTimeout,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: limits.checkMs ?? CHECK_MS,
    };
    if (identity === undefined) {
      this.server = createServer(options, handler);
    } else {
      const secure = createSecureServer(
        { ...options, ...serverTls(identity), handshakeTimeout: HANDSHAKE_TIMEOUT_MS },
        handler,
      );
      const trusted = new TrustedSockets(identity);
      secure.on('connection', (socket: Socket) => this.#count(socket, limits.perSource));
      secure.on('secureConnection', (socket) => this.#judge(socket, trusted));
      this.#stop = identity.onChange(() => secure.setSecureContext(serverTls(identity)));
      this.#trusted = trusted;
      this.server = secure;
    }
    this.server.maxConnections = MAX_CONNECTIONS;
  }

  /** Undefined for a connection that showed no certificate, or is plain. */
  shownBy(socket: Socket): Shown | undefined {
    return this.#shown.get(socket);
  }

  close(): void {
    this.#stop?.();
    this.#trusted?.close();
  }

  /** A certificate that is refused keeps its connection: the route that renews has a judgement of its own. */
  #judge(socket: TLSSocket, trusted: TrustedSockets): void {
    const certificate = socket.getPeerX509Certificate()?.raw;
    if (certificate === undefined) return;
    try {
      this.#shown.set(socket, { certificate, verdict: { principal: trusted.admit(socket) } });
    } catch (error) {
      const refusal = toTidepoolError(error, 'CERTIFICATE_REFUSED');
      this.#shown.set(socket, { certificate, verdict: { refusal } });
    }
  }

  #count(socket: Socket, most = MAX_CONNECTIONS_PER_SOURCE): void {
    const source = sourceOf(socket.remoteAddress ?? '');
    const count = (this.#bySource.get(source) ?? 0) + 1;
    if (count > most) {
      socket.destroy();
      return;
    }
    this.#bySource.set(source, count);
    socket.once('close', () => {
      const left = (this.#bySource.get(source) ?? 1) - 1;
      if (left > 0) this.#bySource.set(source, left);
      else this.#bySource.delete(source);
    });
  }
}
