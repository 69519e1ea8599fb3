import { parseToml, type TomlValue } from './toml.ts';

/** One host that containerd asks, with what its hosts.toml says of it. */
export interface HostEntry {
  /** As written, with `https://` where no scheme stands. */
  readonly url: string;
  /** Of the host tables; the `server` comes last and has none. */
  readonly kind: 'host' | 'server';
  readonly resolves: boolean;
  readonly pulls: boolean;
  /** Paths as written. */
  readonly authorities: readonly string[];
  readonly skipVerify: boolean;
  /** What an agent cannot do as containerd does, in words; the host stays behind the mirror. */
  readonly beyond: string | undefined;
}

/**
 * Hosts of a hosts.toml in the order in which containerd asks them: tables as they stand, then the server, which is the
 * registry itself where none is named.
 * @throws TidepoolError INVALID_CONFIG for what is no TOML
 */
export function hostEntries(text: string, registry: string | undefined): readonly HostEntry[] {
  const { entries, tables } = parseToml(text);
  const hosts = new Map<string, Map<string, TomlValue>>();
  const top = new Map<string, TomlValue>();
  for (const { path } of tables) {
    const [head, host] = path;
    if (head === 'host' && host !== undefined && !hosts.has(host)) hosts.set(host, new Map());
  }
  for (const { path, value } of entries) {
    const [head, host, ...key] = path;
    if (head === undefined) continue;
    if (head !== 'host') {
      top.set(path.join('.'), value);
    } else if (host !== undefined) {
      const fields = hosts.get(host) ?? new Map<string, TomlValue>();
      hosts.set(host, fields);
      fields.set(key.join('.'), value);
    }
  }
  const found = [...hosts].map(([url, fields]) => entryOf(url, 'host', fields));
  const server = top.get('server');
  if (typeof server === 'string' && server !== '') found.push(entryOf(server, 'server', top));
  else if (registry !== undefined) {
    found.push(entryOf(registry === 'docker.io' ? 'https://registry-1.docker.io' : registry, 'server', top));
  }
  return found;
}

function entryOf(url: string, kind: HostEntry['kind'], fields: ReadonlyMap<string, TomlValue>): HostEntry {
  const capabilities = fields.get('capabilities');
  const can = (name: string): boolean =>
    kind === 'server' || !Array.isArray(capabilities) || capabilities.includes(name);
  const ca = fields.get('ca');
  const headers = [...fields.keys()].some((key) => key === 'header' || key.startsWith('header.'));
  return {
    url: url.includes('://') ? url : `https://${url}`,
    kind,
    resolves: can('resolve'),
    pulls: can('pull'),
    authorities: (Array.isArray(ca) ? ca : [ca]).filter((path): path is string => typeof path === 'string'),
    skipVerify: fields.get('skip_verify') === true,
    beyond:
      fields.get('override_path') === true
        ? 'it overrides the path'
        : fields.has('client')
          ? 'it asks for a client certificate'
          : headers
            ? 'it adds headers of its own'
            : undefined,
  };
}
