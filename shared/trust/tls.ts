/** Mutual TLS 1.3 by our own verdict: one place for the settings that must not differ between listeners and callers. */
import { constants } from 'node:crypto';
import type { SecureContextOptions, TLSSocket, TlsOptions } from 'node:tls';
import { refused } from './certificate.ts';
import type { Principal, TlsIdentity } from './types.ts';

/** Of a listener: everyone is asked for a certificate, and {@link peerPrincipal} says what it is worth. */
export function serverTls(identity: TlsIdentity): TlsOptions {
  return { ...contextOf(identity), requestCert: true, rejectUnauthorized: false };
}

/** Of a caller. Host names are not compared: whom the certificate names is what counts. */
export function clientTls(
  identity: TlsIdentity,
): SecureContextOptions & { readonly rejectUnauthorized: false } {
  return { ...contextOf(identity), rejectUnauthorized: false };
}

/** The fast one first: pieces are encrypted at every hop, and 128 bits are enough for what lives as long as a session. */
const CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

function contextOf(identity: TlsIdentity): SecureContextOptions {
  const { key, cert, ca } = identity.current();
  return {
    key,
    cert,
    // Without roots of its own Node loads the system's, and a listener would name each of them in its request.
    ca,
    minVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    // A resumed session skips the certificate, and with it the verdict.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/**
 * Who is at the other end of a connection whose handshake is done.
 * @throws TidepoolError CERTIFICATE_REFUSED, also when none was shown
 */
export function peerPrincipal(socket: TLSSocket, identity: TlsIdentity): Principal {
  return identity.judge(shownBy(socket));
}

const certificates = new WeakMap<TLSSocket, Uint8Array>();

/**
 * The certificate (DER) that the other end has shown. Node 20 takes it out of a client's connection with the first
 * reading, and finds none at the second: so it is read once.
 * @throws TidepoolError CERTIFICATE_REFUSED when none was shown
 */
export function shownBy(socket: TLSSocket): Uint8Array {
  const known = certificates.get(socket);
  if (known !== undefined) return known;
  const shown = socket.getPeerX509Certificate();
  if (shown === undefined) throw refused('none was shown');
  certificates.set(socket, shown.raw);
  return shown.raw;
}

/**
 * Live connections and the certificates they were let in by: what is revoked later loses its connections too, while a
 * new certificate of our own leaves them alone.
 */
export class TrustedSockets {
  readonly #identity: TlsIdentity;
  readonly #shown = new Map<TLSSocket, Uint8Array>();
  readonly #stop: () => void;

  constructor(identity: TlsIdentity) {
    this.#identity = identity;
    this.#stop = identity.onChange(() => this.#review());
  }

  /** Judges once, and again with each change until the socket closes. @throws TidepoolError CERTIFICATE_REFUSED */
  admit(socket: TLSSocket): Principal {
    const principal = peerPrincipal(socket, this.#identity);
    this.#shown.set(socket, shownBy(socket));
    socket.once('close', () => this.#shown.delete(socket));
    return principal;
  }

  close(): void {
    this.#stop();
    this.#shown.clear();
  }

  #review(): void {
    for (const [socket, raw] of this.#shown) {
      try {
        this.#identity.judge(raw);
      } catch (error) {
        this.#shown.delete(socket);
        socket.destroy(error instanceof Error ? error : undefined);
      }
    }
  }
}
