import { isIP } from 'node:net';

/** Registries whose token service has a name beside theirs, by what the operators of both have published. */
const PAIRS: readonly (readonly [registry: RegExp, realm: string])[] = [
  [/^(?:registry-1\.|index\.)?docker\.io$/, 'auth.docker.io'],
  [/^registry(?:-vpc|-internal)?\.([a-z0-9-]+)\.aliyuncs\.com$/, 'dockerauth.$1.aliyuncs.com'],
  [/^[a-z0-9-]+-registry(?:-vpc)?\.([a-z0-9-]+)\.cr\.aliyuncs\.com$/, 'dockerauth-ee.$1.aliyuncs.com'],
];

/** Labels of a parent domain, at the least: nobody's account belongs to a whole top-level domain. */
const MIN_PARENT_LABELS = 2;

export interface RealmOwner {
  /** The registry as runtimes name it, with its port if it has one. */
  readonly registry: string;
  /** Where it is. */
  readonly base: URL;
  /** Hosts that the node's owner named for it. */
  readonly realms: readonly string[];
}

/**
 * Whether a registry's accounts may be sent to a token service. A registry names its realm in an answer that anybody on
 * the way may have written where the registry is plain http, and that a hostile registry writes as it likes: accounts go to
 * the registry's own host, to a domain that it is a part of, to a known service of it, and to what the settings name.
 */
export function mayHaveAccounts(realm: URL, { registry, base, realms }: RealmOwner): boolean {
  if (realms.some((host) => host === realm.host || host === realm.hostname)) return true;
  const named = URL.canParse(`https://${registry}`) ? new URL(`https://${registry}`).hostname : registry;
  return [base.hostname, named].some((own) => belongs(realm.hostname, own));
}

function belongs(realm: string, own: string): boolean {
  if (realm === own) return true;
  for (const [registry, pair] of PAIRS) {
    const match = registry.exec(own);
    if (match !== null && realm === pair.replace('$1', match[1] ?? '')) return true;
  }
  return isIP(own) === 0 && realm.split('.').length >= MIN_PARENT_LABELS && own.endsWith(`.${realm}`);
}
