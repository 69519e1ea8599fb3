/** Mutual TLS 1.3 by our own verdict: one place for the settings that must not differ between listeners and callers. */
import { constants } from 'node:crypto';
import type { SecureContextOptions, TLSSocket, TlsOptions } from 'node:tls';
import { type Clock, systemClock } from '../clock.ts';
import { refused } from './certificate.ts';
import type { KeyId, Principal, TlsIdentity } from './types.ts';

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

/** Certificates of a chain that are looked at; ours have two. */
const MAX_CHAIN = 8;

/** Certificates (DER) as the other end sent them, its own first. Nothing of them has been judged. */
export function chainOf(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = [];
  let shown = socket.getPeerCertificate(true);
  while (shown.raw !== undefined && chain.length < MAX_CHAIN) {
    chain.push(shown.raw);
    // Who has signed itself is its own issuer.
    if (shown.issuerCertificate === undefined || shown.issuerCertificate === shown) break;
    shown = shown.issuerCertificate;
  }
  return chain;
}

/** How long a review may hold everything else up before it makes way, ms. */
const SLICE_MS = 10;

/** What a live connection was let in by. */
interface Admitted {
  /** DER. */
  readonly certificate: Uint8Array;
  readonly keyId: KeyId;
  /** Wall clock, ms. */
  readonly notAfter: number;
}

/**
 * Live connections and the certificates they were let in by: what is revoked later loses its connections too, while a
 * new certificate of our own leaves them alone. Revoked keys go at once, by a look into a set; where a signature has to
 * be verified again, because the roots are others or a certificate has ended, that is done in slices.
 */
export class TrustedSockets {
  readonly #identity: TlsIdentity;
  readonly #clock: Pick<Clock, 'now' | 'mono'>;
  readonly #admitted = new Map<TLSSocket, Admitted>();
  readonly #stop: () => void;
  /** That the admitted were judged by. */
  #roots: string | undefined;
  /** Whose signatures are still to be verified. */
  readonly #due: Set<TLSSocket> = new Set();
  #slice: NodeJS.Immediate | undefined;

  constructor(identity: TlsIdentity, init: { readonly clock?: Pick<Clock, 'now' | 'mono'> } = {}) {
    this.#identity = identity;
    this.#clock = init.clock ?? systemClock;
    this.#stop = identity.onChange(() => this.#review());
  }

  /** Judges once, and again with each change until the socket closes. @throws TidepoolError CERTIFICATE_REFUSED */
  admit(socket: TLSSocket): Principal {
    const principal = peerPrincipal(socket, this.#identity);
    const { keyId, notAfter } = principal;
    this.#roots ??= this.#identity.current().ca;
    this.#admitted.set(socket, { certificate: shownBy(socket), keyId, notAfter });
    socket.once('close', () => this.#forget(socket));
    return principal;
  }

  close(): void {
    this.#stop();
    if (this.#slice !== undefined) clearImmediate(this.#slice);
    this.#slice = undefined;
    this.#due.clear();
    this.#admitted.clear();
  }

  #review(): void {
    if (this.#admitted.size === 0) {
      this.#roots = undefined;
      return;
    }
    const { ca } = this.#identity.current();
    const revoked = this.#identity.revoked?.();
    const isEveryoneDue = revoked === undefined || ca !== this.#roots;
    this.#roots = ca;
    const now = this.#clock.now();
    for (const [socket, { keyId, notAfter }] of this.#admitted) {
      if (revoked?.has(keyId) === true) this.#drop(socket, refused('its key has been revoked'));
      else if (isEveryoneDue || notAfter < now) this.#due.add(socket);
    }
    if (this.#slice === undefined) this.#judgeSome();
  }

  #judgeSome(): void {
    this.#slice = undefined;
    const until = this.#clock.mono() + SLICE_MS;
    for (const socket of this.#due) {
      this.#due.delete(socket);
      this.#judge(socket);
      if (this.#clock.mono() >= until) break;
    }
    if (this.#due.size > 0) this.#slice = setImmediate(() => this.#judgeSome());
  }

  #judge(socket: TLSSocket): void {
    const admitted = this.#admitted.get(socket);
    if (admitted === undefined) return;
    try {
      this.#identity.judge(admitted.certificate);
    } catch (error) {
      this.#drop(socket, error);
    }
  }

  #drop(socket: TLSSocket, reason: unknown): void {
    this.#forget(socket);
    socket.destroy(reason instanceof Error ? reason : undefined);
  }

  #forget(socket: TLSSocket): void {
    this.#admitted.delete(socket);
    this.#due.delete(socket);
  }
}
