import { refused } from './certificate.ts';
import { KnownCertificates } from './known-certificates.ts';
import type { Principal, TrustView } from './types.ts';

/**
 * Who has shown this certificate. OpenSSL's own verdict is not asked: it names one reason of several, so that a forged
 * certificate which is also expired looks like an honest one that is. First the issuer's signature, then revocation,
 * then time by a policy of our own.
 *
 * A start that lies ahead is no offence: roots date nothing ahead, so it is this clock that is behind (boxes without a
 * battery). Whoever keeps the time may learn from it, see `notBefore` of what is read.
 * @param known what was read and verified before; without it everything is done anew
 * @throws TidepoolError CERTIFICATE_REFUSED
 */
export function judge(
  encoded: Uint8Array | string,
  view: TrustView,
  known: KnownCertificates = new KnownCertificates(),
): Principal {
  const { read, signed } = known.verify(encoded, view.roots);
  if (!signed) throw refused('no authority that is trusted here has signed it');
  if (read.certificate.ca) throw refused('it is one of an authority, not of a node or a hub');
  if (view.revoked.has(read.keyId)) {
    const { subject } = read;
    const whose = subject.kind === 'node' ? { revokedNode: subject.node } : {};
    throw refused('its key has been revoked', undefined, whose);
  }
  const over = view.now - read.notAfter;
  if (!(over <= view.graceMs)) {
    const ended = new Date(read.notAfter).toISOString();
    throw refused(`it ended at ${ended}${view.graceMs > 0 ? ' and the grace is over too' : ''}`);
  }
  const { keyId, serial, notAfter } = read;
  return { ...read.subject, keyId, serial, notAfter, lapsed: over > 0 };
}
