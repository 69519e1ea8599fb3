import { createPrivateKey, webcrypto } from 'node:crypto';
import { loadX509 } from '../../shared/trust/x509.ts';

const CURVE = { name: 'ECDSA', namedCurve: 'P-256' } as const;

/** A fresh key, which never leaves the node, and the request for its certificate; PEM both. */
export async function makeRequest(
  commonName: string,
): Promise<{ readonly key: string; readonly request: string }> {
  const x509 = await loadX509();
  const keys = await webcrypto.subtle.generateKey(CURVE, true, ['sign', 'verify']);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [commonName.slice(0, 64)] }],
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
  });
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  return { key: key.export({ type: 'pkcs8', format: 'pem' }).toString(), request: request.toString('pem') };
}
