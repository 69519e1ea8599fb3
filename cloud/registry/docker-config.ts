/** Accounts as `docker login` keeps them, and as pull secrets have them too. */
import type { Account } from './types.ts';

const DOCKER_HUB = ['docker.io', 'index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'];

/** The account for a registry out of a config.json; undefined where it has none for it. */
export function accountIn(config: unknown, registry: string): Account | undefined {
  const auths = isRecord(config) && isRecord(config.auths) ? config.auths : {};
  for (const [key, entry] of Object.entries(auths)) {
    const account = hostOf(key) === hostOf(registry) ? accountOf(entry) : undefined;
    if (account !== undefined) return account;
  }
  return undefined;
}

/** Keys are written as hosts, with a scheme, or with a path, as in `https://index.docker.io/v1/`. */
function hostOf(key: string): string {
  const host = key
    .replace(/^[a-z]+:\/\//i, '')
    .replace(/\/.*$/, '')
    .toLowerCase();
  return DOCKER_HUB.includes(host) ? 'docker.io' : host.replace(/:443$/, '');
}

function accountOf(entry: unknown): Account | undefined {
  if (!isRecord(entry)) return undefined;
  const { username, password, auth } = entry;
  if (typeof username === 'string' && typeof password === 'string' && username !== '')
    return { username, password };
  if (typeof auth !== 'string') return undefined;
  const decoded = Buffer.from(auth, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  return colon <= 0 ? undefined : { username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
