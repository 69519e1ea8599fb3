import { readFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { describeError } from '../../../shared/errors.ts';
import { type HostEntry, hostEntries } from './hosts-entries.ts';

/** Where the agent finds a registry, out of what stood in containerd's hosts directory. */
export interface FoundOrigin {
  readonly url: string;
  /** PEM. Copied, as the agent may run where the file is not. */
  readonly ca?: string;
  readonly skipVerify?: boolean;
}

export interface OriginSource {
  readonly registry: string;
  /** The hosts.toml before this agent; undefined where there was none, and certificates alone counted. */
  readonly text: string | undefined;
  /** Of `*.crt` beside a missing hosts.toml, as containerd sees them. */
  readonly authorities: readonly string[];
  /** The registry's directory as containerd sees it; paths in a hosts.toml may be relative to it. */
  readonly directory: string;
  readonly hostRoot: string;
  /** Base URL of the mirror, which is nobody's origin. */
  readonly mirror: string;
}

/**
 * The first host that containerd would ask and the agent can ask as well; undefined where nothing is said that the agent
 * does not know from the registry's name. Hosts behind it stay in hosts.toml, behind the mirror.
 */
export function findOrigin(source: OriginSource): { readonly origin?: FoundOrigin; readonly note?: string } {
  const { registry, text } = source;
  let entries: readonly HostEntry[];
  try {
    entries = hostEntries(text ?? '', registry);
  } catch (error) {
    return {
      note: `its hosts.toml cannot be read (${describeError(error)}); the agent asks the registry by its name`,
    };
  }
  const skipped: string[] = [];
  for (const entry of entries) {
    const why = unusable(entry, source.mirror);
    if (why !== undefined) {
      if (why !== '') skipped.push(`${entry.url}: ${why}`);
      continue;
    }
    const authorities = text === undefined ? source.authorities : entry.authorities;
    if (entry.kind === 'server' && authorities.length === 0 && !entry.skipVerify && !names(text, 'server'))
      break;
    try {
      const ca = authorities.map((path) => readAuthority(source, path)).join('\n');
      return {
        origin: {
          url: entry.url.replace(/\/+$/, '').replace(/\/v2$/, ''),
          ...(ca === '' ? {} : { ca }),
          ...(entry.skipVerify ? { skipVerify: true } : {}),
        },
        ...noteOf(skipped),
      };
    } catch (error) {
      skipped.push(`${entry.url}: ${describeError(error)}`);
    }
  }
  return noteOf(skipped);
}

function unusable({ url, resolves, pulls, beyond }: HostEntry, mirror: string): string | undefined {
  if (url.replace(/\/+$/, '') === mirror) return '';
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) return 'not a URL';
  if (!pulls || !resolves) return 'it does not both pull and resolve';
  return beyond;
}

function readAuthority({ directory, hostRoot }: OriginSource, path: string): string {
  const pem = readFileSync(join(hostRoot, isAbsolute(path) ? path : join(directory, path)), 'utf8');
  if (!pem.includes('-----BEGIN CERTIFICATE-----')) throw new Error(`no certificate in PEM form in ${path}`);
  return pem.trimEnd();
}

function names(text: string | undefined, key: string): boolean {
  return new RegExp(`^[ \\t]*["']?${key}["']?[ \\t]*=`, 'm').test(text ?? '');
}

function noteOf(skipped: readonly string[]): { readonly note?: string } {
  return skipped.length === 0 ? {} : { note: `left to containerd: ${skipped.join('; ')}` };
}
