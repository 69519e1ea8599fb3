import { createPrivateKey, webcrypto } from 'node:crypto';
import { loadX509 } from '../../shared/trust/x509.ts';

const CURVE = { name: 'ECDSA', namedCurve: 'P-256' } as const;

/** A fresh key, which never leaves the node, and the request for its certificate; PEM both. */
export async function makeRequest(
  commonName: string,
): Promise<{ readonly key: string; readonly request: string }> {
  const keys = await webcrypto.subtle.generateKey(CURVE, true, ['sign', 'verify']);
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const pem = key.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { key: pem, request: await requestOf(keys, commonName) };
}

/** The request for a certificate of a key that is there already, PEM. */
export async function requestFor(key: string, commonName: string): Promise<string> {
  const der = createPrivateKey(key).export({ type: 'pkcs8', format: 'der' });
  const privateKey = await webcrypto.subtle.importKey('pkcs8', der, CURVE, true, ['sign']);
  const { kty, crv, x, y } = await webcrypto.subtle.exportKey('jwk', privateKey);
  const open = { kty, crv, x, y } as webcrypto.JsonWebKey;
  const publicKey = await webcrypto.subtle.importKey('jwk', open, CURVE, true, ['verify']);
  return await requestOf({ privateKey, publicKey }, commonName);
}

async function requestOf(keys: webcrypto.CryptoKeyPair, commonName: string): Promise<string> {
  const x509 = await loadX509();
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [commonName.slice(0, 64)] }],
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
  });
  return request.toString('pem');
}
