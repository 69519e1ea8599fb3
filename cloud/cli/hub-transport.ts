import type { TLSSocket } from 'node:tls';
import { TLSSocket as SecureSocket } from 'node:tls';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import { toTidepoolError } from '../../shared/errors.ts';
import { readRoot, refused } from '../../shared/trust/certificate.ts';
import { judge } from '../../shared/trust/judge.ts';
import { chainOf } from '../../shared/trust/tls.ts';
import type { KeyId, Root } from '../../shared/trust/types.ts';

/** By what a hub is known: its authority's certificates, or the hash of the key of one. */
export type HubTrust = { readonly roots: readonly Root[] } | { readonly keyId: KeyId };

const CONNECT_MS = 10_000;

/**
 * Connections to a hub that has proved to be the hub before a byte of a request, and so of a token, is written.
 * Nothing is asked of the system's authorities or of host names.
 */
export function secureDispatcher(trust: HubTrust): Dispatcher {
  const dial = buildConnector({
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
    ca: 'roots' in trust ? trust.roots.map(({ pem }) => pem) : [],
    timeout: CONNECT_MS,
    // A resumed session skips the certificate.
    maxCachedSessions: 0,
    allowH2: false,
  });
  return new Agent({
    // One request a connection: a command asks once, or each second at most.
    pipelining: 0,
    connect: (options, callback) => {
      dial(options, (error, socket) => {
        if (error !== null) {
          callback(error, null);
          return;
        }
        try {
          if (!(socket instanceof SecureSocket)) throw refused('the connection is plain');
          checkHub(socket, trust);
          callback(null, socket);
        } catch (verdict) {
          socket.destroy();
          callback(toTidepoolError(verdict, 'CERTIFICATE_REFUSED'), null);
        }
      });
    },
  });
}

/** @throws TidepoolError CERTIFICATE_REFUSED */
function checkHub(socket: TLSSocket, trust: HubTrust): void {
  const [own, ...above] = chainOf(socket);
  if (own === undefined) throw refused('none was shown');
  const roots = 'roots' in trust ? trust.roots : above.flatMap((raw) => rootOf(raw, trust.keyId));
  if (roots.length === 0) throw refused('the authority of that hash is not among what was shown');
  const principal = judge(own, { roots, revoked: new Set(), now: Date.now(), graceMs: 0 });
  if (principal.kind !== 'hub') throw refused(`it is ${principal.node}'s, not a hub's`);
}

function rootOf(raw: Uint8Array, wanted: KeyId): Root[] {
  try {
    const root = readRoot(raw);
    return root.keyId === wanted ? [root] : [];
  } catch {
    // A certificate between, or none of an authority.
    return [];
  }
}
