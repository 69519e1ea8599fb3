/** Text of containerd's hosts.toml. Pure: what stands in a file already is kept byte for byte around what is put in. */

/** First line of what is put in: a person who opens the file shall know whose it is. */
const MARK = '# written by tidepool-agent containerd configure; "containerd restore" puts back what was';

/** Certificates that containerd reads from a registry's directory only while that has no hosts.toml. */
export interface DirectoryCertificates {
  /** Paths of `*.crt`. */
  readonly authorities: readonly string[];
  /** Paths of `*.cert` and the `*.key` beside each. */
  readonly clients: readonly (readonly [cert: string, key: string])[];
}

export interface HostsTomlInit {
  /** Base URL of the mirror. */
  readonly mirror: string;
  /** The file that stood there, or stood in for it. */
  readonly before: string | undefined;
  /** The registry's own URL. Left out, containerd takes the one of the image's name: https, and http on localhost. */
  readonly server: string | undefined;
  /** False: what the mirror cannot give fails, instead of going past the pool. */
  readonly fallback: boolean;
  readonly certificates?: DirectoryCertificates;
}

/**
 * The mirror first, then the hosts that were there, then the registry itself. `capabilities` hold `resolve`, so that
 * tags are asked here too. 1.6 refuses a file without a host table, so the mirror is one even where it is the server.
 */
export function hostsToml(init: HostsTomlInit): string {
  const { mirror, server, fallback } = init;
  const host = `[host.${quoted(mirror)}]\n  capabilities = ["pull", "resolve"]\n`;
  if (!fallback) return `${MARK}\nserver = ${quoted(mirror)}\n\n${host}`;
  const { top, tables } = split(init.before ?? '');
  const lines = [MARK];
  if (server !== undefined && !hasKey(top, 'server')) lines.push(`server = ${quoted(server)}`);
  if (init.before === undefined) lines.push(...certificateLines(init.certificates));
  const kept = top === '' || top.endsWith('\n') ? top : `${top}\n`;
  return `${lines.join('\n')}\n${kept}\n${host}${tables === '' ? '' : `\n${tables}`}`;
}

/** Whether a file has a table for this host already. */
export function namesHost(text: string, mirror: string): boolean {
  const wanted = mirror.replace(/\/+$/, '');
  return [...text.matchAll(/^[ \t]*\[[ \t]*host[ \t]*\.[ \t]*(?:"([^"\n]*)"|'([^'\n]*)')[ \t]*\]/gm)].some(
    (match) => (match[1] ?? match[2] ?? '').replace(/\/+$/, '') === wanted,
  );
}

/** A registry's directory as containerd 1.6 and 2.x look for it first: `registry.example_5000_` for a host with a port. */
export function directoryName(registry: string): string {
  const port = /^(.*):(\d+)$/.exec(registry);
  return port === null ? registry : `${port[1]}_${port[2]}_`;
}

/** The registry that a directory is for. */
export function registryOfDirectory(name: string): string {
  const port = /^(.*)_(\d+)_$/.exec(name);
  return port === null ? name : `${port[1]}:${port[2]}`;
}

/** Keys of the whole file, and from the first table header on the rest. */
function split(text: string): { top: string; tables: string } {
  let offset = 0;
  let depth = 0;
  let open: '"""' | "'''" | undefined;
  for (const line of text.split(/(?<=\n)/)) {
    if (depth === 0 && open === undefined && /^[ \t]*\[/.test(line)) {
      return { top: text.slice(0, offset), tables: text.slice(offset) };
    }
    ({ depth, open } = scan(line, depth, open));
    offset += line.length;
  }
  return { top: text, tables: '' };
}

/** How deep in brackets, and in which multi-line string, the end of a line is. */
function scan(line: string, startDepth: number, startOpen: '"""' | "'''" | undefined) {
  let depth = startDepth;
  let open = startOpen;
  for (let i = 0; i < line.length; i++) {
    const three = line.slice(i, i + 3);
    if (open !== undefined) {
      if (open === '"""' && line[i] === '\\') i++;
      else if (three === open) {
        open = undefined;
        i += 2;
      }
    } else if (three === '"""' || three === "'''") {
      open = three;
      i += 2;
    } else if (line[i] === '"' || line[i] === "'") {
      i = endOfString(line, i);
    } else if (line[i] === '#') {
      break;
    } else if (line[i] === '[' || line[i] === '{') {
      depth++;
    } else if (line[i] === ']' || line[i] === '}') {
      depth = Math.max(0, depth - 1);
    }
  }
  return { depth, open };
}

function endOfString(line: string, start: number): number {
  const quote = line[start];
  for (let i = start + 1; i < line.length; i++) {
    if (quote === '"' && line[i] === '\\') i++;
    else if (line[i] === quote) return i;
  }
  return line.length;
}

function hasKey(top: string, key: string): boolean {
  return new RegExp(`^[ \\t]*(?:${key}|"${key}"|'${key}')[ \\t]*=`, 'm').test(top);
}

function certificateLines(certificates: DirectoryCertificates | undefined): string[] {
  const lines: string[] = [];
  const { authorities = [], clients = [] } = certificates ?? {};
  if (authorities.length > 0) lines.push(`ca = [${authorities.map(quoted).join(', ')}]`);
  if (clients.length > 0) {
    lines.push(`client = [${clients.map((pair) => `[${pair.map(quoted).join(', ')}]`).join(', ')}]`);
  }
  return lines;
}

/** JSON's strings are TOML's basic strings. */
function quoted(text: string): string {
  return JSON.stringify(text);
}
