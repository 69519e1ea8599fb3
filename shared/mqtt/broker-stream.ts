/** The connection that MQTT is spoken over: with an identity nothing is sent before the broker has shown who it is. */
import net from 'node:net';
import tls from 'node:tls';
import type { Clock } from '../clock.ts';
import { describeError, TidepoolError } from '../errors.ts';
import { type NodeName, quote } from '../ids.ts';
import { refused } from '../trust/certificate.ts';
import { clientTls, peerPrincipal, type TrustedSockets } from '../trust/tls.ts';
import type { TlsIdentity } from '../trust/types.ts';

/** Of a broker that is not the hub's own. */
export interface BrokerTrust {
  /** PEM: it shows a certificate of this authority for the host name of its URL. */
  readonly ca?: string | undefined;
  /** It shows a certificate of our own authority for this node. */
  readonly node?: NodeName | undefined;
}

export interface StreamInit {
  readonly url: string;
  readonly timeoutMs: number;
  readonly localAddress?: string | undefined;
  readonly broker?: BrokerTrust | undefined;
  /** How names become addresses; the system's when absent. */
  readonly lookup?: net.LookupFunction | undefined;
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function parseBrokerUrl(text: string): {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
} {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const secure = url?.protocol === 'mqtts:';
  if (url === undefined || (!secure && url.protocol !== 'mqtt:') || url.hostname === '') {
    throw new TidepoolError(
      'INVALID_ARGUMENT',
      `not a broker: ${quote(text)}; write it like mqtt://hub.example:6183 or mqtts://hub.example:8883`,
    );
  }
  return {
    secure,
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (secure ? 8883 : 1883) : Number(url.port),
  };
}

/**
 * Connects, and judges the other end.
 * @param trusted watches the certificate that is judged by our own roots for as long as the connection lives
 * @throws TidepoolError HUB_UNREACHABLE, TIMEOUT, CERTIFICATE_REFUSED, or the signal's reason
 */
export function openStream(
  {
    clock,
    identity,
    trusted,
  }: {
    readonly clock: Clock;
    readonly identity?: TlsIdentity | undefined;
    readonly trusted?: TrustedSockets | undefined;
  },
  init: StreamInit,
  signal: AbortSignal,
): Promise<net.Socket> {
  const { secure, host, port } = parseBrokerUrl(init.url);
  const { localAddress, lookup, broker, timeoutMs } = init;
  const to = {
    ...{ host, port },
    ...(localAddress === undefined ? {} : { localAddress }),
    ...(lookup === undefined ? {} : { lookup }),
  };
  const socket = secure
    ? tls.connect({
        ...to,
        ...tlsOf(identity, broker),
        ...(net.isIP(host) === 0 ? { servername: host } : {}),
      })
    : net.connect(to);
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => {
      clean();
      socket.on('error', () => undefined);
      socket.destroy();
      reject(error);
    };
    const onError = (error: unknown): void =>
      fail(new TidepoolError('HUB_UNREACHABLE', describeError(error), { cause: error }));
    const onClose = (): void => onError(new Error('the connection was closed'));
    const onAbort = (): void => fail(signal.reason);
    const cancel = clock.after(timeoutMs, () =>
      fail(new TidepoolError('TIMEOUT', `no connection within ${timeoutMs} ms`)),
    );
    const clean = (): void => {
      cancel();
      socket.off('error', onError);
      socket.off('close', onClose);
      signal.removeEventListener('abort', onAbort);
    };
    const onOpen = (): void => {
      try {
        if (socket instanceof tls.TLSSocket && identity !== undefined)
          judgeBroker(socket, identity, trusted, broker);
      } catch (error) {
        fail(error);
        return;
      }
      clean();
      socket.setNoDelay(true);
      resolve(socket);
    };
    socket.on('error', onError);
    socket.on('close', onClose);
    socket.once(secure ? 'secureConnect' : 'connect', onOpen);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

function tlsOf(identity: TlsIdentity | undefined, broker: BrokerTrust | undefined): tls.ConnectionOptions {
  const ca = broker?.ca;
  if (identity === undefined) return ca === undefined ? {} : { ca };
  // By an authority of the site: that is OpenSSL's to verify, name and all, and any fault ends the connection.
  return ca === undefined ? clientTls(identity) : { ...clientTls(identity), ca, rejectUnauthorized: true };
}

function judgeBroker(
  socket: tls.TLSSocket,
  identity: TlsIdentity,
  trusted: TrustedSockets | undefined,
  broker: BrokerTrust | undefined,
): void {
  if (broker?.ca !== undefined) return;
  const principal = trusted?.admit(socket) ?? peerPrincipal(socket, identity);
  if (principal.kind === 'hub') return;
  if (broker?.node === undefined) throw refused(`it is ${principal.node}'s, and the broker is the hub`);
  if (principal.node !== broker.node)
    throw refused(`it is ${principal.node}'s, and the broker is ${broker.node}`);
}
