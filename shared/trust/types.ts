/** Who stands at the other end of a connection, and what a process needs to know to say so. */
import type { X509Certificate } from 'node:crypto';
import type { NodeName, PoolName } from '../ids.ts';

declare const keyBrand: unique symbol;
/** Hex sha256 of a public key (SubjectPublicKeyInfo, DER): what is revoked, and what a join token pins. */
export type KeyId = string & { readonly [keyBrand]: 'KeyId' };

/** An agent on a node of a pool, as its certificate says. */
export interface NodePrincipal {
  readonly kind: 'node';
  readonly node: NodeName;
  readonly pool: PoolName;
  readonly keyId: KeyId;
  /** Lower-case hex. */
  readonly serial: string;
  /** Wall clock, ms. */
  readonly notAfter: number;
  /** Past its end and inside the grace: good among neighbours, not for the hub. */
  readonly lapsed: boolean;
}

/** The hub: it serves the API and the broker, and signs what pools are told. */
export interface HubPrincipal {
  readonly kind: 'hub';
  readonly keyId: KeyId;
  readonly serial: string;
  readonly notAfter: number;
  readonly lapsed: boolean;
}

export type Principal = NodePrincipal | HubPrincipal;

/** An authority whose word counts. Two of them overlap while one replaces the other. */
export interface Root {
  readonly keyId: KeyId;
  readonly pem: string;
  readonly certificate: X509Certificate;
}

/** Everything that a verdict depends on, besides the certificate. */
export interface TrustView {
  readonly roots: readonly Root[];
  readonly revoked: ReadonlySet<KeyId>;
  /** Wall clock as far as it can be trusted, ms: never earlier than what signed things have proved. */
  readonly now: number;
  /** How long past its end a certificate still counts, ms; 0 on the hub. */
  readonly graceMs: number;
}

/**
 * What a process shows of itself over TLS, and whom it believes. The agent's comes from its enrolment, the hub's from its
 * own authority. Everything may change while connections live: whoever holds some listens.
 */
export interface TlsIdentity {
  /** PEM of the private key, of the certificate (the hub's with its root behind it) and of all roots. */
  current(): TlsMaterial;
  /**
   * Says who has shown this certificate (DER).
   * @throws TidepoolError CERTIFICATE_REFUSED with the reason
   */
  judge(certificate: Uint8Array): Principal;
  /**
   * Keys that are worth nothing any more. Who holds thousands of connections looks into it when something changes, instead
   * of verifying each signature anew; left out, every connection is judged.
   */
  revoked?(): ReadonlySet<KeyId>;
  /** Told of each new certificate, root or revocation; the answer ends that. */
  onChange(listener: () => void): () => void;
}

export interface TlsMaterial {
  readonly key: string;
  readonly cert: string;
  readonly ca: string;
}
