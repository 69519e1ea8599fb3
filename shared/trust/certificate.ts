/**
 * Certificates as this project writes them: ECDSA P-256, signed by a root directly, one URI name that says who it is.
 * `spiffe://tidepool/pools/<pool>/nodes/<node>` for an agent, `spiffe://tidepool/hub` for the hub.
 */
import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import { describeError, TidepoolError } from '../errors.ts';
import { type NodeName, type PoolName, parseNodeName, parsePoolName } from '../ids.ts';
import type { KeyId, Root } from './types.ts';

const TRUST_DOMAIN = 'spiffe://tidepool';
export const HUB_URI = `${TRUST_DOMAIN}/hub`;
/** A certificate of ours is about 600 bytes; what is much larger is not read at all. */
export const MAX_CERTIFICATE_BYTES = 8 * 1024;

const NODE_URI = /^spiffe:\/\/tidepool\/pools\/([^/]+)\/nodes\/([^/]+)$/;
const KEY_ID = /^[0-9a-f]{64}$/;

export function nodeUri(pool: PoolName, node: NodeName): string {
  return `${TRUST_DOMAIN}/pools/${pool}/nodes/${node}`;
}

export interface ReadCertificate {
  readonly certificate: X509Certificate;
  /** Who it names; whether that is true only its issuer's signature says. */
  readonly subject:
    | { readonly kind: 'hub' }
    | { readonly kind: 'node'; readonly node: NodeName; readonly pool: PoolName };
  readonly keyId: KeyId;
  readonly serial: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

/**
 * Reads a certificate without believing it.
 * @throws TidepoolError CERTIFICATE_REFUSED when it is none, or names nobody of this project
 */
export function readCertificate(encoded: Uint8Array | string): ReadCertificate {
  if (encoded.length > MAX_CERTIFICATE_BYTES)
    throw refused(`it is larger than ${MAX_CERTIFICATE_BYTES} bytes`);
  const certificate = parseX509(encoded);
  return {
    certificate,
    subject: subjectOf(certificate),
    keyId: keyIdOf(publicKeyOf(certificate)),
    serial: certificate.serialNumber.toLowerCase(),
    notBefore: Date.parse(certificate.validFrom),
    notAfter: Date.parse(certificate.validTo),
  };
}

/** @throws TidepoolError INVALID_CONFIG when it is no certificate of an authority */
export function readRoot(encoded: Uint8Array | string): Root {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(encoded);
  } catch (error) {
    throw new TidepoolError('INVALID_CONFIG', `not a certificate: ${describeError(error)}`, {
      cause: error,
    });
  }
  if (!certificate.ca) {
    throw new TidepoolError(
      'INVALID_CONFIG',
      'this certificate is not one of an authority (basicConstraints CA:TRUE)',
    );
  }
  return { keyId: keyIdOf(certificate.publicKey), pem: certificate.toString(), certificate };
}

/** Every certificate of a PEM file with one or several roots. @throws TidepoolError INVALID_CONFIG, also for none */
export function readRoots(pem: string): Root[] {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (found.length === 0) throw new TidepoolError('INVALID_CONFIG', 'there is no PEM certificate in it');
  return found.map((pem) => readRoot(pem));
}

export function keyIdOf(publicKey: KeyObject): KeyId {
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex') as KeyId;
}

/** @throws TidepoolError INVALID_ARGUMENT */
export function parseKeyId(text: string): KeyId {
  if (!KEY_ID.test(text)) {
    throw new TidepoolError('INVALID_ARGUMENT', 'not the id of a key: expected 64 hex digits');
  }
  return text as KeyId;
}

export function refused(why: string, cause?: unknown, details: Record<string, unknown> = {}): TidepoolError {
  return new TidepoolError('CERTIFICATE_REFUSED', `the certificate is refused: ${why}`, { cause, details });
}

function parseX509(encoded: Uint8Array | string): X509Certificate {
  try {
    return new X509Certificate(encoded);
  } catch (error) {
    throw refused('it cannot be read', error);
  }
}

/** OpenSSL reads a certificate with a key that it cannot use, and says so only here. */
function publicKeyOf(certificate: X509Certificate): KeyObject {
  try {
    return certificate.publicKey;
  } catch (error) {
    throw refused('its key cannot be read', error);
  }
}

function subjectOf(certificate: X509Certificate): ReadCertificate['subject'] {
  // One name alone: with two, who reads the first and who reads the last would disagree.
  const names = (certificate.subjectAltName ?? '').split(', ').filter((name) => name.startsWith('URI:'));
  const [name, ...more] = names.map((each) => each.slice('URI:'.length));
  if (name === undefined || more.length > 0) throw refused('it does not carry exactly one URI name');
  if (name === HUB_URI) return { kind: 'hub' };
  const [, pool, node] = NODE_URI.exec(name) ?? [];
  if (pool === undefined || node === undefined)
    throw refused(`it names ${JSON.stringify(name)}, which is nobody here`);
  try {
    return { kind: 'node', pool: parsePoolName(pool), node: parseNodeName(node) };
  } catch (error) {
    throw refused(describeError(error), error);
  }
}
