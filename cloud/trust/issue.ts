/** Writes certificates: roots, the hub's own, and nodes' from what they request. */
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, webcrypto } from 'node:crypto';
import { describeError, TidepoolError } from '../../shared/errors.ts';
import type { NodeName, PoolName } from '../../shared/ids.ts';
import { HUB_URI, keyIdOf, nodeUri } from '../../shared/trust/certificate.ts';
import type { KeyId } from '../../shared/trust/types.ts';
import { loadX509 } from '../../shared/trust/x509.ts';

const CURVE = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNING = { name: 'ECDSA', hash: 'SHA-256' } as const;
/** Clocks of a site and of the hub differ; a certificate counts from a little before it was written. */
const BACKDATE_MS = 5 * 60_000;
const MAX_REQUEST_BYTES = 4 * 1024;

/** A certificate and its private key, PEM. */
export interface KeyPair {
  readonly key: string;
  readonly cert: string;
}

export interface Validity {
  /** Wall clock, ms. */
  readonly now: number;
  readonly lifetimeMs: number;
  /** Hex, of {@link newSerial}; one of its own where left out. */
  readonly serial?: string;
}

/** A key and a certificate that signs itself. */
export async function makeRoot(name: string, validity: Validity): Promise<KeyPair> {
  const x509 = await loadX509();
  const keys = await webcrypto.subtle.generateKey(CURVE, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ CN: [name] }],
    ...dates(validity),
    keys,
    signingAlgorithm: SIGNING,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { key: await exportKey(keys.privateKey), cert: certificate.toString('pem') };
}

/** A key and a certificate for the hub: every hub of one authority is the hub. */
export async function makeHubPair(
  root: KeyPair,
  validity: Validity,
  hosts: readonly string[] = [],
): Promise<KeyPair> {
  const keys = await webcrypto.subtle.generateKey(CURVE, true, ['sign', 'verify']);
  const cert = await write(
    root,
    { uri: HUB_URI, commonName: 'tidepool hub', publicKey: keys.publicKey, hosts },
    validity,
  );
  return { key: await exportKey(keys.privateKey), cert: `${cert}\n${root.cert}` };
}

/**
 * The certificate of a node whose request proves that it holds the key. Nothing of the request but that key is taken
 * over: who the node is was decided by whoever let it in.
 * @throws TidepoolError INVALID_ARGUMENT for a request that is none, or by another kind of key
 */
export async function issueNode(
  root: KeyPair,
  request: string,
  { node, pool }: { readonly node: NodeName; readonly pool: PoolName },
  validity: Validity,
): Promise<string> {
  const publicKey = await keyOfRequest(request);
  return await write(
    root,
    { uri: nodeUri(pool, node), commonName: node.slice(0, 64), publicKey, hosts: [] },
    validity,
  );
}

/** The key that a request is for. @throws TidepoolError INVALID_ARGUMENT as {@link issueNode} */
export async function requestKeyId(request: string): Promise<KeyId> {
  const der = await webcrypto.subtle.exportKey('spki', await keyOfRequest(request));
  return keyIdOf(createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' }));
}

interface Named {
  readonly uri: string;
  readonly commonName: string;
  readonly publicKey: webcrypto.CryptoKey;
  /** DNS names and addresses, for browsers and programs that compare them. */
  readonly hosts: readonly string[];
}

async function write(root: KeyPair, named: Named, validity: Validity): Promise<string> {
  const x509 = await loadX509();
  const issuer = new x509.X509Certificate(root.cert);
  const signingKey = await webcrypto.subtle.importKey(
    'pkcs8',
    derOf(createPrivateKey(root.key)),
    CURVE,
    false,
    ['sign'],
  );
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: validity.serial ?? newSerial(),
    issuer: issuer.subjectName,
    subject: [{ CN: [named.commonName] }],
    ...dates(validity),
    signingKey,
    publicKey: named.publicKey,
    signingAlgorithm: SIGNING,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
      new x509.SubjectAlternativeNameExtension([
        { type: 'url', value: named.uri },
        ...named.hosts.map((value): { type: 'ip' | 'dns'; value: string } => ({
          type: isAddress(value) ? 'ip' : 'dns',
          value,
        })),
      ]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return certificate.toString('pem');
}

async function keyOfRequest(pem: string): Promise<webcrypto.CryptoKey> {
  if (pem.length > MAX_REQUEST_BYTES) throw badRequest(`it is larger than ${MAX_REQUEST_BYTES} bytes`);
  const x509 = await loadX509();
  try {
    const request = new x509.Pkcs10CertificateRequest(pem);
    const key = createPublicKey({ key: Buffer.from(request.publicKey.rawData), format: 'der', type: 'spki' });
    if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
      throw badRequest('its key is not one of P-256');
    }
    if (!(await request.verify())) throw badRequest('it is not signed by the key that it names');
    return await webcrypto.subtle.importKey(
      'spki',
      key.export({ type: 'spki', format: 'der' }),
      CURVE,
      true,
      ['verify'],
    );
  } catch (error) {
    if (error instanceof TidepoolError) throw error;
    throw badRequest(describeError(error), error);
  }
}

function badRequest(why: string, cause?: unknown): TidepoolError {
  return new TidepoolError('INVALID_ARGUMENT', `the certificate request is refused: ${why}`, { cause });
}

function dates({ now, lifetimeMs }: Validity): { notBefore: Date; notAfter: Date } {
  return { notBefore: new Date(now - BACKDATE_MS), notAfter: new Date(now + lifetimeMs) };
}

/** 16 random bytes, positive. */
export function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key));
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    .export({ type: 'pkcs8', format: 'pem' })
    .toString();
}

function derOf(key: KeyObject): Buffer {
  return key.export({ type: 'pkcs8', format: 'der' });
}

function isAddress(host: string): boolean {
  return /^[\d.]+$/.test(host) || host.includes(':');
}
